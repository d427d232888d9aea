"""What builds print: `<build id>.log` in one folder, lines stamped as those of instances are.

Logs that an older release wrote have no stamps: their lines count as printed when the build began.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from controller.logs.files import Files, FileStream
from controller.logs.parts import Origin, stamp_of
from controller.logs.query import LogQuery
from controller.types import Build

MAX_BYTES = 16 * 1024**2
"""Of one build's log; what comes after that is left out, and said to be."""

CUT = "[this log is full; the rest of the output was left out]"

_STAMP = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z build(?: |$)", re.MULTILINE)


class BuildLogs:
    """Ids must be fit for a path: only those of builds that the state knows get here. All calls but `stream` block."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when missing."""
        self._folder = folder

    def append(self, build: str, lines: Sequence[str], now: datetime) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        head = stamp_of(now) + b" build "
        data = b"".join(
            head + piece + b"\n"
            for line in lines
            for piece in line.encode(errors="replace").removesuffix(b"\n").split(b"\n")
        )
        with self._path(build).open("ab") as file:
            room = MAX_BYTES - file.tell()
            if len(data) <= room:
                file.write(data)
            elif room >= 0:
                cut = data[:room] + b"\n" if room else b""
                file.write(cut + head + CUT.encode() + b"\n")

    def read(self, build: str) -> str:
        """All of it, without the times."""
        try:
            data = self._path(build).read_bytes()
        except FileNotFoundError:
            return ""
        return _STAMP.sub(b"", data).decode(errors="replace")

    def known(self) -> Sequence[str]:
        """Ids of builds that have a log."""
        return [path.stem for path in self._folder.glob("*.log")]

    def remove(self, builds: Iterable[str]) -> None:
        for each in builds:
            self._path(each).unlink(missing_ok=True)

    def stream(self, query: LogQuery, builds: Callable[[], Sequence[Build]]) -> FileStream:
        """`builds` tells those of the service; asked again while following."""

        async def find() -> Files:
            return {
                self._path(each.id): Origin(each.id, each.id, _began(each))
                for each in builds()
                if query.fits(each.id, each.id)
            }

        return FileStream(query, find)

    def _path(self, build: str) -> Path:
        return self._folder / f"{build}.log"


def _began(build: Build) -> bytes:
    return stamp_of(build.started_at or datetime.fromtimestamp(0, UTC))
