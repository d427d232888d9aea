"""The engine's own builder, for engines and machines without BuildKit."""

import asyncio
import json
import re
import socket
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests
from docker import APIClient
from docker.utils.build import exclude_paths

from builder.threads import Check, completed
from builder.transcript import Transcript
from builder.tree import megabytes
from builder.types import BuildOutput
from controller.engine import REALM, Engine, EngineError, translated

IGNORE = ".dockerignore"
MAX_IGNORE = 256 * 1024
CPU_PERIOD = 100_000
KILLED = "137"
CONFINE_TIMEOUT = 10.0
_PIECE = 256 * 1024
_STEP = re.compile(r"Step (\d+/\d+) : (.*)")
_IMAGE = re.compile(r" ---> ([0-9a-f]{12,64})")
_RUNNING = re.compile(r" ---> Running in ([0-9a-f]{12,64})")
_STATUS = re.compile(r"returned a non-zero code: (\d+)")
_NOISE = re.compile(
    r"Removing intermediate container |Successfully (built|tagged) |\[Warning\] One or more build-args"
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of each step; 0: none."""

    memory: int = 0
    cpu: float = 0.0
    pids: int = 0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One build of a Dockerfile."""

    dockerfile: str
    target: str
    args: Mapping[str, str]
    labels: Mapping[str, str]
    network: str
    """`default`, `none` or a network of the engine."""
    cached: bool


@dataclass(frozen=True)
class Outcome:
    """What there is afterwards, also of a build that failed."""

    image: str
    """Its id; empty where it failed."""
    stages: Sequence[str]
    """Ids of the last images of stages before the last one."""
    unfinished: str
    """The last image of a build that failed."""
    error: str


def query(wish: Wish, limits: Limits) -> Mapping[str, Any]:
    """Of the request that begins it. Pure."""
    found: dict[str, Any] = {
        "dockerfile": wish.dockerfile,
        "buildargs": json.dumps(dict(wish.args)),
        "labels": json.dumps(dict(wish.labels)),
        "networkmode": wish.network,
        "rm": "1",
        "forcerm": "1",
    }
    if wish.target:
        found["target"] = wish.target
    if not wish.cached:
        found["nocache"] = "1"
    if limits.memory:
        found |= {"memory": limits.memory, "memswap": limits.memory}
    if limits.cpu:
        found |= {"cpuperiod": CPU_PERIOD, "cpuquota": int(limits.cpu * CPU_PERIOD)}
    return found


def write_context(source: Path, dockerfile: str, target: Path, check: Check) -> None:
    """The files that the Dockerfile may see, as a tar, without those that `.dockerignore` names. Blocking."""
    names = exclude_paths(str(source), [*_ignored(source), f"!{dockerfile}"], dockerfile=dockerfile)
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(names):
            check()
            info = archive.gettarinfo(str(source / name), arcname=name)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isreg():
                with (source / name).open("rb") as content:
                    archive.addfile(info, content)
            elif info.isdir() or info.issym():
                archive.addfile(info)


def _ignored(source: Path) -> Sequence[str]:
    file = source / IGNORE
    if file.is_symlink() or not file.is_file():
        return ()
    with file.open("rb") as content:
        lines = content.read(MAX_IGNORE).decode("utf-8", "surrogateescape").splitlines()
    stripped = [each.strip() for each in lines]
    return [each for each in stripped if each and not each.startswith("#")]


async def build(engine: Engine, wish: Wish, limits: Limits, context: Path, out: BuildOutput) -> Outcome:
    """Cancelled: the engine ends the build as soon as we hang up, its container with it. Raises EngineError."""
    shown = ClassicLog(out, limits.memory)
    transcript = Transcript(shown)
    line = _Line(engine, query(wish, limits), context)
    loop = asyncio.get_running_loop()

    def take(event: Mapping[str, Any], taken: threading.Event) -> None:
        try:
            _take(event, shown, transcript)
        finally:
            taken.set()

    def work() -> None:
        for event in line.events():
            if limits.pids and (running := _RUNNING.match(str(event.get("stream", "")))):
                _confine(engine, running[1], limits.pids)
            taken = threading.Event()
            loop.call_soon_threadsafe(take, event, taken)
            taken.wait()  # so that no more waits for the event loop than one event

    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except _Refused as error:
        return Outcome("", (), "", str(error))
    finally:
        line.hang_up()
        await completed(asyncio.wait({task}))
        if not task.cancelled():
            task.exception()
        transcript.finish()
    return shown.outcome()


class _Refused(Exception):
    """The engine does not begin with it: a Dockerfile that can't be read, for one."""


class _Line:
    """The connection that one build is told on. The engine ends the build with it."""

    def __init__(self, engine: Engine, params: Mapping[str, Any], context: Path) -> None:
        self._engine = engine
        self._params = params
        self._context = context
        self._over = threading.Event()
        self._answer: requests.Response | None = None

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Until the build has ended, or we hung up. Blocking. Raises EngineError."""
        client = self._engine.connect()
        try:
            yield from self._events(client)
        except (EngineError, _Refused, GeneratorExit):
            raise
        except Exception as error:
            if not self._over.is_set():
                raise translated(error, self._engine.url) from error
        finally:
            client.close()

    def hang_up(self) -> None:
        self._over.set()
        self._shut()

    def _shut(self) -> None:
        connection = getattr(getattr(self._answer, "raw", None), "_connection", None)
        if (stream := getattr(connection, "sock", None)) is not None:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads

    def _events(self, client: APIClient) -> Iterator[Mapping[str, Any]]:
        with self._context.open("rb") as content:
            # Without a limit of time: a step may be silent for as long as the build may take.
            answer = self._answer = client.post(
                f"{client.base_url}/v{client.api_version}/build",
                params=self._params,
                data=self._pieces(content),
                headers={"Content-Type": "application/x-tar"},
                stream=True,
                timeout=None,
            )
        if self._over.is_set():  # there was nothing yet to be hung up
            self._shut()
        if answer.status_code >= 500:
            raise EngineError(f"The container engine says: {_said(answer)}")
        if answer.status_code >= 400:
            raise _Refused(_said(answer))
        decoder, rest = json.JSONDecoder(), ""
        for piece in answer.iter_content(chunk_size=None):
            rest += piece.decode("utf-8", "replace")
            while rest := rest.lstrip():
                try:
                    event, end = decoder.raw_decode(rest)
                except ValueError:
                    break
                rest = rest[end:]
                yield event

    def _pieces(self, content: IO[bytes]) -> Iterator[bytes]:
        while not self._over.is_set() and (piece := content.read(_PIECE)):
            yield piece


class ClassicLog:
    """A BuildOutput that is told what the engine prints and tells its steps in our form."""

    def __init__(self, out: BuildOutput, memory: int = 0) -> None:
        """`memory`: the limit of each step, in bytes."""
        self._out = out
        self._memory = memory
        self._stages: list[str] = []
        self._last = ""
        self._step = ""
        self._first = True
        self.image = ""
        self.error = ""

    def line(self, text: str) -> None:
        if (step := _STEP.fullmatch(text)) is not None:
            self._begin(step[1], step[2])
        elif _RUNNING.match(text) or _NOISE.match(text) or not text.strip():
            return
        elif (image := _IMAGE.fullmatch(text)) is not None:
            self._last = image[1]
        elif text == " ---> Using cache":
            self._out.line("Taken from the cache")
        else:
            self._out.line(text)

    def step(self, text: str) -> None:
        self._out.step(text)

    def warn(self, text: str) -> None:
        self._out.warn(text)

    def outcome(self) -> Outcome:
        failed = "" if self.image and not self.error else self._last
        return Outcome(self.image if not self.error else "", tuple(self._stages), failed, self._failure())

    def _begin(self, place: str, command: str) -> None:
        if command.upper().startswith("FROM ") and not self._first:
            self._stages.append(self._last)
        self._first = False
        self._step = command
        if not command.startswith(("LABEL mooring.", f"LABEL {REALM}")):
            self._out.step(f"Step {place}: {command}")

    def _failure(self) -> str:
        exited = _STATUS.search(self.error)
        if exited and exited[1] == KILLED and self._memory:
            return (
                f"{self._step!r} was killed: most likely it used more than {megabytes(self._memory)} of memory, the "
                "limit of this server (build_memory)."
            )
        if exited:
            return f"{self._step!r} ended with status {exited[1]}; its last lines above say why."
        if self.error and self._step:
            return f"{self._step!r} failed: {self.error}"
        return f"The Dockerfile can't be built: {self.error}" if self.error else ""


def _take(event: Mapping[str, Any], shown: ClassicLog, transcript: Transcript) -> None:
    if "stream" in event:
        transcript.feed(str(event["stream"]).encode("utf-8", "replace"))
    elif "error" in event:
        shown.error = str(event["error"])
    elif identity := (event.get("aux") or {}).get("ID"):
        shown.image = str(identity)


def _confine(engine: Engine, container: str, pids: int) -> None:
    """The request that begins a build has no place for this limit."""

    def work(client: APIClient) -> None:
        url = f"{client.base_url}/v{client.api_version}/containers/{container}/update"
        client.post(url, json={"PidsLimit": pids}, timeout=CONFINE_TIMEOUT)

    with suppress(EngineError):  # it has ended already
        engine.perform(work)


def _said(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError):
        return answer.text[:300]
