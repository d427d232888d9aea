"""The `git` program, as we run it: on one of our bare repositories, with an environment of its own."""

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 600.0
"""Seconds that one of our own questions to git may take."""

_FRUGAL = (
    *("-c", "core.deltaBaseCacheLimit=8m"),
    *("-c", "core.packedGitWindowSize=1m", "-c", "core.packedGitLimit=16m"),
    *("-c", "pack.windowMemory=32m", "-c", "core.bigFileThreshold=8m"),
)
"""git's own limits are made for a workstation: walking a history of 95,000 objects takes 85 MiB with them
and a fifth of that with these, in no more time. Files above the threshold are not held in memory."""


@dataclass(frozen=True)
class Git:
    """Where the program is."""

    program: str

    async def start(
        self,
        repository: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: int = DEVNULL,
        stdout: int = PIPE,
    ) -> Process:
        return await asyncio.create_subprocess_exec(
            self.program,
            *("-c", "safe.directory=*"),  # the data folder may have been made by another user
            *_FRUGAL,
            *arguments,
            cwd="/",
            env=environment(repository) | dict(env or {}),
            stdin=stdin,
            stdout=stdout,
            stderr=PIPE,
            start_new_session=True,
        )

    async def ask(
        self, repository: Path, *arguments: str, env: Mapping[str, str] | None = None, send: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        """Run to the end; exit status, output, errors. Raises TimeoutError; killed when cancelled."""
        process = await self.start(repository, *arguments, env=env, stdin=PIPE if send else DEVNULL)
        try:
            async with asyncio.timeout(TIMEOUT):
                output, errors = await process.communicate(send or None)
        finally:
            await end(process)
        return process.returncode or 0, output, errors


async def end(process: Process) -> None:
    """Kill it with its own children unless it has ended, and wait for that, so that no zombie is left."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())


def find_git() -> Git | None:
    """The installed git; None where there is none: then dulwich does the work, more slowly."""
    program = shutil.which("git")
    return Git(program) if program else None


def environment(repository: Path) -> dict[str, str]:
    """No settings but the repository's own, no prompts, no translated messages."""
    return {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "PYTHONSAFEPATH": "1",
        "GIT_DIR": str(repository),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
    }
