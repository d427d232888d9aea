"""Everything of the world that a command may touch: where it prints, reads, and whom it asks.

The same commands run on somebody's machine and, for the same person, inside the server behind the
SSH endpoint. So none of them reaches for sys.stdout, the environment or the current folder: what
there is comes in a `Context`, and over SSH there is no folder.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from cli.folder import Folder
from cli.output import Output

if TYPE_CHECKING:
    from cli.console import Console
    from controller.client import Client

T = TypeVar("T")


class Input(Protocol):
    """What the person types or pipes in."""

    @property
    def terminal(self) -> bool:
        """Whether somebody is there to answer a question."""

    async def line(self, *, hidden: bool = False) -> str:
        """The next line without its end, "" at the end of input. `hidden`: not shown while typed."""

    async def everything(self) -> str:
        """All that is left, up to the end of input."""


@asynccontextmanager
async def opened(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close the client's stream at the end of the block: left in the middle, it would keep its connection."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


class CommandFailed(Exception):
    """A command's purpose was not reached. The sentence is for the person who asked.

    `log` holds the lines that explain it, `hint` the way on.
    """

    def __init__(self, message: str, *, log: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message)
        self.log = log
        self.hint = hint


class Ended(Exception):
    """The command is over, with this exit status; all there was to say was said."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@dataclass
class Context:
    output: Output
    input: Input
    connect: Callable[["Context"], "Client"]
    """Opens the client; raises controller.errors where no server or credentials can be found."""
    folder: Folder | None = None
    """The folder that `moor` was called in; None over SSH."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Empty over SSH."""
    user: str = ""
    """Who asks, over SSH."""
    open_console: "Callable[[], Console] | None" = None
    """For what passes as it is; None where nobody is there to be attached."""

    app: str | None = None
    """As named before the verb."""
    server: str | None = None
    """Which of the servers that `moor login` knows."""
    server_host: str | None = None
    """The host under which the server was reached; None over SSH, or before the client is opened."""
    _client: "Client | None" = None

    @property
    def local(self) -> bool:
        return self.folder is not None

    @property
    def client(self) -> "Client":
        """The API client, opened at its first use."""
        if self._client is None:
            self._client = self.connect(self)
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
