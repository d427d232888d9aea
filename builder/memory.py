"""A builder without any process: reads the Procfile, and can be told to misbehave. For tests and demos."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.base import BuilderUnavailable, BuildFailed
from builder.procfile import FILE, MAX_BYTES, parse_procfile
from builder.tree import read_small, remove_tree
from builder.types import BuildOutput, BuildRequest
from controller.types import Artifact, ArtifactKind
from controller.views import BuildpackVerdict


class MemoryBuilder:
    """Detects what has a Procfile. The artifact's reference is the hash of names and contents."""

    def __init__(self) -> None:
        self.requests: list[BuildRequest] = []
        """Every build that was asked for."""
        self.failure: str | None = None
        """The next builds raise BuildFailed with this sentence."""
        self.outage: str | None = None
        """The next builds raise BuilderUnavailable with this sentence."""
        self.hang = False
        """The next builds never end by themselves."""
        self.started = asyncio.Event()
        """Set once a build runs."""
        self._running: set[asyncio.Task[object]] = set()

    async def inspect(self, request: BuildRequest) -> Sequence[BuildpackVerdict]:
        matched = (request.source / FILE).is_file()
        remove_tree(request.source)
        words = "Procfile" if matched else "no Procfile"
        return (BuildpackVerdict(buildpack="procfile", by="", matched=matched, words=words, builds=matched),)

    async def build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.requests.append(request)
        self.started.set()
        try:
            return await self._build(request, out)
        finally:
            self._running.discard(task)
            remove_tree(request.source)

    async def close(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        if self.outage is not None:
            raise BuilderUnavailable(self.outage)
        if self.failure is not None:
            raise BuildFailed(self.failure)
        types = _process_types(request.source)
        out.step("Procfile app detected")
        try:
            async with asyncio.timeout(request.timeout):
                if self.hang:
                    await asyncio.Event().wait()
        except TimeoutError as error:
            raise BuildFailed(f"The build took longer than {request.timeout:g} seconds.") from error
        out.step("Discovering process types")
        out.line(f"Procfile declares types -> {', '.join(types)}")
        reference, size = _content_of(request.source)
        return Artifact(
            kind=ArtifactKind.SLUG,
            reference=reference,
            size=size,
            process_types=types,
            buildpack="Procfile",
        )


def _process_types(source: Path) -> Mapping[str, str]:
    content = read_small(source, FILE, MAX_BYTES)
    types = parse_procfile(content) if content is not None else {}
    if not types:
        raise BuildFailed("Nothing says how to start this app. Add a file named Procfile.")
    return types


def _content_of(source: Path) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    for path in sorted(source.rglob("*")):
        digest.update(f"{path.relative_to(source)}\0".encode("utf-8", "surrogateescape"))
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            digest.update(content)
            size += len(content)
    return digest.hexdigest(), size
