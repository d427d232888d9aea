"""BuildKit, through the docker command: the SDK does not speak its protocol."""

import asyncio
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.tree import megabytes
from builder.types import BuildOutput

PLACES = ("/usr/bin/docker", "/usr/local/bin/docker", "/usr/libexec/docker/docker", "/snap/bin/docker")
ASK_TIMEOUT = 10.0
LAST_WITHIN = 22
"""The last major version of the docker command that speaks BuildKit without the plugin buildx."""
KILLED = "137"
IMAGE_ID, SECRETS = "image-id", "secrets"
"""In the build's folder: where the image's id is written, and where secrets lie."""
_VERTEX = re.compile(r"#(\d+) (.*)")
_LOG = re.compile(r"\d+\.\d+ (.*)|\d+\.\d+$")
_STEP = re.compile(r"\[(?:(.+) )?(\d+/\d+)\] (.*)")
_DONE = re.compile(r"DONE \d|sha256:[0-9a-f]{64}|(transferring|resolve|extracting|exporting|writing|naming) ")
_STATUS = re.compile(r"exit code: (\d+)")


@dataclass(frozen=True)
class Program:
    """A docker command that builds with BuildKit."""

    path: str
    buildx: bool


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One build of a Dockerfile; paths are relative to the build's folder."""

    dockerfile: str
    """From the top of the context."""
    target: str
    args: Mapping[str, str]
    labels: Mapping[str, str]
    secrets: Sequence[str]
    network: str
    """`default` or `none`."""
    cached: bool
    host: str = ""
    """A name that steps know, for themselves: it tells them from those of others."""


def build_command(program: Program, wish: Wish, context: str) -> list[str]:
    """To be run in the build's folder."""
    command = [program.path, "build", "--progress=plain", "--file", f"{context}/{wish.dockerfile}"]
    command += ["--iidfile", IMAGE_ID, "--network", wish.network]
    if wish.target:
        command += ["--target", wish.target]
    for name, value in wish.labels.items():
        command += ["--label", f"{name}={value}"]
    for name, value in wish.args.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in wish.secrets:
        command += ["--secret", f"id={name},src={SECRETS}/{name}"]
    if wish.host:
        command += ["--add-host", f"{wish.host}:127.0.0.1"]
    if not wish.cached:
        command += ["--no-cache"]
    if program.buildx:
        command += ["--load", "--provenance=false"]
    return [*command, context]


def environment(folder: Path, url: str) -> Mapping[str, str]:
    """All that the command gets to see."""
    home = str(folder / "home")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "DOCKER_CONFIG": home,
        "DOCKER_HOST": url,
        "DOCKER_BUILDKIT": "1",
        "LANG": "C.UTF-8",
    }


async def find_program() -> Program | None:
    """The first docker command of this machine that can; None where none does."""
    found = [shutil.which("docker") or "", *PLACES]
    for path in dict.fromkeys(each for each in found if each and os.access(each, os.X_OK)):
        if await _asked(path, "buildx", "version") is not None:
            return Program(path, buildx=True)
        version = await _asked(path, "--version")
        match = re.search(r"version (\d+)\.", version or "")
        if match and 18 <= int(match[1]) <= LAST_WITHIN:
            return Program(path, buildx=False)
    return None


async def _asked(*command: str) -> str | None:
    """What it prints; None where it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
            cwd="/",
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(ASK_TIMEOUT):
            printed, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return printed.decode("utf-8", "replace") if process.returncode == 0 else None


class BuildKitLog:
    """A BuildOutput that is told BuildKit's plain progress and tells its steps in our form."""

    def __init__(self, out: BuildOutput) -> None:
        self._out = out
        self._titles: dict[str, str] = {}
        self._shown = ""
        self.failed_step = ""
        self.error = ""
        """The last complaint of BuildKit itself."""

    def line(self, text: str) -> None:
        match = _VERTEX.fullmatch(text)
        if match is None:
            self._complaint(text)
            return
        number, rest = match[1], match[2]
        if number not in self._titles:
            self._begin(number, rest)
        elif (log := _LOG.fullmatch(rest)) is not None:
            self._show(number)
            self._out.line(log[1] or "")
        elif rest == "CACHED":
            title = self._titles[number]
            if title and not title.startswith("FROM "):  # a base is there, or it is fetched
                self._show(number)
                self._out.line("Taken from the cache")
        elif rest.startswith("ERROR"):
            self.failed_step = self._titles[number]
            self.error = rest.removeprefix("ERROR:").strip()
        elif not _DONE.match(rest) and self._titles[number] and rest not in ("...", "CANCELED"):
            self._show(number)
            self._out.line(rest)

    def step(self, text: str) -> None:
        self._out.step(text)

    def warn(self, text: str) -> None:
        self._out.warn(text)

    def failure(self, status: int, *, memory: int = 0) -> str:
        """Why it failed, in a sentence. `memory`: the limit that was kept, in bytes."""
        exited = _STATUS.search(self.error)
        if exited and exited[1] == KILLED and memory:
            return (
                f"{self.failed_step!r} was killed: most likely it used more than {megabytes(memory)} of memory, the "
                "limit of this server (build_memory)."
            )
        if exited and self.failed_step:
            return f"{self.failed_step!r} ended with status {exited[1]}; its last lines above say why."
        return _tidied(self.error) or f"The build ended with status {status}; its last lines above say why."

    def _begin(self, number: str, title: str) -> None:
        step = _STEP.fullmatch(title)
        if step is None:
            self._titles[number] = ""
            return
        stage, place, command = step.groups()
        self._titles[number] = command
        self._shown = number
        self._out.step(f"Step {place}{f' of {stage}' if stage else ''}: {command}")

    def _show(self, number: str) -> None:
        """Steps run side by side: say whose line comes."""
        if number != self._shown and self._titles[number]:
            self._out.step(f"Still {self._titles[number]}")
            self._shown = number

    def _complaint(self, text: str) -> None:
        """Behind the steps it repeats the failed one, between dashes, and then says what it was."""
        if not text or text == "------" or text.startswith((" > ", ">>>", "----", "DEPRECATED")):
            return
        if not self.failed_step or text.startswith(("ERROR", "error", "failed")):
            self.error = text


def _tidied(text: str) -> str:
    for noise in ("ERROR: ", "failed to build: ", "failed to solve: ", "failed to solve with frontend "):
        text = text.removeprefix(noise)
    text = text.removeprefix("dockerfile.v0: ").removeprefix("failed to create LLB definition: ")
    return f"The Dockerfile can't be built: {text}" if text else ""
