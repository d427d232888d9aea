"""What to run, and what the keeper has on disk of it."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from controller.backends.keeper.processes import boot_id


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the controller asks to run. The same request again changes nothing."""

    id: str
    labels: Mapping[str, str]
    """Given back by `observe` as they came."""
    command: str
    folder: str
    """Working folder, and HOME."""
    env: Mapping[str, str]
    """Complete but for what the keeper decides: PORT, TMPDIR and the marker."""
    uid: int | None
    log: str
    """File that keeps what it prints."""
    address: str | None
    """Where to look for a free port; None when it wants none."""
    ports: tuple[int, int] = (0, 0)
    """First port, and the one after the last."""
    limits: Mapping[str, float | None] = field(default_factory=dict)
    """cpu (cores), memory (bytes), pids, nofile; missing or None: no limit."""
    once: bool = False
    """Start it a single time, also over restarts of the keeper."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "Request":
        return cls(**{**data, "ports": tuple(data["ports"])})

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "ports": list(self.ports)}


@dataclass(frozen=True, slots=True)
class Files:
    """What the keeper keeps of one instance below its folder."""

    folder: Path
    id: str

    @property
    def running(self) -> Path:
        return self.folder / "instances" / f"{self.id}.json"

    @property
    def stopping(self) -> Path:
        return self.folder / "instances" / f"{self.id}.stopping"

    @property
    def process(self) -> Path:
        return self.folder / "instances" / f"{self.id}.pid"

    @property
    def once(self) -> Path:
        return self.folder / "instances" / f"{self.id}.once"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp" / self.id

    def write(self, request: Request, port: int | None) -> None:
        write_whole(self.running, json.dumps({"request": request.plain(), "port": port}), durable=True)

    def note_once(self, text: str) -> None:
        """On the disk before it returns: after a power cut too, nothing that was begun is begun again."""
        write_whole(self.once, text, durable=True)

    def read_once(self) -> str | None:
        """What was noted last; None: it was never begun."""
        try:
            return self.once.read_text()
        except OSError:
            return None

    def leaders(self) -> frozenset[tuple[int, int]]:
        """The process that was started last, as `Family` wants it; empty when of another boot."""
        try:
            boot, pid, started = self.process.read_text().split()
        except (OSError, ValueError):
            return frozenset()
        return frozenset({(int(pid), int(started))}) if boot == boot_id() else frozenset()

    def forget(self) -> None:
        """Nothing of it is left, in an order that may be cut anywhere."""
        self.discard_temporary()
        self.process.unlink(missing_ok=True)
        self.stopping.unlink(missing_ok=True)
        self.running.unlink(missing_ok=True)
        self.once.unlink(missing_ok=True)

    def discard_temporary(self) -> None:
        """Out of the way at once, deleted by a process of its own: it may be large."""
        trash = self.temporary.with_name(f".trash-{self.id}-{time.monotonic_ns()}")
        with contextlib.suppress(OSError):
            self.temporary.rename(trash)
            os.posix_spawn("/bin/rm", ["rm", "-rf", "--", str(trash)], {})


def write_whole(path: Path, text: str, *, durable: bool) -> None:
    """Never a half written file; with `durable`, not after a power cut either."""
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def remove_leftovers(folder: Path) -> None:
    """At the keeper's start: temporary folders of no instance."""
    for each in (folder / "tmp").iterdir():
        if not Files(folder, each.name).running.exists():
            shutil.rmtree(each, ignore_errors=True)
