"""HAProxy as a process of its own: started, found again, reloaded, ended.

It runs as master and worker. The master keeps the listening sockets through a reload, and knows the
workers that still finish what they had; it dies with its worker, so that a crash is seen by its silence.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from router.base import RouterError
from router.haproxy_access import AccessPipe
from router.haproxy_config import HaproxyConfig, Identity
from router.runtime_api import NotRunning, RuntimeApi

_LOG_LIMIT = 1024 * 1024
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IN_USE = "Address already in use"


class PortInUse(RouterError):
    """Somebody else listens where we should."""


class HaproxyProcess:
    """The one HAProxy that belongs to a folder. `start_limit`: seconds it may take to load and to end."""

    def __init__(self, config: HaproxyConfig, *, time_limit: float, start_limit: float = 30.0) -> None:
        self._config = config
        self._start_limit = start_limit
        self._child: subprocess.Popen[bytes] | None = None
        self.access = AccessPipe(config.access_pipe)
        self.runtime = RuntimeApi(config.socket, time_limit)
        self._master = RuntimeApi(config.master_socket, time_limit)

    @property
    def log(self) -> Path:
        """What HAProxy says of itself; the one before it is kept as `.1`."""
        return self._config.folder / "haproxy.log"

    async def start(self, expected: Identity) -> None:
        """Start from the current configuration and wait until it serves; raises RouterError with HAProxy's words."""
        await self._end_leftover()
        deadline = asyncio.get_running_loop().time() + 2
        while True:
            try:
                return await self._attempt_start(expected)
            except PortInUse:
                # A worker whose master was killed keeps the port for a moment.
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def reload(self, expected: Identity) -> None:
        """Load the current configuration; a new worker takes over the sockets, the old one finishes its requests.

        Raises RouterError, with the old worker serving on, when HAProxy refuses it.
        """
        self.bound_log()
        told_before = self._log_size()
        await self._master.ask_once("reload")
        if not await self._wait_until_serving(expected, failed=lambda: self._load_failed(told_before)):
            raise RouterError(f"HAProxy did not take its new configuration: {self._complaint(told_before)}")

    async def find_identity(self) -> tuple[int, Identity | None] | None:
        """Process id and identity of the worker that serves; None when there is none."""
        with contextlib.suppress(NotRunning):
            async with self.runtime.session() as session:
                return parse_info(await session.ask("show info"))
        return None

    def has_lost_master(self) -> bool:
        """Whether the master was killed: its worker still answers for a moment, and then ends."""
        return self._pid_file.exists() and self._find_master() is None

    def is_piped(self) -> bool:
        """Whether it writes into our pipe; one that an older release started does not."""
        pid = self._find_master()
        return pid is not None and self.access.is_written_by(pid)

    async def dropped_logs(self) -> tuple[int, int]:
        """Process id of the worker that serves, and how many lines it found no room for since it began."""
        async with self.runtime.session() as session:
            answer = await session.ask("show info")
        facts = dict(line.partition(": ")[::2] for line in answer.splitlines())
        return parse_info(answer)[0], int(facts.get("DroppedLogs", "0"))

    async def old_workers(self) -> tuple[int, ...]:
        """Process ids of workers that finish what they had when a newer one took over."""
        return (await self._show_workers())[1]

    async def ask_old_worker(self, pid: int, command: str) -> str | None:
        """None when that worker is gone."""
        answer = await self._master.ask_once(f"@!{pid} {command}")
        return None if not answer or answer.startswith("Can't find the target") else answer

    async def shutdown(self) -> None:
        """End master and workers, cutting what they work on; nothing when they are not there."""
        pid = self._find_master()
        if pid is not None:
            await self._end(pid)
        for path in (self._config.socket, self._config.master_socket, self._pid_file):
            path.unlink(missing_ok=True)

    def bound_log(self) -> None:
        """Keep the log below its limit. HAProxy appends, so that cutting it from outside is safe."""
        if self._log_size() > _LOG_LIMIT:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    @property
    def _pid_file(self) -> Path:
        return self._config.folder / "haproxy.pid"

    async def _attempt_start(self, expected: Identity) -> None:
        self.bound_log()
        told_before = self._log_size()
        spawning = asyncio.ensure_future(asyncio.to_thread(self._spawn))
        try:
            child = await asyncio.shield(spawning)
            serves = await self._wait_until_serving(expected, failed=lambda: child.poll() is not None)
        except asyncio.CancelledError:
            with contextlib.suppress(RouterError):
                (await spawning).kill()  # nobody waits for it to load any more
            raise
        if not serves:
            await self._end(child.pid)
            complaint = self._complaint(told_before)
            if _IN_USE in complaint:
                raise PortInUse(
                    f"HAProxy can't listen on {self._config.listen}: {self._config.whose_port} is in use by another "
                    f"program. End that program, or choose another address ({self._config.setting})."
                )
            raise RouterError(f"HAProxy does not start: {complaint}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        binary = shutil.which("haproxy", path=_PATH)
        if binary is None:
            raise RouterError(
                "The program haproxy is not installed: `apt-get install haproxy` (2.6 or newer)."
            )
        command = [binary, "-W", "-S", f"{self._config.master_socket},mode,600", "-f", str(self._config.file)]
        self._config.prepare()
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        output = self.access.open_for_writing()
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=descriptor,
                cwd="/",
                env={"PATH": _PATH, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            raise RouterError(f"HAProxy can't be started: {error.strerror}.") from error
        finally:
            os.close(descriptor)
            os.close(output)
        self._child = child
        self._pid_file.write_text(f"{child.pid}\n")
        return child

    async def _wait_until_serving(self, expected: Identity, *, failed: Callable[[], bool]) -> bool:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._start_limit
        while clock() < deadline:
            if await self._is_serving(expected):
                return True
            if failed():
                return False
            await asyncio.sleep(0.01)
        return False

    async def _show_workers(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Process ids of the worker that serves, and of older ones."""
        answer = await self._master.ask_once("show proc")
        if "# workers" not in answer:
            raise NotRunning(f"HAProxy's master answered 'show proc' with {answer[:80]!r}.")
        sections: dict[str, list[int]] = {"# workers": [], "# old workers": []}
        section: list[int] = []
        for line in answer.splitlines():
            if line.startswith("#"):
                section = sections.get(line.strip(), [])
            elif words := line.split():
                section.append(int(words[0]))
        return tuple(sections["# workers"]), tuple(sections["# old workers"])

    async def _is_serving(self, expected: Identity) -> bool:
        """Whether worker and master both have arrived there: the master is the later one."""
        found = await self.find_identity()
        if found is None or found[1] != expected:
            return False
        with contextlib.suppress(NotRunning):
            return found[0] in (await self._show_workers())[0]
        return False

    def _load_failed(self, told_before: int) -> bool:
        return "Loading failure" in self._told_since(told_before)

    def _complaint(self, told_before: int) -> str:
        told = self._told_since(told_before)
        alerts = [
            re.sub(r"^\[ALERT\]\s*\(\d+\) : ", "", line) for line in told.splitlines() if "[ALERT]" in line
        ]
        return " ".join(alerts[:3]) or f"it did not serve within {self._start_limit:g} s (see {self.log})."

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _told_since(self, offset: int) -> str:
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read(65536).decode(errors="replace")

    async def _end_leftover(self) -> None:
        """End a process of ours that no longer answers, so that its port is free."""
        if (pid := self._find_master()) is not None:
            await self._end(pid)

    def _find_master(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._config.file) in words and self._is_alive(pid) else None

    async def _end(self, pid: int) -> None:
        for sign, seconds in (
            (signal.SIGTERM, self._start_limit / 3),
            (signal.SIGKILL, self._start_limit / 3),
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
            for _ in range(int(seconds / 0.01)):
                if not self._is_alive(pid):
                    return
                await asyncio.sleep(0.01)

    def _is_alive(self, pid: int) -> bool:
        if self._child is not None and self._child.pid == pid:
            return self._child.poll() is None
        try:
            # `pid (name) state …`; the name may hold spaces.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
        except OSError:
            return False


def parse_info(answer: str) -> tuple[int, Identity | None]:
    """Process id and identity from `show info`; identity None when that process is ending, or not ours."""
    facts = dict(line.partition(": ")[::2] for line in answer.splitlines())
    try:
        pid, stopping = int(facts["Pid"]), facts["Stopping"] != "0"
    except (KeyError, ValueError) as error:
        raise RouterError(f"HAProxy answered 'show info' with {answer[:80]!r}.") from error
    return pid, None if stopping else Identity.find(facts.get("description", ""))
