"""Who is at the door: the key tells; too many wrong ones from one address are kept waiting."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

import asyncssh

from controller.types import SshKey

log = logging.getLogger(__name__)

FindKey = Callable[[str], SshKey | None]
"""A key by its `SHA256:…` fingerprint, from memory; None when nobody has it."""

MAX_KEYS = 12
"""Keys that one connection may try: an agent may hold many."""
MAX_CONNECTIONS = 256
MAX_STRANGERS = 64
"""Connections at once, in all and not logged in."""
MAX_OF_ONE_ADDRESS = 32
MAX_OF_ONE_USER = 64
"""Of these: not logged in from one address, and logged in as one user. So nobody fills the house alone."""
MAX_FAILURES = 30
FAILURE_WINDOW = 60.0
"""An address may fail to log in this often within this many seconds."""
_MAX_ADDRESSES = 4096


class Door:
    """Counts connections and failed logins; bounded, whatever comes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.strangers: dict[asyncssh.SSHServerConnection, str] = {}
        """Those that have not logged in, and their addresses."""
        self.users: dict[asyncssh.SSHServerConnection, str] = {}
        """Those that have, and whose they are."""

    def refusal(self, host: str) -> str | None:
        """Why a new connection from that address is not taken; None when it is."""
        if len(self.connections) >= MAX_CONNECTIONS or len(self.strangers) >= MAX_STRANGERS:
            return "Too many connections; try again in a moment"
        if sum(each == host for each in self.strangers.values()) >= MAX_OF_ONE_ADDRESS:
            return "Too many connections from your address; try again in a moment"
        recent = [each for each in self._failures.get(host, []) if self._clock() - each < FAILURE_WINDOW]
        if len(recent) >= MAX_FAILURES:
            return "Too many failed logins; try again in a minute"
        return None

    def admit(self, connection: asyncssh.SSHServerConnection, user: str) -> bool:
        """It has logged in as that user; False when the user has too many connections already."""
        self.strangers.pop(connection, None)
        if sum(each == user for each in self.users.values()) >= MAX_OF_ONE_USER:
            return False
        self.users[connection] = user
        return True

    def leave(self, connection: asyncssh.SSHServerConnection) -> bool:
        """It is gone; whether it never logged in."""
        self.connections.discard(connection)
        self.users.pop(connection, None)
        return self.strangers.pop(connection, None) is not None

    def failed(self, host: str) -> None:
        """A login from that address came to nothing."""
        times = [each for each in self._failures.pop(host, []) if self._clock() - each < FAILURE_WINDOW]
        self._failures[host] = [*times, self._clock()][-MAX_FAILURES:]
        while len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)


class Visitor(asyncssh.SSHServer):
    """One connection. Any user name will do; the key tells who it is."""

    def __init__(self, door: Door, find_key: FindKey) -> None:
        self._door = door
        self._find_key = find_key
        self._connection: asyncssh.SSHServerConnection | None = None
        self._host = ""
        self._tried: set[str] = set()
        self.key: SshKey | None = None
        """Whose key it is, once logged in."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._host = str(conn.get_extra_info("peername", ("",))[0])
        conn.set_extra_info(visitor=self)
        if reason := self._door.refusal(self._host):
            log.warning("connection refused host=%s reason=%r", self._host, reason)
            conn.disconnect(asyncssh.DISC_TOO_MANY_CONNECTIONS, reason)
            return
        self._door.connections.add(conn)
        self._door.strangers[conn] = self._host

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._connection is not None
        if self._door.leave(self._connection) and self._tried:
            self._door.failed(self._host)
            log.warning("login failed host=%s keys=%s", self._host, " ".join(sorted(self._tried)))

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return False

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        fingerprint = key.get_fingerprint()
        self._tried.add(fingerprint)
        if len(self._tried) > MAX_KEYS and self._connection is not None:
            self._connection.disconnect(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
                "Too many keys tried; name one with `ssh -i FILE -o IdentitiesOnly=yes`",
            )
            return False
        self.key = self._find_key(fingerprint)
        return self.key is not None

    def auth_completed(self) -> None:
        assert self._connection is not None
        assert self.key is not None
        if not self._door.admit(self._connection, self.key.user):
            log.warning("connection refused host=%s user=%s: it has too many", self._host, self.key.user)
            self._connection.disconnect(
                asyncssh.DISC_TOO_MANY_CONNECTIONS,
                f"{self.key.user} has {MAX_OF_ONE_USER} connections already; close some",
            )

    def may_still(self) -> bool:
        """Whether the key is known yet: it may have been removed since the login."""
        if self.key is None:
            return False
        known = self._find_key(self.key.fingerprint)
        return known is not None and known.user == self.key.user
