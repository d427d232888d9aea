"""What plugins add to the server: routes, commands, panels; and what these are called with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.types import Right


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """The server that a plugin runs in."""

    data: Path
    """Its data folder. `data / "plugins" / NAME` is the place for files of a plugin."""
    api: str
    """Where its API is, as `HOST:PORT`."""
    domain: str


May = Callable[[str, Right], bool]
"""Whether the asker has that right on that deployment."""


@dataclass(frozen=True, kw_only=True)
class RouteCall:
    """A request to a route of a plugin."""

    user: str
    admin: bool
    may: May
    deployment: str | None
    """That of the query, where the route takes a right on one."""
    query: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a route answers beside JSON."""

    body: str
    media: str = "text/plain; charset=utf-8"
    status: int = 200


@dataclass(frozen=True, kw_only=True)
class Route:
    """`METHOD /v1/plugins/NAME/routes/PATH`."""

    path: str
    """One word below the plugin's own, such as `report`."""
    handle: Callable[[RouteCall], Any]
    """Gives what can be written as JSON, or an `Answer`."""
    method: str = "GET"
    right: Right | None = None
    """That the asker needs on the deployment in the query (`?deployment=foo`); None: it is for admins."""


@dataclass(frozen=True, kw_only=True)
class CommandCall:
    """Somebody called a verb of a plugin."""

    user: str
    admin: bool
    may: May
    deployment: str | None
    """Where one was named, as in `moor -D foo VERB`."""
    words: Sequence[str] = ()
    """What stands behind the verb, options too."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A verb of `moor`, which runs on the server."""

    verb: str
    """`NAME` of the plugin, or `NAME:something`."""
    run: Callable[[CommandCall], str | Sequence[str] | None]
    """Gives the lines that are printed. Raises ValueError with a sentence for what was wrong with the words."""
    summary: str = ""
    right: Right | None = None
    """That the asker needs on the deployment; None: it is for admins."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A part of a web page."""

    title: str
    path: str
    """Of a GET route of the same plugin, whose answer is HTML. A route that takes a right on a deployment is shown with
    that deployment, to those who have the right; one for admins on the start page, to them."""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What plugins say of a service that is about to be changed."""

    holds: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    """How it gets its code, in words."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Of its definition, in place of its own."""
    vars: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


NO_OPINION = Opinion()
