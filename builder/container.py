"""Runs build containers; nothing else does. One takes a tar on its standard input, and gives one on its output.

All goes through the engine's own streams, so that it may be on another machine. What is read of the output is
read in a thread: it comes as fast as it is taken, and no faster.
"""

import asyncio
import contextlib
import io
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import docker.errors
from docker import APIClient
from docker.types import LogConfig, Ulimit

from builder.threads import completed
from builder.transcript import Sink
from controller.engine import REALM, Engine, EngineError, NotThere, Taken

log = logging.getLogger(__name__)

T = TypeVar("T")

KIND = "mooring.kind"
BUILD = "build"
NETWORK_KIND = "builds"
CACHE_KIND = "cache"
ISOLATED, NONE = "isolated", "none"
MAX_FILE = 8 * 1024**3
"""Bytes of one file that a build writes."""
CPU_SHARES = 128
"""Of the usual 1024: apps and the server go first where processors are short."""
END_TIMEOUT = 30
"""Seconds until a container that has closed its output must have ended."""
_STDOUT, _HEAD = 1, 8
_PIECE = 16 * 1024
"""Bytes of the log that the event loop is given at once."""

Receive = Callable[[io.BufferedReader], T]
"""Reads the standard output, in a thread."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to run, and what it may take; 0 is no limit."""

    name: str
    image: str
    user: str = ""
    """Empty: the image's own."""
    arguments: tuple[str, ...] = ("-",)
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[str, ...] = ()
    """`SOURCE:PLACE`: folders of ours, or volumes."""
    network: str = "bridge"
    confined: bool = True
    """Without capabilities: for images that need to be no root."""
    memory: int = 0
    pids: int = 0
    cpu: float = 0.0


@dataclass(frozen=True)
class End:
    status: int
    out_of_memory: bool


class Container:
    """One that runs. Raises EngineError."""

    def __init__(self, engine: Engine, name: str, stream: Any) -> None:
        self._engine = engine
        self.name = name
        self._stream = stream

    @classmethod
    async def start(cls, engine: Engine, realm: str, wish: Wish) -> "Container":
        """It runs when this returns, and waits for its input. `remove` takes away what a cancel leaves."""
        return await engine.call(lambda client: cls(engine, wish.name, _start(client, realm, wish)))

    async def converse(
        self, feed: Iterable[bytes], receive: Receive[T], sink: Sink, *, keep_open: bool = False
    ) -> T:
        """Send all of `feed`, and read its output with `receive`; `sink` gets what it prints on standard error.

        `keep_open`: its input ends only with us, so that it can tell that we have gone.
        What `receive` raises is raised. A caller that is cancelled must remove the container, which ends the thread.
        """
        loop = asyncio.get_running_loop()

        async def show(data: bytes) -> None:
            sink.feed(data)

        def take(data: bytes) -> None:
            for start in range(0, len(data), _PIECE):
                asyncio.run_coroutine_threadsafe(show(data[start : start + _PIECE]), loop).result()

        def work() -> T:
            sender = threading.Thread(target=_send, args=(self._stream, feed, keep_open), daemon=True)
            sender.start()
            output = _Output(self._stream, take)
            result = receive(io.BufferedReader(output, 256 * 1024))
            output.finish()  # the last of the log may come behind the last of the slug
            return result

        pool = ThreadPoolExecutor(1, thread_name_prefix="build")
        reading = loop.run_in_executor(pool, work)
        try:
            return await asyncio.shield(reading)
        except BaseException:
            # Without the stream the thread comes to its end.
            self._stream.shut()
            await completed(asyncio.wait({reading}))
            raise
        finally:
            pool.shutdown(wait=False)

    async def end(self) -> End:
        """How it ended, once its output has."""

        def work(client: APIClient) -> End:
            status = client.wait(self.name, timeout=END_TIMEOUT)["StatusCode"]
            state = client.inspect_container(self.name)["State"]
            return End(int(status), bool(state["OOMKilled"]))

        return await self._engine.call(work)

    async def written(self) -> int:
        """Bytes that it has written to its own disk. The engine counts its files, which takes a while."""

        def work(client: APIClient) -> int:
            found = client.containers(all=True, size=True, filters={"name": f"^/{self.name}$"})
            return int(found[0].get("SizeRw") or 0) if found else 0

        return await self._engine.call(work)


async def remove(engine: Engine, name: str) -> None:
    """Kill it and take it away with all that it wrote; fine where there is none."""
    with contextlib.suppress(NotThere, Taken):
        await engine.call(lambda client: client.remove_container(name, force=True, v=True))


async def sweep(engine: Engine, realm: str) -> None:
    """Remove what builds of an earlier server left."""
    labels = [f"{REALM}={realm}", f"{KIND}={BUILD}"]
    found = await engine.call(lambda client: client.containers(all=True, filters={"label": labels}))
    for each in found:
        await remove(engine, each["Id"])


async def ensure_volume(engine: Engine, realm: str, name: str, *, anew: bool) -> str:
    """A volume that keeps what builds leave in it, for an engine that does not see our files; its name.

    `anew`: without what it had.
    """

    def work(client: APIClient) -> None:
        if anew:
            with contextlib.suppress(docker.errors.NotFound):
                client.remove_volume(name)
        client.create_volume(name, labels={REALM: realm, KIND: CACHE_KIND})

    await completed(engine.call(work))
    return name


async def ensure_network(engine: Engine, realm: str, wanted: str) -> str:
    """The network of the engine that the setting `build_network` means."""
    if wanted != ISOLATED:
        return wanted
    name = _network(realm)

    def work(client: APIClient) -> None:
        if client.networks(names=[name]):
            return
        client.create_network(
            name,
            driver="bridge",
            check_duplicate=True,
            labels={REALM: realm, KIND: NETWORK_KIND},
            # One build can't reach another, nor an app.
            options={"com.docker.network.bridge.enable_icc": "false"},
        )

    with contextlib.suppress(Taken):  # another build made it meanwhile
        await completed(engine.call(work))
    return name


async def remove_network(engine: Engine, realm: str) -> None:
    """The one of builds, where there is one and nothing is in it: an engine has addresses for some thirty only."""
    with contextlib.suppress(EngineError):
        await engine.call(lambda client: client.remove_network(_network(realm)))


def _network(realm: str) -> str:
    return f"mooring-builds-{realm}"


def _start(client: APIClient, realm: str, wish: Wish) -> Any:
    host = client.create_host_config(
        binds=list(wish.binds),
        network_mode=wish.network,
        init=True,
        cap_drop=["ALL"] if wish.confined else ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SYS_CHROOT"],
        security_opt=["no-new-privileges"] if wish.confined else [],
        mem_limit=wish.memory or None,
        memswap_limit=wish.memory or None,
        pids_limit=wish.pids or None,
        nano_cpus=int(wish.cpu * 1e9) or None,
        cpu_shares=CPU_SHARES,
        ulimits=[
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="fsize", soft=MAX_FILE, hard=MAX_FILE),
        ],
        # The log goes where the build is followed; kept by the engine too it could fill its disk.
        log_config=LogConfig(type="none"),
        oom_score_adj=800,
    )
    client.create_container(
        wish.image,
        list(wish.arguments),
        name=wish.name,
        user=wish.user or None,
        environment=dict(wish.env),
        labels={REALM: realm, KIND: BUILD},
        stdin_open=True,
        host_config=host,
    )
    raw = client.attach_socket(wish.name, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    stream = _Stream(raw)
    client.start(wish.name)
    return stream


class _Stream:
    """The connection to a container's streams, whatever it is made of: a socket, or a channel of SSH."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        """Held: its end is the connection's."""
        self._socket = getattr(raw, "_sock", raw)
        self._socket.settimeout(None)
        self.is_shut = False

    def recv(self, size: int) -> bytes:
        data: bytes = self._socket.recv(size)
        return data

    def sendall(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close_input(self) -> None:
        if hasattr(self._socket, "shutdown_write"):
            self._socket.shutdown_write()
        else:
            self._socket.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        """Both ways, and for good: whoever reads or writes it finds its end."""
        self.is_shut = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if hasattr(self._socket, "shutdown_write"):
            self._socket.close()  # a channel of SSH does not wake its reader otherwise


class _Output(io.RawIOBase):
    """Standard output, out of the frames in which both outputs come; standard error is handed on."""

    def __init__(self, stream: _Stream, errors: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._errors = errors
        self._kind = 0
        self._left = 0
        """Bytes of the frame that is read that have not come yet."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if not self._left and not self._next():
                return 0
            if self._kind == _STDOUT:
                data = self._stream.recv(min(self._left, len(buffer)))
                self._left -= len(data)
                buffer[: len(data)] = data
                return len(data)
            self._hand_on()

    def finish(self) -> None:
        """Read to the end."""
        while self._left or self._next():
            if self._kind == _STDOUT:
                if not (data := self._stream.recv(min(self._left, 65536))):
                    return
                self._left -= len(data)
            else:
                self._hand_on()

    def _hand_on(self) -> None:
        data = self._stream.recv(min(self._left, 65536))
        self._left = self._left - len(data) if data else 0
        if data:
            self._errors(data)

    def _next(self) -> bool:
        """Read the head of the next frame; False at the end."""
        head = b""
        while len(head) < _HEAD:
            data = self._stream.recv(_HEAD - len(head))
            if not data:
                return False
            head += data
        self._kind, self._left = head[0], int.from_bytes(head[4:], "big")
        return True


def _send(stream: _Stream, feed: Iterable[bytes], keep_open: bool) -> None:
    try:
        for piece in feed:
            stream.sendall(piece)
        if not keep_open:
            stream.close_input()
    except Exception:
        # It has ended already, or was ended: how is found out where its output is read. Or the source can't be
        # read: then the container must not wait for the rest of it.
        if not stream.is_shut:
            log.info("the input of a build container broke", exc_info=True)
        stream.shut()
