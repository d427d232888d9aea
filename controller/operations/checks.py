"""Reading the keys `health` and `checks` of a definition: plain values in, checked ones out. Pure."""

from collections.abc import Mapping
from typing import Any

from controller.errors import InvalidInput
from controller.names import check_process_type
from controller.operations.numbers import seconds
from controller.operations.text import is_passable
from controller.types import HealthCheck

KINDS = ("path", "command", "uptime")
"""Of which a check has one at most."""
KNOWN = (*KINDS, "timeout", "settle")
MAX_COMMAND = 4096
MAX_TYPES = 50


def read_checks(value: Any) -> Mapping[str, HealthCheck]:
    """Process type to its check; null: none has one of its own. Raises InvalidInput."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > MAX_TYPES:
        raise InvalidInput(
            "checks", 'checks must map process types to checks, as in {worker: {command: "test -e ready"}}.'
        )
    return {
        check_process_type(str(kind)): read_check(each, f"checks.{kind}")
        for kind, each in value.items()
        if each is not None
    }


def read_check(value: Any, field: str = "health") -> HealthCheck:
    """One check; null is the default one. `field`: what it is called in an InvalidInput."""
    key = field.partition(".")[0]
    if value is None:
        return HealthCheck()
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        raise InvalidInput(
            key, f"{field} must be a path such as /health, or {{path: …}}, {{command: …}}, {{uptime: …}}."
        )
    given = {str(key): each for key, each in value.items() if each is not None}
    if unknown := given.keys() - set(KNOWN):
        raise InvalidInput(
            key, f"{field} knows {', '.join(KNOWN[:-1])} and {KNOWN[-1]}, not {min(unknown)[:60]!a}."
        )
    kinds = [each for each in KINDS if each in given]
    if len(kinds) > 1:
        raise InvalidInput(key, f"{field} has {' and '.join(kinds)}: one of them is the check.")
    times = {key: seconds(f"{field}.{key}", given[key]) for key in given.keys() - {"path", "command"}}
    check = HealthCheck(path=_path(given, field), command=_command(given, field), **times)
    if check.timeout is not None and check.uptime is not None and check.timeout <= check.uptime:
        raise InvalidInput(key, f"{field}.timeout must be longer than uptime, or no instance could pass.")
    return check


def _path(given: Mapping[str, Any], field: str) -> str | None:
    """Of visible ASCII, so that it fits on a request line as it is."""
    key, path = field.partition(".")[0], given.get("path")
    if path is None:
        return None
    fits = isinstance(path, str) and path.startswith("/") and path.isascii() and path.isprintable()
    if not fits or " " in path:
        raise InvalidInput(key, f"{field}.path must be an HTTP path such as /health.")
    return str(path)


def _command(given: Mapping[str, Any], field: str) -> str | None:
    key, command = field.partition(".")[0], given.get("command")
    if command is None:
        return None
    fits = isinstance(command, str) and command.strip() and is_passable(command)
    if not fits or len(command) > MAX_COMMAND:
        raise InvalidInput(
            key, f"{field}.command must be a shell line of at most {MAX_COMMAND} characters, not empty."
        )
    return str(command)
