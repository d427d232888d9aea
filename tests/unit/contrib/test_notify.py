"""The sample plugin: its panel."""

from contrib.plugins import notify
from controller.plugins.extensions import Answer, RouteCall


def shown(deployment: str) -> Answer:
    return notify._panel(
        RouteCall(user="ann", admin=False, may=lambda *_: True, deployment=deployment, query={})
    )


def test_what_people_sent_is_shown_as_text() -> None:
    notify._sent["foo"].extend(["the first", "<script>alert(1)</script> & more"])
    answer = shown("foo")
    assert answer.media == "text/html; charset=utf-8"
    assert (
        "<ul><li>&lt;script&gt;alert(1)&lt;/script&gt; &amp; more</li><li>the first</li></ul>" in answer.body
    )


def test_nobody_is_shown_where_the_webhook_is() -> None:
    notify._urls["bar"] = "https://chat.example.org/hook/secret"
    assert (
        shown("bar").body
        == "<p>Deploys are told to a webhook. Nothing was sent since the server started.</p>"
    )
