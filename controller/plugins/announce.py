"""`expose: {CACHE: redis}`: a service is told where others of its deployment are. Pure."""

from collections.abc import Mapping

from controller.exposing import KEY
from controller.plugins.facts import StartFacts
from controller.plugins.hooks import hookimpl

NAME = "announce"
keys = frozenset({KEY})


@hookimpl
def before_start(start: StartFacts) -> Mapping[str, str] | None:
    """`CACHE` is `HOST:PORT`, and `CACHE_HOST` and `CACHE_PORT` are its parts."""
    return _variables(start)


@hookimpl
def before_once(start: StartFacts) -> Mapping[str, str] | None:
    """The same: a command that makes tables connects as an instance does."""
    return _variables(start)


def _variables(start: StartFacts) -> Mapping[str, str] | None:
    found = dict[str, str]()
    for name, place in start.exposed.items():
        host, _, port = place.rpartition(":")
        found |= {name: place, f"{name}_HOST": host, f"{name}_PORT": port}
    return found or None
