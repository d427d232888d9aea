"""The files of the web page: who gets them, with which headers, and that they need no more than these allow."""

import re
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import httpx
import pytest

from controller.api.app import create_app
from controller.web.files import FILES, HEADERS
from tests.unit.controller.world import make_world

STATIC = resources.files("controller.web") / "static"


@pytest.fixture
async def stranger(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a token."""
    world = await make_world(tmp_path)
    transport = httpx.ASGITransport(create_app(world.operations))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http
    await world.operations.close()
    await world.state.close()


@pytest.mark.parametrize("path", FILES)
async def test_everybody_gets_the_page_with_its_policy(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert (answer.status_code, answer.content) == (200, (STATIC / FILES[path]).read_bytes())
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "set-cookie" not in answer.headers


def test_the_policy_is_strict() -> None:
    policy = dict(each.split(" ", 1) for each in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}


@pytest.mark.parametrize(
    ("path", "media"),
    [("/", "text/html"), ("/web/page.css", "text/css"), ("/web/page.js", "text/javascript")],
)
async def test_browsers_are_told_what_it_is(stranger: httpx.AsyncClient, path: str, media: str) -> None:
    assert (await stranger.get(path)).headers["content-type"] == f"{media}; charset=utf-8"


async def test_what_a_browser_has_already_is_not_sent_again(stranger: httpx.AsyncClient) -> None:
    tag = (await stranger.get("/web/page.js")).headers["etag"]
    again = await stranger.get("/web/page.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    other = await stranger.get("/web/page.js", headers={"If-None-Match": '"of an older release"'})
    assert other.status_code == 200


async def test_the_page_is_only_read(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.head("/")).status_code == 200
    refused = await stranger.post("/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/web/", "/web/files.py", "/web/%2e%2e/files.py", "/web"])
async def test_nothing_else_is_open_beside_it(stranger: httpx.AsyncClient, path: str) -> None:
    request = stranger.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert (await stranger.send(request)).status_code == 401


def test_every_file_is_served() -> None:
    assert {each.name for each in STATIC.iterdir()} == set(FILES.values())


def test_the_page_has_no_script_and_no_style_in_it_and_nothing_of_others() -> None:
    text = (STATIC / "index.html").read_text()
    assert not re.search(r"<script[^>]*>[^<]|<style|\son\w+=|\sstyle=", text)
    named = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert set(named) == {"#/", *FILES} - {"/"}


def test_the_script_takes_no_text_for_html_but_into_the_frame_of_a_panel() -> None:
    text = (STATIC / "page.js").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|import\(", text
    )
    assert text.count("srcdoc") == 1
    assert 'sandbox: ""' in text
    assert not re.search(r"localStorage|document\.cookie|https?://\w", text)
