"""What the doors for source say while they work, on the wire between server and client."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """What a line is."""

    STEP = "step"
    SECTION = "section"
    LINE = "line"
    WARNING = "warning"
    DONE = "done"
    """The last one of a delivery that went well; one that did not ends with a problem."""


@dataclass(frozen=True, kw_only=True)
class DeliveryStep:
    """A line of a delivery's progress."""

    mark: Mark
    text: str
    commit: str | None = None
    """What was delivered; of the last line."""
    deployed: bool = False
    """Whether that commit is what the service wants now; of the last line."""


@dataclass(frozen=True, kw_only=True)
class UploadState:
    """An archive that arrives in pieces."""

    id: str
    offset: int
    """Bytes that have arrived."""


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """A key by which an SSH server is known from now on."""

    host: str
    algorithm: str
    fingerprint: str
    """`SHA256:…`."""


class SyncBuild(StrEnum):
    """Whether fetched source is deployed."""

    NO = "no"
    YES = "yes"
    IF_CHANGES = "if-changes"
    """Only when it is another commit than the last that was deployed."""
