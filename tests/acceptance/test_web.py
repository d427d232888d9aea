"""The web page in a real browser: signing in, what is seen and by whom, and panels that mean ill."""

import http.server
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from cli.commands.apps import state_of
from contrib.installation import ROOT, Installation
from controller.views import ServiceInfo
from controller.wire import to_json
from tests.factories import service
from tests.servers.browser import browser, require_browser

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

ILL = """
from controller.plugins.extensions import Answer, Panel, Route
from controller.plugins.hooks import hookimpl
from controller.types import Right

URL = "{url}"
HTML = f'''
<h2>Harmless</h2>
<script>parent.document.title = "owned"; parent.owned = 1</script>
<script src="{{URL}}/script"></script>
<script>new Image().src = "{{URL}}/" + parent.sessionStorage.getItem("mooring.token")</script>
<img src="nowhere" onerror="parent.owned = 2">
<img src="{{URL}}/image">
<link rel="stylesheet" href="{{URL}}/style">
<style>body {{{{ background: url("{{URL}}/background") }}}}</style>
<iframe src="{{URL}}/frame"></iframe>
<form action="{{URL}}/form"><button id="send">Send</button></form>
<a id="out" target="_top" href="{{URL}}/top">Out</a>
<a id="in" target="_self" href="{{URL}}/self">In</a>
<meta http-equiv="refresh" content="0; url={{URL}}/refresh">
<p>The end</p>
'''

@hookimpl
def register_api_routes():
    html = "text/html; charset=utf-8"
    return [
        Route(path="ill", handle=lambda call: Answer(body=HTML, media=html), right=Right.VIEW),
        Route(path="broken", handle=lambda call: 1 / 0, right=Right.VIEW),
        Route(path="secret", handle=lambda call: Answer(body="For operators", media=html), right=Right.OPERATE),
        Route(path="machine", handle=lambda call: Answer(body=f"Seen by {{call.user}}", media=html)),
    ]

@hookimpl
def web_panels():
    return [
        Panel(title="Harmless", path="ill"),
        Panel(title="Broken", path="broken"),
        Panel(title="Operators", path="secret"),
        Panel(title="Machine", path="machine"),
    ]
"""


class Elsewhere:
    """Another server, to which nothing may ever come."""

    def __init__(self) -> None:
        self.asked = list[str]()
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Page:
    """The page as its reader has it."""

    def __init__(self, driver: WebDriver, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, place: str = "") -> None:
        self.driver.get(f"{self.url}/{place}")

    def sign_in(self, token: str) -> None:
        """By the keyboard alone: the field has the focus."""
        self.shows("Sign in")
        self.driver.switch_to.active_element.send_keys(token + Keys.ENTER)

    def follow(self, place: str) -> None:
        def clicked() -> bool:
            self.one(f'#view a[href="{place}"]').click()
            return True

        self.until(clicked, f"a link to {place}")

    @property
    def text(self) -> str:
        return self.one("body").text

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        missing = (NoSuchElementException, StaleElementReferenceException)
        wait = WebDriverWait(self.driver, 30, ignored_exceptions=missing)
        return wait.until(lambda _: condition(), f"{what}\n{self.text}")

    def shows(self, *texts: str) -> None:
        for each in texts:
            self.until(lambda each=each: each in self.text, f"the page shows {each}")

    def panel(self, title: str) -> WebElement:
        return self.until(lambda: self.one(f'section[aria-label="{title}"] iframe'), f"the panel {title}")

    def panel_shows(self, title: str, text: str) -> None:
        def shown() -> bool:
            try:
                self.driver.switch_to.frame(self.panel(title))
                return text in self.text
            finally:
                self.driver.switch_to.default_content()

        self.until(shown, f"the panel {title} shows {text}")

    @property
    def kept(self) -> dict[str, str]:
        return self.driver.execute_script("return {...sessionStorage, ...localStorage}")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def system(elsewhere: Elsewhere) -> Iterator[Installation]:
    require_browser()
    made = Installation()
    plugins = made.data / "plugins"
    plugins.mkdir(parents=True)
    shutil.copy(ROOT / "contrib" / "plugins" / "notify.py", plugins)
    (plugins / "ill.py").write_text(ILL.format(url=elsewhere.url))
    try:
        made.start()
        made.add_key()
        made.moor("create", "shop")
        made.moor("create", "hidden")
        folder = made.checkout("shop")
        done = made.push(folder)
        assert done.returncode == 0, done.stdout
        made.moor("users:create", "robin")
        made.moor("access:add", "robin", "-a", "shop", "--right", "view")
        yield made
    finally:
        log = made.last_lines(100)
        made.remove()
        print(log)


@pytest.fixture
def page(system: Installation) -> Iterator[Page]:
    with browser() as driver:
        yield Page(driver, f"http://127.0.0.1:{system.api}")


def token(system: Installation, *words: str) -> str:
    made = system.json("tokens:create", *words)
    assert isinstance(made, dict)
    return str(made["token"])


def test_signing_in_looking_around_and_signing_out(system: Installation, page: Page) -> None:
    page.open()
    page.sign_in("moor_wrong")
    page.shows("This token is not known here", "moor tokens:create")
    assert page.kept == {}
    page.sign_in(token(system))
    page.shows("Deployments", "shop", "running", "1 of 1", "shop.localhost", "Held: no code yet")
    page.panel_shows("Machine", "Seen by admin")
    assert list(page.kept) == ["mooring.token"]

    page.follow("#/shop")
    page.until(lambda: page.one("#view h1").text == "shop", "the deployment")
    page.follow("#/shop/app")
    page.shows("shop/app", "web.1", "v1", "live", "push of", "succeeded", "Starting shop-app-1-web-1")
    assert page.driver.title == "shop/app · Mooring"

    system.moor("ps:scale", "-a", "shop", "web=2")
    page.shows("2 of 2", "web.2")
    system.moor("config:set", "-a", "shop", "GREETING=<b>Ahoy</b>")
    page.shows("config:set GREETING", "superseded")
    page.driver.refresh()
    page.shows("shop/app", "2 of 2")

    page.one("#sign-out").click()
    page.shows("Sign in", "You are signed out.")
    assert page.kept == {}
    assert page.one("#view").get_attribute("innerHTML") == ""
    page.driver.refresh()
    page.shows("Sign in")
    assert "shop" not in page.text


def test_a_token_that_is_removed_leads_back_to_the_door(system: Installation, page: Page) -> None:
    secret = token(system, "--description", "to go")
    page.open("#/shop")
    page.sign_in(secret)
    page.shows("Services", "running")
    known = system.json("tokens")
    assert isinstance(known, list)
    system.moor("tokens:remove", next(each["id"] for each in known if each["description"] == "to go"))
    page.shows("Sign in", "This token is not known here", "moor tokens:create")
    assert page.kept == {}


def test_everybody_sees_their_own(system: Installation, page: Page) -> None:
    page.open()
    page.sign_in(token(system, "--user", "robin"))
    page.shows("robin", "shop", "running")
    assert "hidden" not in page.text
    page.open("#/shop")
    page.shows("Notices", "Harmless")
    assert not {"Operators", "Machine"} & set(page.text.split())
    page.open("#/hidden")
    page.shows("There is no app hidden", "All deployments")


def test_panels_show_what_plugins_know(system: Installation, page: Page) -> None:
    page.open("#/shop")
    page.sign_in(token(system))
    page.shows("This panel failed: The plugin ill failed: ZeroDivisionError: division by zero")
    page.panel_shows("Notices", "No webhook is told of deploys.")
    page.panel_shows("Operators", "For operators")


def test_a_panel_that_means_ill_gets_nowhere(system: Installation, page: Page, elsewhere: Elsewhere) -> None:
    page.open("#/shop")
    page.sign_in(token(system))
    page.shows("Services")
    page.panel_shows("Harmless", "The end")
    page.driver.switch_to.frame(page.panel("Harmless"))
    for each in ("#send", "#out"):
        page.one(each).click()
    page.one("#in").click()
    page.driver.switch_to.default_content()
    time.sleep(1)  # for whatever might get out yet
    assert page.driver.title == "shop · Mooring"
    assert page.driver.current_url == f"{page.url}/#/shop"
    assert len(page.driver.window_handles) == 1
    assert page.driver.execute_script("return window.owned") is None
    assert elsewhere.asked == []
    page.shows("Services", "running", "Notices")


def test_the_policy_holds_within_the_page(system: Installation, page: Page, elsewhere: Elsewhere) -> None:
    page.open()
    page.shows("Sign in")
    broken = page.driver.execute_async_script(
        """
        const [url, done] = arguments, broken = [];
        document.addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
        const add = (name, values) => document.body.append(Object.assign(document.createElement(name), values));
        add("script", {textContent: "window.owned = 1"});
        add("script", {src: url + "/script"});
        add("style", {textContent: "body { display: none }"});
        add("img", {src: url + "/image"});
        add("iframe", {src: url + "/frame"});
        document.body.setAttribute("onclick", "window.owned = 2");
        document.body.click();
        fetch(url + "/fetch").catch(() => setTimeout(() => done(broken.sort()), 500));
        """,
        elsewhere.url,
    )
    assert broken == [
        "connect-src",
        "frame-src",
        "img-src",
        "script-src-attr",
        "script-src-elem",
        "script-src-elem",
        "style-src-elem",
    ]
    assert page.driver.execute_script("return window.owned") is None
    assert elsewhere.asked == []


INFOS = [
    ServiceInfo(service=made, domains=(), urls=(), process_types=types, held=held, running=running, due=due)
    for made, types, held, running, due in [
        (service(), {}, "no code yet", 0, 0),
        (service(current=1, target=1, stopped=True), {"web": 1}, None, 0, 0),
        (service(current=1, target=2), {"web": 1}, None, 1, 1),
        (service(current=1, target=2, paused=True), {"web": 1}, None, 1, 1),
        (service(), {"web": 1}, None, 0, 1),
        (service(current=1, target=1, generation=2), {"web": 1}, None, 1, 1),
        (service(current=1, target=1, maintenance=True), {"web": 1}, None, 1, 1),
        (service(current=1, target=1), {"web": 2}, None, 1, 2),
        (service(current=1, target=1), {"web": 2}, None, 2, 2),
        (service(current=1, target=1), {"web": 2}, None, 0, 0),
        (service(current=1, target=1), {"web": 0}, None, 0, 0),
    ]
]


def test_it_has_the_words_of_the_command_line(page: Page) -> None:
    page.open()
    said = page.driver.execute_async_script(
        """
        const [infos, done] = arguments;
        import("/web/page.js").then((page) => done(infos.map((each) => page.stateOf(each)[0])));
        """,
        [to_json(each) for each in INFOS],
    )
    assert said == [state_of(each) for each in INFOS]
    assert len(set(said)) == len(INFOS) - 1


def test_it_says_when_and_knows_where(page: Page) -> None:
    page.open()
    said = page.driver.execute_async_script(
        """
        const [ages, hashes, done] = arguments, now = Date.parse("2026-01-31T12:00:00Z");
        import("/web/page.js").then((page) => done([
            ages.map((each) => page.ago(now - each * 1000, now)),
            hashes.map((each) => Object.values(page.placeOf(each)).join()),
        ]));
        """,
        [-5, 59, 60, 7199, 86400, 200000],
        ["", "#", "#/", "#/foo", "#/foo/", "#/foo/web", "#/f%20o", "#/%", "#/foo/web/more"],
    )
    assert said == [
        ["just now", "just now", "1 minute ago", "1 hour ago", "1 day ago", "2 days ago"],
        [",", ",", ",", "foo,", "foo,", "foo,web", "f o,", ",", "foo,web"],
    ]


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_and_the_readers_eyes(
    system: Installation, page: Page, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wanted = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
    page.open()
    page.sign_in(token(system))
    for place, text in (("#/", "1 of"), ("#/shop", "Notices"), ("#/shop/app", "Versions")):
        page.open(place)
        page.shows(text if place != "#/" else "shop")
        within = "return document.documentElement.scrollWidth <= innerWidth"
        assert page.driver.execute_script(within), place
    ground = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 384) == (scheme == "light")
