"""The SSH endpoint: takes connections, and hands each session to the push, the fetch or the admin command."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncssh

from builder.base import Builder
from builder.source import export_source
from controller.client import Client
from controller.config import Settings
from gitreceive.auth import Door, FindKey, Visitor
from gitreceive.command import CommandRequest
from gitreceive.doors import Doors
from gitreceive.git import find_git
from gitreceive.images import ImageDoors
from gitreceive.keys import ensure_key
from gitreceive.places import Places
from gitreceive.push import Workshop, sweep_sources
from gitreceive.repos import Repositories
from gitreceive.session import Context, Session
from gitreceive.sources import ExportSource, Sources
from gitreceive.turns import Line, Turns

if TYPE_CHECKING:
    from builder.images import ImageStore

log = logging.getLogger(__name__)

LOGIN_TIMEOUT = 30.0
MAX_PUSHES, MAX_PUSHES_OF_ONE = 24, 16
"""Pushes at once over the whole server, and of one user; each has a thread. More wait for their turn."""
MAX_FETCHES, MAX_FETCHES_OF_ONE = 8, 5
MAX_TRANSFERS, MAX_TRANSFERS_OF_ONE = 48, 16
"""Of large files: places of their own, because a push that has one waits for them. git-lfs opens eight at once."""
MAX_SESSIONS = 256
MAX_SESSIONS_OF_ONE = 64
"""Of all kinds, waiting ones included, in all and of one user; a connection may open several."""
CLOSE_TIMEOUT = 15.0
"""Seconds that sessions get to end when the server stops."""
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")


class GitReceive:
    """The SSH endpoint of one server."""

    def __init__(
        self,
        settings: Settings,
        *,
        find_key: FindKey,
        connect: Callable[[str], Client],
        builder: Builder,
        run_command: Callable[[CommandRequest], Awaitable[int]],
        export_source: ExportSource = export_source,
        images: "ImageStore | None" = None,
    ) -> None:
        """`connect` gives a client that acts as that user; each session closes its own.

        `run_command` runs an admin command and returns its exit status; it is cancelled when the
        client goes away. `images`: of the engine that instances run on, where there is one.
        """
        self._settings = settings
        self._find_key = find_key
        self._door = Door()
        self._git = find_git()
        self._threads = ThreadPoolExecutor(MAX_PUSHES + MAX_FETCHES, thread_name_prefix="push")
        self._context = Context(
            settings=settings,
            connect=connect,
            run_command=run_command,
            repositories=Repositories(settings.folders.repositories, self._git),
            git=self._git,
            workshop=Workshop(
                settings=settings,
                builder=builder,
                sources=Sources(settings, export_source),
                turns=Turns(),
                places=Line(settings.builds_at_once or os.cpu_count() or 1),
            ),
            threads=self._threads,
            push_places=Places(MAX_PUSHES, MAX_PUSHES_OF_ONE),
            fetch_places=Places(MAX_FETCHES, MAX_FETCHES_OF_ONE),
            large_places=Places(MAX_TRANSFERS, MAX_TRANSFERS_OF_ONE),
        )
        self.doors = Doors(self._context)
        self.images = ImageDoors(self._context, images)
        """The same pipeline over HTTP; closed with this."""
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._listener: asyncssh.SSHAcceptor | None = None
        self._key: asyncssh.SSHKey | None = None

    @property
    def port(self) -> int:
        """Of the running server."""
        assert self._listener is not None
        return self._listener.get_port()

    @property
    def fingerprint(self) -> str:
        """Of the host key, `SHA256:…`; there once started."""
        assert self._key is not None
        return self._key.get_fingerprint()

    async def start(self) -> None:
        """Sweep what a killed server left, then listen. Raises OSError when the address can't be had."""
        for chatty in ("asyncssh", "dulwich"):
            # asyncssh logs whole command lines, and `config:set` has secrets on its own.
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._key = await asyncio.to_thread(ensure_key, self._settings.folders.host_key)
        await self._context.repositories.sweep()
        await asyncio.to_thread(sweep_sources, self._settings.folders.builds)
        self._listener = await asyncssh.listen(
            self._settings.ssh.host,
            self._settings.ssh.port,
            server_factory=lambda: Visitor(self._door, self._find_key),
            process_factory=self._serve,
            server_host_keys=[self._key],
            encryption_algs=CIPHERS,
            encoding=None,
            line_editor=False,
            login_timeout=LOGIN_TIMEOUT,
            keepalive_interval=self._settings.keep_alive,
            keepalive_count_max=3,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            sftp_factory=None,
            compression_algs=None,
            gss_host=None,
            rdns_lookup=False,
            server_version="Mooring",
        )
        log.info("ssh endpoint listens address=%s host_key=%s", self._settings.ssh, self.fingerprint)

    async def close(self) -> None:
        """Stop listening and end all sessions: builds are cancelled, nothing half made stays."""
        if self._listener is not None:
            self._listener.close()
        for session in self._sessions.values():
            session.abort()
        await self.doors.close()
        await self.images.close()
        if self._sessions:
            await asyncio.wait(set(self._sessions), timeout=CLOSE_TIMEOUT)
        await self._context.repositories.close()
        for connection in list(self._door.connections):
            connection.abort()
        if self._listener is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._listener.wait_closed()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        visitor: Visitor = process.get_extra_info("connection").get_extra_info("visitor")
        if refusal := self._refusal(visitor):
            process.stderr.write(f" !     {refusal}\n".encode())
            process.exit(1)
            return
        assert visitor.key is not None
        session = Session(process, visitor.key, self._context)
        # A task of our own: asyncssh cancels its tasks with the connection, at once and without waiting.
        task = asyncio.create_task(session.run())
        self._sessions[task] = session
        task.add_done_callback(lambda done: self._sessions.pop(done, None))

    def _refusal(self, visitor: Visitor) -> str | None:
        """Why this connection gets no session now; None when it does."""
        if visitor.key is None or not visitor.may_still():
            return "The key that you logged in with was removed."
        if len(self._sessions) >= MAX_SESSIONS:
            return "The server is busy with too many sessions; try again in a moment."
        user = visitor.key.user
        if sum(each.user == user for each in self._sessions.values()) >= MAX_SESSIONS_OF_ONE:
            return f"{user} has {MAX_SESSIONS_OF_ONE} sessions already; end some, or try again in a moment."
        return None
