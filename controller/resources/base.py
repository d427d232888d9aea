"""The contract of a kind of resource. A driver only describes: which commands do what is data, and runs nothing.

Its own server is an ordinary service of the deployment, with a volume, kept up by the backend at hand. Commands run
beside it, as its user and with its environment, so that no program of a database ever runs with the rights of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

PROCESS = "server"
"""The process type of a resource's own server."""
VOLUME = "data"


class ResourceError(Exception):
    """The driver, or one of its commands, could not do it. `retryable` says whether trying again may help."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a server of its own is to run."""

    host: str = "127.0.0.1"
    """The address that services reach it by."""
    image: str = ""
    """Of the container that it runs in, by any user and with nothing writable but its folder and /tmp; empty: it runs
    on the machine, with the programs that are installed there."""

    @property
    def listen(self) -> str:
        """The address that it listens on."""
        return "0.0.0.0" if self.image else self.host


@dataclass(frozen=True, kw_only=True)
class Server:
    """How a server of its own is run."""

    command: str
    """A shell line. `$VOLUME_DATA` is its folder, empty at the first start, and `$PORT_NUMBER` its port. It may be
    killed at any moment, and started again by the same line."""
    check: str
    """A shell line that exits with 0 once it answers."""
    secrets: Mapping[str, str]
    """What goes into its environment and nowhere else in the clear."""
    values: Mapping[str, str]
    """What it gives to services: `URL`, and what else is of use (`HOST`, `PORT`, `USER`, `PASSWORD`, `NAME`)."""
    plan: Mapping[str, str] = field(default_factory=dict)
    """What people are told of it: no secrets."""


class ResourceDriver(Protocol):
    """One kind of resource. Calls are quick, and look at nothing but the programs of this machine.

    Its commands run by `/bin/sh`, beside the server: in its container where it has one."""

    def server(self, port: int, password: str, place: Surroundings, /) -> Server:
        """Raises ResourceError, not retryable, with the way out, where its programs are not installed. What an image
        has is not looked at: its start fails with the reason."""

    def external(self, url: str) -> Mapping[str, str]:
        """The values of one that is kept elsewhere. Raises InvalidInput for what is no URL of its kind."""

    def bind(self, values: Mapping[str, str], prefix: str) -> Mapping[str, str]:
        """The variables of a service that it is attached to. `prefix` empty: `DATABASE_URL` or what its kind is known
        by; else `PREFIX_URL`. Unbinding takes the same names away."""

    def backup(self) -> str:
        """A shell line that prints all of the server's data, consistent as of one moment, and exits with another
        status than 0 where that is not all of it."""

    def restore(self) -> str:
        """A shell line that takes what `backup` printed and makes it all that the server has. Where what it is given is
        broken, or it is killed, it leaves the data as they were, and exits with another status than 0."""
