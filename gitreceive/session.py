"""One SSH session: what it asks for is looked up, admitted, done; a client that goes away ends it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from dulwich.errors import GitProtocolError, HangupException
from dulwich.protocol import pkt_line

from controller.client import Client
from controller.config import Settings
from controller.errors import Forbidden, MooringError, NotFound, Unavailable
from controller.names import Address
from controller.types import Right, Service, SshKey
from gitreceive import fetch
from gitreceive.bridge import Bridge
from gitreceive.channel import ChannelReader, ChannelWriter
from gitreceive.command import (
    AdminRequest,
    CommandRequest,
    GitRequest,
    GitService,
    HelpRequest,
    LargeFilesRequest,
    parse_command,
)
from gitreceive.git import Git
from gitreceive.large import LargeFiles
from gitreceive.large_transfer import Packets, Transfer
from gitreceive.places import Places
from gitreceive.progress import Progress, harmless
from gitreceive.push import Workshop, expect_build
from gitreceive.receive import ReceiveHandler, Reception
from gitreceive.repos import BareRepository, PushedTo, Repositories
from gitreceive.rules import Rules

log = logging.getLogger(__name__)

ADMISSION_TIMEOUT = 10.0
"""Seconds that finding out whether somebody may push or fetch may take."""

_HELP = """\
Hello {user}. There is no shell here. What there is:

  git push ssh://HOST:PORT/APP.git main    build and deploy an app
  ssh -p PORT HOST help                    all commands
  ssh -p PORT HOST apps                    your apps
"""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all sessions of a server share."""

    settings: Settings
    connect: Callable[[str], Client]
    run_command: Callable[[CommandRequest], Awaitable[int]]
    repositories: Repositories
    git: Git | None
    workshop: Workshop
    threads: ThreadPoolExecutor
    push_places: Places
    fetch_places: Places
    large_places: Places


class Session:
    """One channel with one request."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes], key: SshKey, context: Context) -> None:
        self._process = process
        self._key = key
        self._context = context
        self._stdout = ChannelWriter(process.stdout)
        self._stderr = ChannelWriter(process.stderr)
        self._stdin = ChannelReader(process.stdin)
        self._bridge: Bridge | None = None
        self._work: asyncio.Task[int] | None = None

    async def run(self) -> None:
        """Serve the session to its end. Never raises."""
        self._work = asyncio.create_task(self._answer())
        gone = asyncio.create_task(self._process.wait_closed())
        await asyncio.wait({self._work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not self._work.done():
            log.info("client went away user=%s verb=%s", self._key.user, self._verb)
            self._leave()
            await asyncio.wait({self._work})
        gone.cancel()
        status = 1 if self._work.cancelled() else self._work.result()
        with suppress(OSError):
            self._process.exit(status)

    @property
    def user(self) -> str:
        """Whose it is."""
        return self._key.user

    def abort(self) -> None:
        """The server stops."""
        if self._bridge is not None:
            self._bridge.abort()
        elif self._work is not None:
            self._work.cancel()

    @property
    def _verb(self) -> str:
        # Never the whole command line: there may be secrets on it.
        return next(iter((self._process.command or "").split()), "")[:40]

    def _leave(self) -> None:
        # A push in its thread is ended through its bridge, so that it can put things in order first.
        if self._bridge is not None:
            self._bridge.disconnect()
        elif self._work is not None:
            self._work.cancel()

    async def _answer(self) -> int:
        """The exit status."""
        try:
            return await self._dispatch()
        except MooringError as error:
            self._complain(str(error))
        except (HangupException, asyncssh.Error, ConnectionError) as error:
            log.info("session ended user=%s error=%r", self._key.user, error)
        except GitProtocolError as error:
            log.info("session ended user=%s error=%r", self._key.user, str(error)[:300])
            self._complain(f"What your git sent can't be understood: {str(error)[:300]}.")
        except Exception:
            log.exception("session failed user=%s verb=%s", self._key.user, self._verb)
            self._complain("The server failed, through no fault of yours; its log has the cause.")
        return 1

    async def _dispatch(self) -> int:
        if self._process.subsystem:
            self._complain(f"There is no {harmless(self._process.subsystem)} here: push and fetch with git.")
            return 1
        match parse_command(self._process.command):
            case HelpRequest():
                self._stdout.write(_HELP.format(user=self._key.user).encode())
                return 0
            case AdminRequest(argv):
                return await self._run_command(argv)
            case GitRequest(GitService.PUSH, address):
                return await self._push(address)
            case GitRequest(GitService.FETCH, address):
                return await self._fetch(address)
            case LargeFilesRequest(address, uploads):
                return await self._transfer(address, uploads)
        raise AssertionError

    async def _run_command(self, argv: tuple[str, ...]) -> int:
        process = self._process
        columns, rows, *_ = process.term_size
        return await self._context.run_command(
            CommandRequest(
                argv=argv,
                user=self._key.user,
                fingerprint=self._key.fingerprint,
                stdin=self._stdin,
                stdout=self._stdout,
                stderr=self._stderr,
                terminal=(columns or 80, rows or 24) if process.term_type else None,
                terminal_kind=process.term_type or "",
            )
        )

    async def _push(self, address: Address) -> int:
        async with (
            self._admitted(address, Right.DEPLOY) as (client, service),
            self._context.push_places.take(self.user, self._say_waiting),
            self._context.repositories.use(address) as path,
        ):
            expect_build(service, self._context.workshop)
            with PushedTo(str(path)) as repository:
                await self._receive(self._reception(address, service, client, path, repository))
            self._context.repositories.maintain(path)
        return 0

    def _reception(
        self, address: Address, service: Service, client: Client, path: Path, repository: BareRepository
    ) -> Reception:
        return Reception(
            repository=repository,
            path=path,
            git=self._context.git,
            bridge=Bridge(self._stdin, self._stdout),
            rules=Rules(address, service.branches),
            user=self._key.user,
            client=client,
            settings=self._context.settings,
            workshop=self._context.workshop,
            out=Progress(
                write=self._stdout.write,
                stderr=self._stderr.write,
                waiting=self._process.channel.get_write_buffer_size,
            ),
        )

    async def _receive(self, reception: Reception) -> None:
        handler = ReceiveHandler(reception.repository, reception.bridge, reception)
        alive = asyncio.create_task(reception.out.keep_alive(self._context.settings.keep_alive))
        self._bridge = reception.bridge
        try:
            await asyncio.get_running_loop().run_in_executor(self._context.threads, handler.handle)
        finally:
            self._bridge = None
            alive.cancel()
        await reception.drain()

    async def _fetch(self, address: Address) -> int:
        async with (
            self._admitted(address, Right.VIEW),
            self._context.fetch_places.take(self.user, self._say_waiting),
            self._context.repositories.use(address) as path,
        ):
            if self._context.git is not None:
                return await fetch.serve_with_git(
                    path,
                    self._context.git,
                    protocol=self._process.env.get("GIT_PROTOCOL", ""),
                    stdin=self._stdin,
                    stdout=self._stdout,
                    stderr=self._stderr,
                )
            self._bridge = bridge = Bridge(self._stdin, self._stdout)
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._context.threads, fetch.serve_with_dulwich, path, bridge
                )
            finally:
                self._bridge = None
            return 0

    async def _transfer(self, address: Address, uploads: bool) -> int:
        """Large files, which a client sends before the push that needs them."""
        async with (
            self._admitted(address, Right.DEPLOY if uploads else Right.VIEW),
            self._context.large_places.take(self.user, self._say_waiting),
            self._context.repositories.use(address) as path,
        ):
            files = LargeFiles(path, self._context.settings)
            await Transfer(files, Packets(self._stdin, self._stdout), uploads=uploads).serve()
        return 0

    @asynccontextmanager
    async def _admitted(self, address: Address, right: Right) -> AsyncIterator[tuple[Client, Service]]:
        """A client that acts as the user, and the service, when the user has that right."""
        client = self._context.connect(self._key.user)
        try:
            try:
                service = await _in_time(admit(client, address, right))
            except MooringError as error:
                # git shows this as "remote error: …" instead of guessing about access rights.
                self._stdout.write(pkt_line(f"ERR {error.code}".encode()))
                raise
            yield client, service
        finally:
            await client.close()

    def _say_waiting(self, why: str) -> None:
        self._stderr.write(f"-----> Waiting: {why}\n".encode())

    def _complain(self, text: str) -> None:
        for line in text.splitlines():
            self._stderr.write(f" !     {harmless(line)}\n".encode())


async def _in_time(work: Awaitable[Service]) -> Service:
    try:
        async with asyncio.timeout(ADMISSION_TIMEOUT):
            return await work
    except TimeoutError as error:
        raise Unavailable("The server's controller does not answer; try again in a moment.") from error


async def admit(client: Client, address: Address, right: Right) -> Service:
    """The service as it is, or as a first push would make it. Raises NotFound or Forbidden."""
    user = await client.me()
    held = user.rights.get(address.deployment)
    if not user.admin and held is None:
        raise _unknown(address)
    try:
        service = (await client.service(address)).service
    except NotFound:
        service = Service(deployment=address.deployment, name=address.service)
        try:
            await client.services(address.deployment)
        except NotFound:
            raise _unknown(address) from None
    if not user.admin and (held is None or not held.includes(right)):
        raise Forbidden(
            f"{user.name} may {held or 'not see'} {address.deployment}, which is not enough for this: it takes the "
            f"right to {right}. Ask someone who manages {address.deployment}."
        )
    return service


def _unknown(address: Address) -> NotFound:
    return NotFound(
        f"There is no app {address.deployment} that you may see. "
        f"Make it first: ssh HOST apps:create {address.deployment}"
    )
