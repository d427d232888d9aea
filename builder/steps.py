"""The steps of a build: programs run one after the other in one place, and what their end means."""

import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from builder.base import BuildFailed
from builder.buildpack import Buildpack, Release, parse_release
from builder.transcript import Capture, Sink, Transcript
from builder.types import BuildOutput

NOT_FROM_EXPORT = re.compile(r"PWD|OLDPWD|SHLVL|_|BASH_.*|LD_PRELOAD")
_SOURCE = 'cd "$2" && . "$1" >&2 && exec env -0'
"""A shell line: nothing but fixed text and its two arguments."""


LIMITS: Mapping[str, int] = {"CORE": 0, "NOFILE": 65536, "NPROC": 2048, "FSIZE": 8 * 1024**3}
"""Names as in `resource.RLIMIT_…`. NPROC counts all processes of the user id, instances included."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One program to run."""

    argv: tuple[str, ...]
    """The program by its whole path, then its arguments."""
    env: Mapping[str, str]
    """Its whole environment."""
    cwd: Path
    uid: int | None
    quiet: bool = False
    """Drop what it prints on standard error."""
    limits: Mapping[str, int] = field(default_factory=lambda: LIMITS)
    timeout: float | None = None
    """Seconds; None: as long as the build."""


class Runner(Protocol):
    """Where steps run: a warden of this machine, or a container."""

    async def run(self, step: Step, sink: Sink) -> int:
        """Its exit status, negative for a signal. Raises BuilderUnavailable when it can't be started, TimeoutError
        when its own time is up; it may still run then, until the build ends."""


class Steps:
    """All with the same tree (their working directory), user and environment.

    The environment grows by what buildpacks export for those after them.
    """

    def __init__(
        self,
        runner: Runner,
        env: Mapping[str, str],
        *,
        cwd: Path,
        uid: int | None,
        cause: Callable[[], str] = lambda: "",
    ) -> None:
        """`cause`: asked when a step has failed: the sentence for people where a limit ended it, else ""."""
        self._runner = runner
        self._env = dict(env)
        self._build = cwd
        self._uid = uid
        self._cause = cause
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
            status = await self._runner.run(self._step(argv, quiet=False), transcript)
        finally:
            transcript.finish()
        if status != 0:
            raise BuildFailed(self._cause() or (status > 0 and transcript.verdict) or _failure(status))

    async def export(self, buildpack: Buildpack) -> None:
        """Let the steps that follow see what its file `export` sets. Raises BuildFailed."""
        if not buildpack.export.is_file():
            return
        shell = shutil.which("bash", path=self._env["PATH"]) or "/bin/sh"
        status, printed = await self._answer(
            (shell, "-c", _SOURCE, "export", str(buildpack.export), str(self._build))
        )
        if status != 0:
            raise BuildFailed(
                f"The file `export` of the buildpack {buildpack.name} failed (status {status})."
            )
        pairs = (each.partition("=") for each in printed.split("\0") if "=" in each)
        self._env.update({name: value for name, _, value in pairs if not NOT_FROM_EXPORT.fullmatch(name)})

    async def release(self, buildpack: Buildpack) -> Release:
        """What it declares. Raises BuildFailed."""
        argv = buildpack.release(self._build)
        if argv is None:
            return Release()
        status, printed = await self._answer(argv)
        if status != 0:
            raise BuildFailed(f"The buildpack's bin/release ended with status {status}.")
        return parse_release(printed)

    async def command(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] = MappingProxyType({}),
        limits: Mapping[str, int] = MappingProxyType({}),
        timeout: float | None = None,
    ) -> tuple[int, str]:
        """A program from PATH, with these beside the environment and the limits of all: its status (127: it
        is not there) and what it printed, errors too. Raises TimeoutError."""
        program = shutil.which(argv[0], path=self._env["PATH"])
        if program is None:
            return 127, ""
        answer = Capture()
        step = Step(
            argv=(program, *argv[1:]),
            env={**self._env, **env},
            cwd=self._build,
            uid=self._uid,
            limits={**self._limits, **limits},
            timeout=timeout,
        )
        return await self._runner.run(step, answer), answer.text

    async def _answer(self, argv: Sequence[str]) -> tuple[int, str]:
        answer = Capture()
        status = await self._runner.run(self._step(argv, quiet=True), answer)
        return status, answer.text

    def _step(self, argv: Sequence[str], *, quiet: bool) -> Step:
        return Step(
            argv=tuple(argv),
            env=dict(self._env),
            cwd=self._build,
            uid=self._uid,
            quiet=quiet,
            limits=self._limits,
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
