"""The keys of a service, in the short and the long forms that people write, brought into one. Pure.

Two definitions that mean the same are equal afterwards, so that the same file again is no change.
"""

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from controller.errors import InvalidInput
from controller.exposing import check_place
from controller.names import check_env_name, check_process_type

ACTED_ON = (
    "image",
    "command",
    "env",
    "git",
    "ports",
    "require",
    "health",
    "checks",
    "rollout",
    "limits",
    "volumes",
    "predeploy",
    "postdeploy",
    "entrypoint",
    "process",
    "wan_map",
    "expose",
)
"""Keys that this release does something with."""
OF_IMAGES, OF_CODE = ("entrypoint", "ports", "wan_map"), ("process",)
"""Those of them that only mean something with an image, and only without one."""
KEPT = ("privileged",)
"""Keys whose form is known and checked, and that nothing acts on yet: they are there for plugins."""
SHORT = {"cmd": "command", "port": "ports"}
"""Another way to write a key."""
KNOWN = (*ACTED_ON, *KEPT, *SHORT)

ASSIGN = "assign"
"""A port of this number is chosen when an instance starts."""
MOST_EXPOSED = 32
"""Variables of one service."""
MAX_VOLUME_NAME = 40
TAKEN_PATHS = frozenset({"/", "/app", "/tmp", "/proc", "/sys", "/dev"})  # noqa: S108 - of containers
_PORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_WAN = re.compile(r"(?:(?P<host>[0-9.]+|\[[0-9a-fA-F:.]+\])?:)?(?P<port>[0-9]{1,5})")


def canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys under their one name and in their one form; null and unknown keys stay as they are.

    Raises InvalidInput naming the key.
    """
    found = dict[str, Any]()
    for key, value in given.items():
        name = SHORT.get(key, key)
        if name in found:
            raise InvalidInput(key, twice(key, name, given))
        read = _FORMS.get(key)
        found[name] = value if read is None or value is None else read(value)
    return found


def twice(key: str, name: str, given: Mapping[str, Any]) -> str:
    """What is wrong where a key is there under both of its names."""
    other = next(
        each for each in (*SHORT, name) if each != key and each in given and SHORT.get(each, each) == name
    )
    return f"{key} and {other} say the same: keep one of them."


def _command(value: Any) -> str:
    """A shell line; of a list each item is one word of it, and only `{PORT}` is left to the shell."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(isinstance(each, str | int | float) for each in value):
        return shlex.join(map(_plain_text, value))
    raise InvalidInput(
        "command",
        "command (or cmd) must be a text that is not empty: a command line, or a list of its words.",
    )


def _plain_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _entrypoint(value: Any) -> list[str]:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InvalidInput("entrypoint", f"entrypoint is no list of words: {error}.") from error
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(each, str | int | float) for each in words)
    ):
        raise InvalidInput(
            "entrypoint", "entrypoint must be a list of words, or a text that is split into them."
        )
    return [_plain_text(each) for each in words]


def _volumes(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidInput(
            "volumes", "volumes must map names to folders of the container, as in {data: /srv/redis}."
        )
    found = dict[str, str]()
    for name, path in value.items():
        if not _PORT_NAME.fullmatch(str(name)) or len(str(name)) > MAX_VOLUME_NAME:
            raise InvalidInput(
                "volumes",
                f"{str(name)[:60]!a} is no name of a volume: use at most {MAX_VOLUME_NAME} small letters, "
                "digits and -.",
            )
        if isinstance(path, Mapping):
            raise InvalidInput(
                "volumes",
                f"The volume {name} must be a whole path here; when it is backed up is said by a service file, or by "
                "volumes:schedule.",
            )
        if not isinstance(path, str) or not path.startswith("/") or ".." in path.split("/"):
            raise InvalidInput("volumes", f"The volume {name} must be a whole path, such as /srv/{name}.")
        place = posixpath.normpath(path).replace("//", "/")
        if place in TAKEN_PATHS or place in found.values():
            raise InvalidInput(
                "volumes", f"The volume {name} can't be at {place[:100]}: something else is there already."
            )
        found[str(name)] = place
    if len({volume_variable(each) for each in found}) < len(found):
        raise InvalidInput("volumes", "Two volumes have names that differ by - and _ only: rename one.")
    return found


def volume_variable(name: str) -> str:
    """The variable that tells an instance where its volume is."""
    return f"VOLUME_{name.upper().replace('-', '_')}"


def _privileged(value: Any) -> bool | None:
    if not isinstance(value, bool):
        raise InvalidInput("privileged", "privileged must be true or false.")
    return value or None


def _port(value: Any) -> dict[str, int | str]:
    return {"": _number("port", value)}


def _ports(value: Any) -> dict[str, int | str]:
    if isinstance(value, list):
        value = dict.fromkeys(map(_plain_text, value), ASSIGN)
    if not isinstance(value, Mapping) or not value:
        raise InvalidInput(
            "ports", "ports must map names to numbers or assign, as in {http: 8000, rpc: assign}."
        )
    for name in value:
        if name != "" and not _PORT_NAME.fullmatch(str(name)):
            raise InvalidInput(
                "ports", f"{str(name)[:60]!a} is no name of a port: use small letters, digits and -."
            )
    return {str(name): _number(f"ports.{name}", each) for name, each in value.items()}


def _number(field: str, value: Any) -> int | str:
    if value == ASSIGN:
        return ASSIGN
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise InvalidInput(
            field.partition(".")[0], f"{field} must be a port number from 1 to 65535, or assign."
        )
    return value


def _wan_map(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not value:
        raise InvalidInput("wan_map", "wan_map must map outer ports to names of ports, as in {':80': http}.")
    found = dict[str, str]()
    for outer, name in value.items():
        match = _WAN.fullmatch(str(outer))
        if match is None or not 0 < int(match["port"]) < 65536:
            raise InvalidInput(
                "wan_map", f"{str(outer)[:60]!a} is no outer port: write 80, ':80' or '192.0.2.1:80'."
            )
        if name is not None and name != "" and not (isinstance(name, str) and _PORT_NAME.fullmatch(name)):
            raise InvalidInput("wan_map", f"wan_map.{outer} must be the name of a port of this service.")
        found[f"{match['host'] or ''}:{int(match['port'])}"] = name or ""
    return found


def check_wan_map(extra: Mapping[str, Any]) -> None:
    """Raise InvalidInput where it leads to a port that the service does not have."""
    names = extra.get("ports") or {}
    for outer, name in (extra.get("wan_map") or {}).items():
        if name and name not in names:
            raise InvalidInput(
                "wan_map",
                f"wan_map.{outer} leads to the port {name}, which is not among its ports: add it to `ports`.",
            )


def _process(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput("process", "process must be a process type of the code, such as web.")
    return check_process_type(value)


def _require(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(each, str) and each.strip() for each in names):
        raise InvalidInput(
            "require", "require must be the name of a service or a resource, or a list of them."
        )
    return list(dict.fromkeys(names))


def _expose(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) and each for each in value.values()):
        raise InvalidInput("expose", "expose must map variables to services, as in {DATABASE: postgres}.")
    if "PORT" in value or len(value) > MOST_EXPOSED:
        raise InvalidInput(
            "expose",
            f"expose can have {MOST_EXPOSED} variables, and PORT is the service's own: choose another name.",
        )
    names = [check_env_name(str(name)) for name in value]
    for name in names:
        if taken := {f"{name}_HOST", f"{name}_PORT"}.intersection(names):
            raise InvalidInput(
                "expose",
                f"expose: {min(taken)} is a part of {name} already: choose another name for one of them.",
            )
    return {str(name): check_place(each) for name, each in value.items()}


def _git(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InvalidInput(
            "git", "git must be the folder of a repository, as in `git: .` or `git: '.:subfolder'`."
        )
    return value


_FORMS: Mapping[str, Callable[[Any], Any]] = {
    "cmd": _command,
    "command": _command,
    "entrypoint": _entrypoint,
    "volumes": _volumes,
    "privileged": _privileged,
    "port": _port,
    "ports": _ports,
    "wan_map": _wan_map,
    "process": _process,
    "require": _require,
    "expose": _expose,
    "git": _git,
}
