"""What the API does not let a caller do: send too much, and guess tokens."""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.methods import Methods
from controller.api.problems import answer
from controller.errors import InvalidInput, Throttled, Unavailable
from controller.problem import Problem, problem, problem_of

MAX_BODY = 2 * 1024**2
"""Bytes of a request's body; the largest that the client sends are batches of a build's log."""
BODY_TIMEOUT = 60.0
"""Seconds that a request's body may take to arrive."""
ANSWER_TIMEOUT = 120.0
"""Seconds until an answer has to begin; longer than any wait for a part of the server may take."""
MAX_STREAMS, MAX_STREAMS_OF_ONE = 400, 100
"""Followed logs, events and rollouts at once, in all and of one user."""


class BodyLimit:
    """Answers 413 to a larger body, as soon as it is known to be larger, and 408 to one that does not arrive."""

    def __init__(
        self,
        app: ASGIApp,
        limit: int = MAX_BODY,
        timeout: float = BODY_TIMEOUT,
        *,
        methods: Methods | None = None,
    ) -> None:
        """`methods`: knows the uploads, which bound themselves."""
        self._app = app
        self._limit = limit
        self._timeout = timeout
        self._methods = methods or Methods(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._methods.is_upload(scope):
            await self._app(scope, receive, send)
            return
        too_large = problem(
            413,
            InvalidInput.code,
            f"The request's body is larger than {self._limit // 1024} KiB.",
            field="body",
        )
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limit:
            await answer(too_large)(scope, receive, send)
            return
        too_slow = problem(
            408,
            InvalidInput.code,
            f"The request's body did not arrive within {self._timeout:g} s.",
            field="body",
        )
        taken, end = 0, asyncio.get_running_loop().time() + self._timeout
        complete = False

        async def counted() -> Message:
            nonlocal taken, complete
            if complete:  # from now on it is about the client going away
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise _Unacceptable(too_slow) from None
            complete = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise _Unacceptable(too_large)
            return message

        try:
            await self._app(scope, counted, send)
        except _Unacceptable as error:
            # Closed after that: what still comes of the body would be read as the next request.
            await answer(error.problem, {"Connection": "close"})(scope, receive, send)


class _Unacceptable(BaseException):
    """Not an Exception, so that nothing on its way out takes it for a fault."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class TimeLimit:
    """Answers 503 to a request for which nothing was answered in that time. What has begun may go on."""

    def __init__(
        self, app: ASGIApp, limit: float = ANSWER_TIMEOUT, *, methods: Methods | None = None
    ) -> None:
        """`methods`: knows the uploads, whose answer begins when all has arrived."""
        self._app = app
        self._limit = limit
        self._methods = methods or Methods(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._methods.is_upload(scope):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._limit) as limit:

                async def begun(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        limit.reschedule(None)
                    await send(message)

                await self._app(scope, receive, begun)
        except TimeoutError:
            if not limit.expired():
                raise
            late = Unavailable(
                f"This was not done within {self._limit:g} s; look before you ask again, it may be done yet."
            )
            await answer(problem_of(late))(scope, receive, send)


class OpenStreams:
    """Answers that go on for as long as their reader likes: bounded, in all and for one user."""

    def __init__(self, total: int = MAX_STREAMS, of_one: int = MAX_STREAMS_OF_ONE) -> None:
        self._total = total
        self._of_one = of_one
        self._open = Counter[str]()

    @contextmanager
    def take(self, user: str) -> Iterator[None]:
        """A place while the block lasts; raises Throttled where there is none."""
        if self._open[user] >= self._of_one:
            raise Throttled(f"{user} follows {self._of_one} things at once already: end some of it first.")
        if self._open.total() >= self._total:
            raise Throttled("The server is busy with as many streams as it takes: try again in a moment.")
        self._open[user] += 1
        try:
            yield
        finally:
            self._open[user] -= 1
            self._open += Counter()  # forget those who have none


class FailedLogins:
    """Counts wrong tokens by address, in bounded memory.

    A right token is let in whatever came before from its address: behind a proxy many share one,
    and none of them can be guessed (256 random bits). So this only keeps a stranger from keeping
    the server busy and the log full.
    """

    def __init__(
        self,
        *,
        allowed: int = 30,
        window: float = 60.0,
        addresses: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`allowed` failures within `window` seconds for each of the last `addresses` that failed."""
        self._allowed = allowed
        self._window = window
        self._addresses = addresses
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Address to when its window began and the failures since."""

    def add(self, address: str) -> float | None:
        """Count one failure. Seconds to wait when there were too many, else None."""
        now = self._clock()
        began, failures = self._seen.pop(address, (now, 0))
        if now - began >= self._window:
            began, failures = now, 0
        self._seen[address] = (began, failures + 1)
        while len(self._seen) > self._addresses:
            self._seen.popitem(last=False)
        return began + self._window - now if failures >= self._allowed else None
