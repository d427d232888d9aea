"""What can go wrong, as the callers of operations, API and client see it.

    MooringError
    ├── InvalidInput       the caller's words are off; names the field
    ├── NotFound           no such thing
    ├── Conflict           it exists already, or somebody else changed it first
    ├── KeyReused          the Idempotency-Key was given with another request before
    ├── AnswerLost         done or begun before, under the same key, and its answer is not known any more
    ├── Refused            understood, but a rule of this server says no (with the way out)
    ├── Unauthenticated    nobody has said who is asking
    ├── Forbidden          that user may not do this
    ├── Throttled          too much of it from there; waiting helps
    ├── Unavailable        a part that we need does not answer; trying again may help
    └── InternalFault      our own mistake, said as such

`code` is a promise: stable over releases, the same in problem+json, in `--json` output and in logs.
The sentence in `str(error)` is fit to be shown to the person who asked.
"""

from typing import ClassVar


class MooringError(Exception):
    """The root; never raised itself."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class InvalidInput(MooringError):
    """The caller's words are off. `field` names which of them."""

    code = "invalid-input"
    status = 422

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class NotFound(MooringError):
    """What was named does not exist, or the asker may not even know of it."""

    code = "not-found"
    status = 404


class Conflict(MooringError):
    """It exists already, or it was changed by somebody else since it was read."""

    code = "conflict"
    status = 409


class KeyReused(MooringError):
    """The key that should say "the same request again" belongs to another one."""

    code = "key-reused"
    status = 422


class AnswerLost(MooringError):
    """It may have been carried out before; whoever asks has to look."""

    code = "answer-lost"
    status = 409


class Refused(MooringError):
    """A rule says no; the sentence says which rule and the way out."""

    code = "refused"
    status = 409


class Unauthenticated(MooringError):
    """No credentials, or none that we know."""

    code = "unauthenticated"
    status = 401


class Forbidden(MooringError):
    """The user is known and lacks the right."""

    code = "forbidden"
    status = 403


class Throttled(MooringError):
    """Too many attempts came from there; the sentence says how long to wait."""

    code = "throttled"
    status = 429
    retryable = True


class Unavailable(MooringError):
    """A part that we need does not answer."""

    code = "unavailable"
    status = 503
    retryable = True


class InternalFault(MooringError):
    """Our own mistake; the server's log has the cause."""

    code = "internal"
    status = 500
