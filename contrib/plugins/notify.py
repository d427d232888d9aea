"""Tells a webhook what is deployed. A service file names it:

    Notify: {url: "https://chat.example.org/hook"}

`moor -D foo notify:test` sends a test, `GET /v1/plugins/notify/routes/sent?deployment=foo` shows what was sent last,
and so does a panel of the web page.
Copy this file to `plugins/` in the server's data folder; `moor plugins` shows it once the server was started anew.
"""

import html
import json
import urllib.request
from collections import defaultdict, deque

from controller.plugins.extensions import Answer, Command, CommandCall, Panel, Route, RouteCall
from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.plugins.hooks import hookimpl
from controller.types import Right

sections = {"Notify"}
TIMEOUT = 3.0
"""Seconds; below the server's limit for a call, so that a webhook that is away is an error, and no suspension."""
_sent: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=20))
_urls: dict[str, str] = {}


@hookimpl
def globals_changed(deployment: DeploymentFacts) -> None:
    _remember(deployment)


@hookimpl
def post_setup(deployment: DeploymentFacts, service: ServiceFacts, version: int | None) -> None:
    _remember(deployment)
    name = f"{deployment.deployment.name}/{service.name}"
    _send(deployment.deployment.name, f"{name} v{version} is rolled out" if version else f"{name} is held")


@hookimpl
def register_commands() -> list[Command]:
    return [Command(verb="notify:test", run=_test, summary="Send a test notice.", right=Right.OPERATE)]


@hookimpl
def register_api_routes() -> list[Route]:
    return [
        Route(path="sent", handle=_show, right=Right.VIEW),
        Route(path="panel", handle=_panel, right=Right.VIEW),
    ]


@hookimpl
def web_panels() -> list[Panel]:
    return [Panel(title="Notices", path="panel")]


def _test(call: CommandCall) -> str:
    assert call.deployment is not None, "the verb takes a right on one"
    if call.deployment not in _urls:
        raise ValueError(
            f"{call.deployment} has no section Notify with a url, or was not deployed since the start."
        )
    _send(call.deployment, " ".join(call.words) or f"{call.user} sends a test")
    return f"Sent to {_urls[call.deployment]}"


def _show(call: RouteCall) -> list[str]:
    return list(_sent[str(call.deployment)])


def _panel(call: RouteCall) -> Answer:
    """The newest first. Without the URL: whoever knows a webhook's may often write to it."""
    deployment = str(call.deployment)
    # Texts are what people sent: each is escaped.
    items = "".join(f"<li>{html.escape(each)}</li>" for each in reversed(_sent[deployment]))
    goes = "Deploys are told to a webhook." if deployment in _urls else "No webhook is told of deploys."
    body = (
        f"<p>{goes}</p><ul>{items}</ul>"
        if items
        else f"<p>{goes} Nothing was sent since the server started.</p>"
    )
    return Answer(body=body, media="text/html; charset=utf-8")


def _remember(deployment: DeploymentFacts) -> None:
    section = deployment.deployment.globals.get("Notify")
    url = section.get("url") if isinstance(section, dict) else None
    _urls.pop(deployment.deployment.name, None)
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        _urls[deployment.deployment.name] = url


def _send(deployment: str, text: str) -> None:
    """What it raises is counted, and shown by `moor plugins`."""
    if (url := _urls.get(deployment)) is not None:
        body = json.dumps({"text": text}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            _sent[deployment].append(text)
