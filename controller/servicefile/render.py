"""A service file as text again: what `read_servicefile` makes the same of."""

from collections.abc import Mapping, Set
from typing import Any

import yaml

from controller.servicefile.document import ServiceFile
from controller.servicefile.replace import escaped_text
from controller.servicefile.values import DEPLOY_ID, PORT

NAMES = frozenset({DEPLOY_ID})


def render(file: ServiceFile, *, names: Set[str] = NAMES) -> str:
    """`names`: of the variables that are known when it is read again; in texts they are escaped."""
    shared = {name: _escaped(each, names) for name, each in file.globals.items()}
    services = {name: _service(keys, names) for name, keys in file.services.items()}
    text: str = yaml.safe_dump(
        {**shared, **services}, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )
    return text


def _service(keys: Mapping[str, Any], names: Set[str]) -> Mapping[str, Any] | None:
    """`command` is `cmd` in a file, where `{PORT}` is known too; one port without a name is `port`."""
    found = {
        escaped_text(key, names): _escaped(each, names) for key, each in keys.items() if key != "command"
    }
    if "command" in keys:
        found["cmd"] = escaped_text(keys["command"], names | {PORT})
    if set(keys.get("ports", ())) == {""}:
        found["port"] = found.pop("ports")[""]
    return found or None


def _escaped(value: Any, names: Set[str]) -> Any:
    if isinstance(value, str):
        return escaped_text(value, names)
    if isinstance(value, Mapping):
        return {escaped_text(str(name), names): _escaped(each, names) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(each, names) for each in value]
    return value
