"""The one place that turns model values into JSON and back.

Times are written as ISO 8601 in UTC with a Z. Unknown fields are ignored and missing ones take their
defaults, so what an older or a newer release wrote can be read.
"""

from typing import Any, TypeVar

import msgspec

Json = Any
"""What `json.dumps` takes: dict, list, str, int, float, bool, None."""

T = TypeVar("T")


class WireError(ValueError):
    """The JSON does not fit the type; the text names the field."""


def to_json(value: object) -> Json:
    """Plain dicts and lists of a value of `controller.types` (or a sequence of them)."""
    return msgspec.to_builtins(value, str_keys=True)


def from_json(kind: type[T], data: Json) -> T:
    """The value that `to_json` was given. Raises WireError when `data` is no such thing."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise WireError(f"{getattr(kind, '__name__', kind)}: {error}") from error


def encode(value: object) -> bytes:
    """JSON text of a value; one line."""
    return msgspec.json.encode(value)


def decode(kind: type[T], text: bytes | str) -> T:
    """The value of a JSON text. Raises WireError when it is no JSON or does not fit."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:  # its subclass ValidationError too
        raise WireError(f"{getattr(kind, '__name__', kind)}: {error}") from error
