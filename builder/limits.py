"""What one build may take of the machine: kept by control groups, and where there are none by looking."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.tree import megabytes
from controller.backends.keeper.groups import Groups
from controller.backends.keeper.limits import LimitKeeper, Watch


@dataclass(frozen=True, kw_only=True)
class BuildLimits:
    """Of all processes of a build together; 0 means no limit."""

    memory: int = 0
    """Bytes."""
    pids: int = 0
    """Processes and threads at a time."""
    cpu: float = 0.0
    """Cores."""

    @property
    def amounts(self) -> Mapping[str, float | None]:
        return {"memory": self.memory or None, "pids": self.pids or None, "cpu": self.cpu or None}


class Limiter:
    """Makes the limits of builds; one for each folder of builds."""

    def __init__(self, limits: BuildLimits, builds: Path) -> None:
        self._limits = limits
        self._realm = f"builds-{hashlib.sha256(str(builds).encode()).hexdigest()[:16]}"
        self._groups: Groups | None = None

    async def sweep(self) -> None:
        """End what a server that was killed left in groups of builds."""
        groups = await self._found()
        await asyncio.to_thread(groups.sweep)

    async def close(self) -> None:
        if self._groups is not None:
            await asyncio.to_thread(self._groups.close)

    async def begin(self, build: str) -> "LimitedBuild":
        limited = LimitedBuild(self._limits, await self._found(), build)
        await asyncio.to_thread(limited.begin)
        return limited

    async def _found(self) -> Groups:
        if self._groups is None:
            self._groups = await asyncio.to_thread(Groups.find, self._realm)
        return self._groups


class LimitedBuild:
    """The limits of one build, while it runs."""

    def __init__(self, limits: BuildLimits, groups: Groups, build: str) -> None:
        self._limits = limits
        self._groups = groups
        self.name = build
        self._watch = Watch(LimitKeeper(groups), build, limits.amounts)
        self._over = ""
        self.files: tuple[str, ...] = ()
        """What a process writes "0" into to be held to the limits, with all that it starts."""

    def begin(self) -> None:
        """Blocking. Where groups can't be made it is looked at, which is better than not to build."""
        try:
            self.files = tuple(self._watch.begin())
        except OSError:
            self._groups = Groups({})
            self._watch = Watch(LimitKeeper(self._groups), self.name, self._limits.amounts)
            self._watch.begin()

    def look(self, members: Iterable[int]) -> str:
        """Why the build must end now, in a sentence for people; "" while it may go on. Blocking, and quick."""
        verdict = self._watch.look(lambda: members)
        if verdict:
            self._over = self._too_many() if "processes" in verdict else self._too_much()
        elif not self._over:
            # What is left of a build whose part was killed, or could not fork, may wait for ever.
            self._over = self.cause_of_end()
        return self._over

    def cause_of_end(self) -> str:
        """The sentence where a limit was why a step ended; else ""."""
        if self._over:
            return self._over
        if self._limits.memory and self._watch.cause_of_end():
            return self._too_much()
        return self._too_many() if self._limits.pids and self._forks_refused() else ""

    def end(self) -> None:
        """Nothing of the build runs any more. Blocking."""
        self._watch.forget()

    def _forks_refused(self) -> bool:
        tree = self._groups.trees.get("pids")
        if tree is None:
            return False
        try:
            text = (tree.folder / self.name / "pids.events").read_text()
        except OSError:
            return False
        return any(line.startswith("max ") and line != "max 0" for line in text.splitlines())

    def _too_much(self) -> str:
        return too_much_memory(self._limits.memory)

    def _too_many(self) -> str:
        return too_many_processes(self._limits.pids)


def too_much_memory(limit: int) -> str:
    """The sentence for people."""
    return (
        f"The build was ended because it used more than {megabytes(limit)} of memory, the limit "
        "of this server (build_memory)."
    )


def too_many_processes(limit: int) -> str:
    """The sentence for people."""
    return (
        f"The build was ended because it had more than {limit} processes and threads at once, the "
        "limit of this server (build_pids)."
    )


def too_little_disk(reserve: int) -> str:
    """The sentence for people."""
    return (
        f"The build was ended because less than {megabytes(reserve)} are free on the "
        "server's disk. Make the build smaller, or have space made on the server."
    )
