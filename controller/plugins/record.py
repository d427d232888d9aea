"""A plugin as it is known to the server: whether it is on, and how it has done."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Standing(StrEnum):
    BUILT_IN = "built in"
    ON = "on"
    OFF = "off"
    """By the settings."""
    FAILED = "failed"
    """It could not be loaded."""
    SUSPENDED = "suspended"
    """It did not answer in time, and is left alone until it is resumed."""


@dataclass
class Record:
    """Changes as the plugin is called; only within the event loop."""

    name: str
    source: str
    """Where it comes from: a distribution and its version, or a file."""
    standing: Standing
    why: str = ""
    """Why it is off, in words."""
    plugin: Any = None
    hooks: tuple[str, ...] = ()
    """That it implements."""
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    """That were spent in it."""
    last_error: str = ""
    left_behind: int = 0
    """Calls that exceeded their time and may still be going on."""
    keys: frozenset[str] = field(default_factory=frozenset)
    """Of definitions, and (with a capital letter) sections, that it acts on."""

    @property
    def active(self) -> bool:
        return self.standing is Standing.ON
