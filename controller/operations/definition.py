"""Reading what people want of a service: plain values in, a checked Definition out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from controller.environment import RESERVED_PREFIX
from controller.errors import InvalidInput
from controller.names import check_env_name
from controller.operations.artifacts import MAX_ENV, MAX_VALUE, check_image
from controller.operations.checks import read_check, read_checks
from controller.operations.limits import read_limits
from controller.operations.strategy import read_rollout
from controller.operations.text import is_passable
from controller.servicefile.keys import canonical, check_wan_map
from controller.types import Definition

MAX_EXTRA = 64 * 1024
MAX_DEPTH = 16
"""Bytes of the keys for plugins as JSON, and how deep lists and mappings may be in each other: whoever
reads them, here or in a plugin, does so by recursion."""


def changed_definition(before: Definition, given: Mapping[str, Any]) -> Definition:
    """`before` with the keys of `given` put in place of its own.

    A key that is not given keeps what it was, null takes it back to its default. `env`, `health`,
    `checks`, `rollout`, `limits` and `volumes` are replaced as a whole. Unknown keys go to `extra`, and those of a
    service file (`cmd`, `port`, …) are taken in all of their forms. Raises InvalidInput naming the key.
    """
    definition, extra = before, dict(before.extra)
    for key, value in canonical(given).items():
        if key == "image":
            image = _text(key, value)
            definition = replace(definition, image=None if image is None else check_image(image))
        elif key == "command":
            definition = replace(definition, command=_text(key, value))
        elif key == "predeploy":
            definition = replace(definition, predeploy=_text(key, value))
        elif key == "postdeploy":
            definition = replace(definition, postdeploy=_text(key, value))
        elif key == "env":
            definition = replace(definition, env=changed_env({}, put=read_variables(value), drop=()))
        elif key == "health":
            definition = replace(definition, health=read_check(value))
        elif key == "checks":
            definition = replace(definition, checks=read_checks(value))
        elif key == "rollout":
            definition = replace(definition, rollout=read_rollout(value))
        elif key == "limits":
            definition = replace(definition, limits=read_limits(value))
        elif key == "volumes":
            definition = replace(definition, volumes=value or {})
            extra.pop(key, None)  # where releases without volumes kept it
        elif value is None:
            extra.pop(key, None)
        else:
            _check_depth(key, value)
            extra[key] = value
    _check_extra(extra)
    return replace(definition, extra=extra)


def whole(definition: Definition) -> Definition:
    """The same, once its keys fit each other; raises InvalidInput."""
    check_wan_map(definition.extra)
    return definition


def changed_env(
    before: Mapping[str, str], *, put: Mapping[str, str], drop: Sequence[str]
) -> Mapping[str, str]:
    """`before` without `drop` and with `put`; raises InvalidInput naming the variable."""
    for name in drop:
        check_env_name(name)
        if name in put:
            raise InvalidInput("env", f"{name} is to be set and to be removed at once: do one of them.")
    for name, value in put.items():
        _check_variable(name, value)
    env = {name: value for name, value in before.items() if name not in drop} | dict(put)
    if sum(len(name) + len(value.encode()) for name, value in env.items()) > MAX_ENV:
        raise InvalidInput(
            "env", f"All variables together are larger than {MAX_ENV // 1024} KiB: keep files elsewhere."
        )
    return env


def _check_variable(name: str, value: str) -> None:
    check_env_name(name)
    if name == "PORT" or name.startswith(RESERVED_PREFIX):
        raise InvalidInput("env", f"{name} is given to each instance by the server and can't be set.")
    if "\0" in value:
        raise InvalidInput(
            "env", f"The value of {name} has a zero byte in it, which no process can be given."
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput("env", f"The value of {name} is no valid text.") from error
    if size > MAX_VALUE:
        raise InvalidInput(
            "env", f"The value of {name} is larger than {MAX_VALUE // 1024} KiB: keep it in a file."
        )


def _check_depth(key: str, value: Any, depth: int = 1) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput("definition", f"{key[:60]!a} is nested more than {MAX_DEPTH} levels deep.")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for each in inner:
        _check_depth(key, each, depth + 1)


def check_kept(values: Mapping[str, Any]) -> None:
    """Raise InvalidInput where these are too deep or too large to be kept for plugins."""
    for key, value in values.items():
        _check_depth(key, value)
    _check_extra(values)


def _check_extra(extra: Mapping[str, Any]) -> None:
    try:
        size = len(msgspec.json.encode(extra))
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "definition", "The definition has a text in it that is no valid Unicode."
        ) from error
    if size > MAX_EXTRA:
        raise InvalidInput("definition", f"The definition is larger than {MAX_EXTRA // 1024} KiB.")


def _text(key: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip() or not is_passable(value)):
        raise InvalidInput(key, f"{key} must be a text that is not empty, or null.")
    return value


def read_variables(value: Any) -> Mapping[str, str]:
    """YAML and JSON people write `PORT_COUNT: 3` and mean the text; a list or a mapping they don't."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput("env", "env must map names to values, as in {GREETING: hello}.")
    return {str(name): _value(str(name), each) for name, each in value.items()}


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidInput("env", f"The value of {name} must be a text or a number.")
