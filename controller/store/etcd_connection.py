"""The way to etcd: its address, a channel to each endpoint, time limits, and errors put into words.

Of aetcd only the protocol is used (`aetcd.rpc`: messages and stubs made from etcd's own definition);
decision 0010 says why. Nothing else imports gRPC.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from controller.config import parse_listen
from controller.errors import InvalidInput
from controller.store.base import Compacted, StoreError, StoreUnavailable, StoreUnusable, TooLarge

try:
    import grpc
    import grpc.aio
    from aetcd import rpc
except ImportError as missing:
    raise ImportError(
        f"{missing.name} is missing; install Mooring with its extra `etcd`: pip install 'mooring[etcd]'"
    ) from missing

__all__ = ["Connection", "EtcdAddress", "parse_etcd", "rpc"]

DEFAULT_PORT = 2379
FIRST_PAUSE = 0.05
LAST_PAUSE = 0.5
"""Seconds between attempts to reach etcd, growing from one to the other."""
CHANNEL_OPTIONS = (
    # A connection that fell silent is found within 15 s; etcd refuses pings more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC would wait up to two minutes before it looks whether etcd is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A transaction is told whole, and etcd's limit is on what it takes, not on what it gives.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Channels of one process share no connection, so that a closed store leaves none.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class EtcdAddress:
    """Where etcd is, how to get in, and below which prefix our keys are."""

    endpoints: tuple[str, ...]
    prefix: str = "mooring"
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password_file: Path | None = None

    def __str__(self) -> str:
        return "etcd at " + ", ".join(self.endpoints)


def parse_etcd(text: str) -> EtcdAddress:
    """The address in the setting `etcd`; raises InvalidInput that names what is wrong with it."""
    # Not by urlsplit: what it makes of several hosts, some in brackets, differs from one Python 3.11 to the next.
    scheme, _, rest = text.partition("://") if "://" in text else ("http", "", text)
    place, _, query = rest.partition("?")
    hosts, _, prefix = place.partition("/")
    if scheme not in ("http", "https"):
        raise InvalidInput("etcd", f"etcd: {text!r} must begin with http:// or https://, or with its host.")
    if "@" in hosts:
        raise InvalidInput("etcd", "etcd: write user=NAME&password-file=FILE after a `?`, not before an @.")
    try:
        endpoints = tuple(_endpoint(each) for each in hosts.split(","))
        options = dict(parse_qsl(query, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise InvalidInput(
            "etcd", f"etcd: {text!r} is no address such as 10.0.0.1:2379,10.0.0.2:2379/mooring."
        ) from error
    if unknown := options.keys() - {"ca", "cert", "key", "user", "password-file"}:
        raise InvalidInput(
            "etcd",
            f"etcd: there is no option {min(unknown)!r}; known are ca, cert, key, user and password-file.",
        )
    files = {name: Path(options[name]) for name in ("ca", "cert", "key") if name in options}
    if files and scheme != "https":
        raise InvalidInput("etcd", "etcd: ca, cert and key are for TLS: begin the address with https://.")
    if ("user" in options) != ("password-file" in options):
        raise InvalidInput("etcd", "etcd: user and password-file go together.")
    if ("cert" in options) != ("key" in options):
        raise InvalidInput("etcd", "etcd: cert and key go together.")
    return EtcdAddress(
        endpoints,
        prefix.strip("/") or "mooring",
        tls=scheme == "https",
        user=options.get("user"),
        password_file=Path(options["password-file"]) if "user" in options else None,
        **files,
    )


def _endpoint(text: str) -> str:
    if not text or text.startswith(":"):
        raise ValueError(text)
    named = ":" in text.rpartition("]")[2]
    return str(parse_listen(text if named else f"{text}:{DEFAULT_PORT}"))


@dataclass
class Link:
    """A channel to one endpoint and what can be called there."""

    endpoint: str
    channel: Any
    kv: Any
    lease: Any
    watch: Any
    auth: Any
    token: str | None = None

    @property
    def ready(self) -> bool:
        return bool(self.channel.get_state() is grpc.ChannelConnectivity.READY)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        # Without a leader, an endpoint would let a watch wait for ever.
        leader = (("hasleader", "true"),)
        return (*leader, ("token", self.token)) if self.token else leader


@dataclass
class Connection:
    """Asks the endpoint that answered last, and goes on to the next when one is silent.

    Everything raises StoreUnavailable after `timeout` seconds, or at once when it is closed.
    """

    address: EtcdAddress
    timeout: float
    closed: bool = False
    _links: dict[str, Link] = field(default_factory=dict)
    _calls: set[Any] = field(default_factory=set)
    _current: int = 0

    @property
    def ready(self) -> bool:
        """Whether something sent now goes over a connection that stands."""
        return not self.closed and self._link().ready

    async def ask(self, method: Callable[[Link], Any], request: Any, *, again: bool) -> Any:
        """One answer. `again`: asking twice does no harm, so it is repeated while there is time.

        What may not be asked twice is for a connection that is `ready`: a failure leaves its outcome unknown.
        """
        end = time.monotonic() + self.timeout
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._ask_once(method, request, end)
            except StoreUnavailable as error:
                if not (again and error.retryable) or self.closed or time.monotonic() + pause > end:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _ask_once(self, method: Callable[[Link], Any], request: Any, end: float) -> Any:
        link = self._link()
        # Where there are more endpoints, a silent one must leave time for them.
        limit = min(end - time.monotonic(), self.timeout / len(self.address.endpoints))
        with self._in_words(link):
            for attempt in (1, 2):
                await self._log_in(link, limit)
                try:
                    with self._until_closed(
                        method(link)(request, timeout=limit, metadata=link.metadata)
                    ) as call:
                        return await call
                except grpc.aio.AioRpcError as error:
                    # etcd's tokens expire; it was refused at the door, so nothing was done.
                    if error.code() is not grpc.StatusCode.UNAUTHENTICATED or not link.token or attempt == 2:
                        raise
                    link.token = None
        raise AssertionError("the second attempt returns or raises")

    @asynccontextmanager
    async def exchange(
        self, method: Callable[[Link], Any], request: Any
    ) -> AsyncGenerator[Callable[[], Any], None]:
        """A stream opened with one request; what is given reads the next answer, without a time limit."""
        link = self._link()
        with self._in_words(link):
            await self._log_in(link, self.timeout)
        with self._in_words(link), self._until_closed(method(link)(metadata=link.metadata)) as call:
            await self._send(call, request)

            async def read() -> Any:
                with self._in_words(link):
                    answer = await call.read()
                if answer is grpc.aio.EOF:
                    raise StoreUnavailable(f"{self.address}: the stream from {link.endpoint} ended.")
                return answer

            yield read

    async def _send(self, call: Any, request: Any) -> None:
        # In a task, because gRPC leaves a `write` waiting whose call was cancelled before it was begun.
        sending = asyncio.ensure_future(call.write(request))
        try:
            with self._until_closed(sending):
                async with asyncio.timeout(self.timeout):
                    await sending
        except TimeoutError as error:
            raise StoreUnavailable(
                f"{self.address} did not answer within {self.timeout:g} seconds."
            ) from error

    @contextmanager
    def _until_closed(self, call: Any) -> Iterator[Any]:
        """Whatever way the block ends, nothing is left of the call; `close` ends it too."""
        if self.closed:
            call.cancel()
        self._calls.add(call)
        try:
            yield call
        finally:
            self._calls.discard(call)
            call.cancel()

    async def close(self) -> None:
        self.closed = True
        # A channel that is closed does not end every call that waits.
        for call in list(self._calls):
            call.cancel()
        links, self._links = list(self._links.values()), {}
        for link in links:
            await link.channel.close()

    def _link(self) -> Link:
        if self.closed:
            raise StoreUnavailable("The store is closed.")
        endpoint = self.address.endpoints[self._current]
        if endpoint not in self._links:
            channel = self._channel(endpoint)
            self._links[endpoint] = Link(
                endpoint,
                channel,
                kv=rpc.KVStub(channel),
                lease=rpc.LeaseStub(channel),
                watch=rpc.WatchStub(channel),
                auth=rpc.AuthStub(channel),
            )
        return self._links[endpoint]

    def _channel(self, endpoint: str) -> Any:
        if not self.address.tls:
            return grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(
            *(self._read(each) for each in (self.address.ca, self.address.key, self.address.cert))
        )
        return grpc.aio.secure_channel(endpoint, credentials, options=CHANNEL_OPTIONS)

    def _read(self, file: Path | None) -> bytes | None:
        try:
            return None if file is None else file.read_bytes()
        except OSError as error:
            raise StoreUnusable(f"etcd: {file} can't be read: {error.strerror}.") from error

    async def _log_in(self, link: Link, limit: float) -> None:
        if self.address.user is None or link.token is not None:
            return
        password = (self._read(self.address.password_file) or b"").decode().strip()
        request = rpc.AuthenticateRequest(name=self.address.user, password=password)
        link.token = (await link.auth.Authenticate(request, timeout=limit)).token

    @contextmanager
    def _in_words(self, link: Link) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                self._leave(link)
            raise self._explained(error) from error
        except (asyncio.CancelledError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
            # gRPC cancels whatever a closed channel was doing; that is not us being cancelled.
            task = asyncio.current_task()
            if self.closed and not (task and task.cancelling()):
                raise StoreUnavailable("The store is closed.") from error
            raise

    def _leave(self, link: Link) -> None:
        if self.address.endpoints[self._current] == link.endpoint:
            self._current = (self._current + 1) % len(self.address.endpoints)

    def _explained(self, error: Any) -> StoreError:
        """What went wrong and what to do about it, for the person who runs the server."""
        details = (error.details() or "").removeprefix("etcdserver: ")
        code = error.code()
        codes = grpc.StatusCode
        match code:
            case codes.OUT_OF_RANGE:  # compacted, or in the future because etcd was restored from a backup
                return Compacted(f"{self.address}: {details}.")
            case codes.DEADLINE_EXCEEDED:
                return StoreUnavailable(f"{self.address} did not answer within {self.timeout:g} seconds.")
            case codes.UNAUTHENTICATED | codes.PERMISSION_DENIED:
                return StoreUnusable(f"{self.address} refuses us: {details}. Check user and password-file.")
            case codes.INVALID_ARGUMENT if "auth" in details or "user name" in details:
                return StoreUnusable(f"{self.address} refuses us: {details}. Check user and password-file.")
            case codes.INVALID_ARGUMENT if "too many operations" in details:
                return TooLarge(
                    "More is to be written at once than etcd takes. Raise its --max-txn-ops, 128 by default."
                )
            case codes.INVALID_ARGUMENT if "too large" in details:
                return TooLarge(_TOO_LARGE)
            case codes.RESOURCE_EXHAUSTED if "larger than max" in details:
                return TooLarge(_TOO_LARGE)
            case codes.RESOURCE_EXHAUSTED if "space exceeded" in details:
                return StoreUnavailable(
                    f"{self.address}: its database is full. Run `etcdctl defrag` and `etcdctl alarm disarm`, "
                    "or raise its --quota-backend-bytes."
                )
        return StoreUnavailable(f"{self.address} can't be reached: {details} ({code.name}).")


_TOO_LARGE = (
    "More is to be written at once than etcd takes: 1.5 MiB, unless its --max-request-bytes says otherwise."
)
