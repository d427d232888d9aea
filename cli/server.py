"""The composition root of `moor server`: the one place that sees all packages, and puts them together."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import msgspec
import uvicorn
from starlette.types import ASGIApp

from builder.base import Builder
from builder.slugs import SlugStore
from builder.source import export_source
from builder.storage import DiskStorage
from cli.choosing import as_recorded, settled
from cli.drivers import (
    check_drivers,
    make_backend,
    make_backups,
    make_builder,
    make_images,
    make_plugins,
    make_resource_drivers,
    make_router,
    make_store,
    with_inner_ports,
)
from cli.ownership import check_free, listening_socket, owned, owner, read_server_info, write_whole
from cli.remote import run_over_ssh
from cli.resourceslug import EmptySlugs
from cli.tenure import tenure
from cli.waiting import Stopped, once_it_answers
from controller.api.app import create_app
from controller.api.connections import Connection
from controller.backends.base import BackendError, SupportsShutdown
from controller.client import Client
from controller.config import DataFolder, Listen, Settings, parse_listen
from controller.errors import MooringError, Refused
from controller.logs.recorder import AccessRecorder, requests_wanted
from controller.operations.credentials import Sessions
from controller.operations.notices import Notifier
from controller.operations.operations import Operations, make_operations
from controller.operations.places import InnerPlaces
from controller.operations.server import Doorplate
from controller.plugins.extensions import ServerFacts
from controller.plugins.preparing import Preparing
from controller.reconcile.loop import Reconciler
from controller.reconcile.timing import Timing
from controller.state import State
from controller.store.base import Store, StoreError
from controller.vault import Vault, open_vault
from controller.wire import WireError
from gitreceive import doors
from gitreceive import images as image_doors
from gitreceive.command import CommandRequest
from gitreceive.inspection import Inspection
from gitreceive.keys import ensure_key
from gitreceive.server import GitReceive
from router.base import RouterError, SupportsAccessLogs

log = logging.getLogger(__name__)

STOP_TIMEOUT = 45.0
"""Seconds that a running server gets to stop when `moor server:stop` asks it to."""
FILES = 65536
"""That the server may have open; its connections, sessions and pipes are bounded far below."""
TIDY = 60.0
"""Seconds between two times that what has grown old is looked for."""


def run(settings: Settings) -> int:
    """`moor server`: serve until SIGTERM or Ctrl-C; returns the exit status."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    # Some of them would write what they sign requests with.
    for noisy in ("asyncssh", "botocore", "dulwich", "httpx", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _raise_file_limit()
    try:
        run_loop(_serve(settings))
    except (MooringError, RouterError, BackendError, StoreError) as error:
        print(f" !     {error}", file=sys.stderr)
        return 1
    return 0


def _raise_file_limit() -> None:
    """As far as we may: many connections at once need more than the 1024 files of most shells."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_loop(main: Coroutine[object, object, None]) -> None:
    """`asyncio.run`, without a thread for each child process: later versions of Python do so by themselves."""
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.run(main)


def stop(settings: Settings, everything: bool) -> int:
    """`moor server:stop`: end the server of a data folder; with `everything` its instances and proxy too."""
    folders = settings.folders
    process = owner(folders)
    if process is None and not everything:
        print(f" !     No server runs on {folders.root}.", file=sys.stderr)
        return 1
    if process is not None:
        os.kill(process, signal.SIGTERM)
        end = time.monotonic() + STOP_TIMEOUT
        while owner(folders) is not None:
            if time.monotonic() > end:
                print(
                    f" !     The server (process {process}) does not stop; its log says why.", file=sys.stderr
                )
                return 1
            time.sleep(0.05)
    if everything:
        try:
            asyncio.run(_shut_down(_with_last_addresses(settings)))
        except (MooringError, RouterError, BackendError) as error:
            print(f" !     {error}", file=sys.stderr)
            return 1
    return 0


async def _serve(settings: Settings) -> None:
    """What starts, in which order; it stops in the opposite one."""
    stopped = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    check_drivers(settings)
    with owned(settings.folders):
        settings = await settled(_with_free_ports(settings))
        _make_folders(settings.folders)
        with listening_socket(settings.api, "api") as api_socket:
            with contextlib.suppress(Stopped):
                async with _running(settings, api_socket, stopped) as server:
                    await server.announce()
                    await _until(stopped, server)
            log.info("stopping; instances and proxy keep running")
        settings.folders.server_info.unlink(missing_ok=True)


async def _until(stopped: asyncio.Event, server: "_Server") -> None:
    """Wait for the signal, or for a part that ends by itself: that one's failure is raised."""
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({waiting, *server.tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in server.tasks:
        if task.done():
            task.result()


@dataclass(frozen=True)
class _Server:
    settings: Settings
    ssh: GitReceive
    tasks: tuple[asyncio.Task[None], ...]
    token: str | None
    """The admin token, where this start made it."""

    async def announce(self) -> None:
        """Say where everything is, to people and to `moor` on this machine."""
        settings = self.settings
        info = {
            "pid": os.getpid(),
            "api": f"http://{_reachable(settings.api)}",
            "ssh": str(settings.ssh),
            "http": str(settings.http),
            "fingerprint": self.ssh.fingerprint,
        }
        write_whole(settings.folders.server_info, msgspec.json.encode(info).decode())
        print(f"-----> Mooring {version('mooring')} serves from {settings.data}")
        print(f"       API   {info['api']}")
        print(f"       Web   {info['api']}/")
        print(f"       SSH   {settings.ssh}, host key {self.ssh.fingerprint}")
        print(f"       Apps  http://{settings.http}, as NAME.{settings.domain}")
        if self.token is not None:
            print("-----> Admin token, shown only this once:")
            print(f"       {self.token}")
        print(f"-----> On this machine: export MOOR_DATA={settings.data}, then `moor help`", flush=True)


@contextlib.asynccontextmanager
async def _running(
    settings: Settings, api_socket: socket.socket, stopped: asyncio.Event
) -> AsyncIterator[_Server]:
    folders = settings.folders
    async with contextlib.AsyncExitStack() as stack:
        store = make_store(settings)
        stack.push_async_callback(store.close)
        fingerprint = ensure_key(settings.folders.host_key).get_fingerprint()
        lease, vault, state = await once_it_answers(
            lambda: _hold(stack, store, fingerprint, settings),
            patience=settings.store_patience,
            stopped=stopped,
            # The socket is closed with what serves on it.
            serving=lambda app: _serving_api(app, api_socket.dup()),
        )
        stack.push_async_callback(state.close)

        slugs = SlugStore(folders.slugs, folders.apps, limit=settings.slug_limit)
        web = make_router(settings)
        router = with_inner_ports(settings, web, lambda: backend)
        backend = make_backend(settings, slugs, router)
        stack.push_async_callback(router.close)
        stack.push_async_callback(backend.close)
        try:
            await router.start()
        except RouterError as error:
            raise Refused(f"--http {settings.http}: {error}") from error
        builder = make_builder(settings, slugs)
        stack.push_async_callback(builder.close)
        await _sweep(builder)

        timing = Timing(
            drain_timeout=settings.drain_timeout,
            stop_grace=settings.stop_grace,
            health_timeout=settings.health_timeout,
            release_timeout=settings.release_timeout,
        )
        plugins = make_plugins(settings)
        notifier = Notifier(state, store, plugins)
        preparing = Preparing(plugins, state, InnerPlaces(state, router, ports=settings.inner_ports.numbers))
        reconciler = Reconciler(
            state,
            backend,
            router,
            domain=settings.domain,
            timing=timing,
            limits=settings.limits,
            prepare=preparing.prepared,
        )
        sessions = Sessions()
        doorplate = Doorplate(
            api=settings.api, ssh=settings.ssh, http=settings.http, host_key_fingerprint=fingerprint
        )
        images = make_images(settings)
        storage = DiskStorage(folders, slugs, images)
        operations = make_operations(
            state,
            settings,
            reconciler,
            storage=storage,
            doorplate=lambda: doorplate,
            sessions=sessions,
            privileged=os.geteuid() == 0,
            vault=vault,
            inspect=Inspection(settings, builder, export_source).inspect,
            drivers=make_resource_drivers(),
            backups=make_backups(settings),
            make_slug=EmptySlugs(slugs, folders).make,
            plugins=plugins,
            prepare=preparing.told,
            router_problem=lambda: router.problem,
        )
        stack.push_async_callback(operations.close)
        token = await operations.credentials.bootstrap(folders.local_token)
        server_facts = ServerFacts(
            data=settings.data, api=str(_reachable(settings.api)), domain=settings.domain
        )
        await plugins.start(server_facts, await notifier.known())
        await operations.builds.abandon()
        await operations.attaching.sweep()
        await storage.sweep()
        await operations.removal.sweep(await storage.services())
        loop = await stack.enter_async_context(_task(reconciler.run(), "reconcile"))
        await stack.enter_async_context(_task(notifier.run(), "plugins are told"))
        await stack.enter_async_context(_task(operations.releaser.run(), "held services"))
        await stack.enter_async_context(_task(operations.provision.run(), "resources of service files"))
        await stack.enter_async_context(_task(_keep_tidy(operations), "tidy"))
        if isinstance(web, SupportsAccessLogs):
            recorder = AccessRecorder(web, folders.logs, partial(requests_wanted, state))
            await stack.enter_async_context(_task(recorder.run(), "router logs"))
        await stack.enter_async_context(_task(operations.upkeep.run(), "upkeep"))

        def connect(user: str) -> Client:
            return _SessionClient(f"http://{_reachable(settings.api)}", sessions, user)

        async def run_command(request: CommandRequest) -> int:
            return await run_over_ssh(
                request.argv,
                user=request.user,
                connect=lambda: connect(request.user),
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr,
                size=request.terminal,
                terminal_kind=request.terminal_kind,
            )

        ssh = GitReceive(
            settings,
            find_key=state.key,
            connect=connect,
            builder=builder,
            run_command=run_command,
            export_source=export_source,
            images=images,
        )
        app = create_app(
            operations,
            keep_alive=settings.keep_alive,
            routers=(
                doors.routes(ssh.doors, keep_alive=settings.keep_alive),
                image_doors.routes(ssh.images, keep_alive=settings.keep_alive),
            ),
        )
        api = await stack.enter_async_context(_serving_api(app, api_socket))
        stack.push_async_callback(ssh.close)
        try:
            await ssh.start()
        except OSError as error:
            raise Refused(
                f"--ssh {settings.ssh}: {error.strerror or error}. Choose another address."
            ) from error
        yield _Server(settings, ssh, (loop, api, lease), token)


async def _hold(
    stack: contextlib.AsyncExitStack, store: Store, owner: str, settings: Settings
) -> tuple[asyncio.Task[None], Vault, State]:
    """The store for us alone, and what is in it; nothing of it is kept where that fails."""
    async with contextlib.AsyncExitStack() as attempt:
        lease = await attempt.enter_async_context(tenure(store, owner))
        try:
            vault = await open_vault(store, settings.data / settings.secret_key)
            state = await State.open(store, codec=vault)
        except WireError as error:
            raise Refused(f"The state can't be read: {error}.") from error
        stack.push_async_exit(attempt.pop_all())
        return lease, vault, state


async def _keep_tidy(operations: Operations) -> None:
    while True:
        await asyncio.sleep(TIDY)
        try:
            await operations.tidy()
        except Exception:  # whatever it is: the next time is soon
            log.exception("tidying failed")


@contextlib.asynccontextmanager
async def _task(work: Coroutine[object, object, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


class _SessionClient(Client):
    """Acts as a user for as long as it is open: what the SSH endpoint's sessions use."""

    def __init__(self, base_url: str, sessions: Sessions, user: str) -> None:
        self._sessions = sessions
        self._secret = sessions.mint(user)
        super().__init__(base_url, self._secret)

    async def close(self) -> None:
        await super().close()
        self._sessions.revoke(self._secret)


class _Uvicorn(uvicorn.Server):
    """Signals are the composition root's; it tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving_api(app: ASGIApp, listening: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serve the API on that socket; streams that go on at the end get a moment, then are cut."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=5,
        h11_max_incomplete_event_size=32 * 1024,
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=1024**2,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=False,  # what passes is mostly small, and now and then compressed already
    )
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="api")
    listens = asyncio.create_task(server.listens.wait())
    await asyncio.wait({task, listens}, return_when=asyncio.FIRST_COMPLETED)
    listens.cancel()
    try:
        yield task
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=10)


async def _sweep(builder: Builder) -> None:
    """Take away what a server that was killed left of its builds."""
    sweep = getattr(builder, "sweep", None)
    if sweep is not None:
        await sweep()


async def _shut_down(settings: Settings) -> None:
    """End instances and proxy, found by what they left in the data folder."""
    slugs = SlugStore(settings.folders.slugs, settings.folders.apps, limit=settings.slug_limit)
    backend = make_backend(settings, slugs)
    if isinstance(backend, SupportsShutdown):
        await backend.shutdown()
    await backend.close()
    router = with_inner_ports(settings, make_router(settings), lambda: None)
    await router.shutdown()
    await router.close()


def _with_free_ports(settings: Settings) -> Settings:
    """Turn port 0 into one that is free, and make sure that the others can be had."""
    before = read_server_info(settings.folders)
    http = settings.http
    if http.port == 0:
        # Instances outlive the server and so does their address, where it was left to us to choose.
        last = parse_listen(before["http"]) if "http" in before else None
        http = last if last and last.host == http.host else replace(http, port=check_free(http, "http"))
    ssh = replace(settings.ssh, port=check_free(settings.ssh, "ssh"))
    api = replace(settings.api, port=check_free(settings.api, "api"))
    return replace(settings, http=http, ssh=ssh, api=api)


def _with_last_addresses(settings: Settings) -> Settings:
    """The settings that the last server on this data folder ran with, as far as stopping it needs them."""
    settings = as_recorded(settings)
    before = read_server_info(settings.folders)
    return replace(settings, http=parse_listen(before["http"])) if "http" in before else settings


def _reachable(listen: Listen) -> Listen:
    """An address to connect to: a server that listens everywhere is reached on loopback."""
    if listen.host in ("0.0.0.0", ""):
        return replace(listen, host="127.0.0.1")
    return replace(listen, host="::1") if listen.host == "::" else listen


def _make_folders(folders: DataFolder) -> None:
    """What apps and builds must reach may be entered by everybody and listed by nobody; the rest is ours.

    Volumes are opened, or closed, by the backend: it knows who comes to them from here."""
    folders.volumes.mkdir(mode=0o700, exist_ok=True)
    for each in (folders.apps, folders.tools, folders.builds, folders.caches):
        each.mkdir(exist_ok=True)
        each.chmod(0o711)
    for each in (folders.slugs, folders.repositories, folders.logs):
        each.mkdir(exist_ok=True)
        each.chmod(0o700)
