"""What the server tells a build container, and what it is answered: JSON both ways."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from controller.types import BuilderChoice
from controller.views import BuildpackVerdict

MEMBER = ".mooring-order"
"""Name of the first member of the tar that goes in."""
MAX_OUTCOME = 8 * 1024**2
"""Bytes of the line that comes out."""
MEMORY, PIDS = "memory", "pids"
"""Limits that a container may end a build of."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One build, or one look at the source."""

    id: str
    commit: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    """The service's own, for ENV_DIR."""
    buildpacks: tuple[str, ...] = ()
    builder: BuilderChoice = BuilderChoice.AUTO
    folders: Mapping[str, str] = field(default_factory=dict)
    """Path of a buildpack on the server to a tar of it, in base64."""
    inspect: bool = False

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, data: bytes) -> "Order":
        found = json.loads(data)
        return cls(
            **{
                **found,
                "buildpacks": tuple(found["buildpacks"]),
                "builder": BuilderChoice(found["builder"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went: `built` (what was detected, and a slug follows), or one of the others."""

    built: str = ""
    process_types: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""
    """The pusher's fault, in a sentence."""
    unavailable: str = ""
    """Ours."""
    limit: str = ""
    """`memory` or `pids`: what the container ended it for."""
    verdicts: Sequence[BuildpackVerdict] = ()

    @classmethod
    def parse(cls, line: bytes) -> "Outcome":
        """Raises ValueError for what no honest container says."""
        found = json.loads(line)
        try:
            return cls(
                **{name: _text(found[name]) for name in ("built", "failed", "unavailable", "limit")},
                process_types=_texts(found["process_types"]),
                env=_texts(found["env"]),
                verdicts=tuple(BuildpackVerdict(**each) for each in found["verdicts"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error


def write_outcome(target: int, outcome: Outcome) -> None:
    data = json.dumps(asdict(outcome)).encode() + b"\n"
    while data:
        data = data[os.write(target, data) :]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _texts(value: Any) -> Mapping[str, str]:
    return {_text(name): _text(each) for name, each in value.items()}
