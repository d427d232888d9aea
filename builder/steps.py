"""The steps of a build: a buildpack's programs, run in one sandbox, and what their end means."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.base import BuildFailed
from builder.buildpack import Buildpack, Release, parse_release
from builder.sandbox import LIMITS, Sandbox, Step
from builder.transcript import Capture, Transcript
from builder.types import BuildOutput


class Steps:
    """All with the same tree (their working directory), user and environment."""

    def __init__(self, sandbox: Sandbox, env: Mapping[str, str], *, cwd: Path, uid: int | None) -> None:
        self._sandbox = sandbox
        self._env = env
        self._build = cwd
        self._uid = uid
        # NPROC counts all processes of a user: it means nothing when that is the server's own.
        self._limits = {name: value for name, value in LIMITS.items() if name != "NPROC" or uid is not None}

    async def ask(self, buildpack: Buildpack) -> tuple[int, str]:
        """Whether it is for this tree: its exit status and what it printed."""
        return await self._answer(buildpack.detect(self._build))

    async def compile(self, buildpack: Buildpack, cache: Path, env: Path, out: BuildOutput) -> None:
        """Raises BuildFailed; the last lines are in `out` then."""
        transcript = Transcript(out)
        argv = buildpack.compile(self._build, cache, env)
        try:
            status = await self._sandbox.run(self._step(argv, quiet=False), transcript)
        finally:
            transcript.finish()
        if status != 0:
            raise BuildFailed((status > 0 and transcript.verdict) or _failure(status))

    async def release(self, buildpack: Buildpack) -> Release:
        """What it declares. Raises BuildFailed."""
        argv = buildpack.release(self._build)
        if argv is None:
            return Release()
        status, printed = await self._answer(argv)
        if status != 0:
            raise BuildFailed(f"The buildpack's bin/release ended with status {status}.")
        return parse_release(printed)

    async def _answer(self, argv: Sequence[str]) -> tuple[int, str]:
        answer = Capture()
        status = await self._sandbox.run(self._step(argv, quiet=True), answer)
        return status, answer.text

    def _step(self, argv: Sequence[str], *, quiet: bool) -> Step:
        return Step(
            argv=tuple(argv), env=self._env, cwd=self._build, uid=self._uid, quiet=quiet, limits=self._limits
        )


def _failure(status: int) -> str:
    if status >= 0:
        return f"The build ended with status {status}; its last lines above say why."
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if -status == signal.SIGKILL:
        return "The build was killed (SIGKILL): most likely the server ran out of memory."
    if -status == signal.SIGXFSZ:
        return "The build wrote a file that is larger than the server allows (SIGXFSZ)."
    return f"The build was ended by {name}; its last lines above may say why."
