"""Errors as problem+json (RFC 9457), to the wire and back: the server writes it, the client reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from controller import errors
from controller.errors import InvalidInput, MooringError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What went wrong. `detail` is a sentence for people; programs look at `code`."""

    type: str
    """`urn:mooring:problem:<code>`."""
    title: str
    """The HTTP status in words."""
    status: int
    detail: str
    code: str
    """Stable over releases; see the list of codes in the description of this API."""
    field: str | None = None
    """Which part of the input is off; only with the code `invalid-input`."""


def problem(status: int, code: str, detail: str, *, field: str | None = None) -> Problem:
    return Problem(
        type=f"urn:mooring:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        field=field,
    )


def problem_of(error: MooringError) -> Problem:
    """How the error is told to the client."""
    field = error.field if isinstance(error, InvalidInput) else None
    return problem(error.status, error.code, str(error), field=field)


def error_of(told: Problem) -> MooringError:
    """The error that the problem was made from; for a code that we don't know, the nearest by its status."""
    if told.code == InvalidInput.code:
        return InvalidInput(told.field or "input", told.detail)
    kind = _KINDS.get(told.code)
    if kind is None:
        kind = errors.Refused if told.status < 500 else errors.InternalFault
    return kind(told.detail)


def _kinds(root: type[MooringError]) -> Iterator[type[MooringError]]:
    for each in root.__subclasses__():
        yield each
        yield from _kinds(each)


_KINDS = {each.code: each for each in _kinds(MooringError)}
"""`code` to class, for all but InvalidInput, which takes a field too."""
