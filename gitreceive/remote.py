"""Where source may be fetched from: which URLs, and which addresses of the network they may lead to.

Whoever may deploy can name a URL, and the server asks it. So it must not lead to what only the server can
reach: its own loopback, the private networks around it, the metadata service of its cloud.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from controller.errors import InvalidInput, Refused

RESOLVE_TIMEOUT = 15.0
MAX_URL = 2000
_PORTS = {"http": 80, "https": 443, "ssh": 22}
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_SHORT = re.compile(r"(?:(?P<user>[^@:/]+)@)?(?P<host>[^@:/]+):(?P<path>[^/].*)")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Remote:
    """A URL that was read; what it leads to is looked up when it is used."""

    url: str
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.url


def parse_web(text: str) -> Remote:
    """The http or https URL of a file. Raises InvalidInput."""
    return _parse(text, ("http", "https"))


def parse_remote(text: str) -> Remote:
    """The URL of a git repository: https, http, or ssh, also as `git@HOST:PATH`. Raises InvalidInput."""
    short = _SHORT.fullmatch(text)
    if short and "://" not in text:
        user = f"{short['user']}@" if short["user"] else ""
        return _parse(f"ssh://{user}{short['host']}/{short['path']}", ("ssh",))
    return _parse(text, ("http", "https", "ssh"))


def _parse(text: str, schemes: Sequence[str]) -> Remote:
    if len(text) > MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput("url", f"{text[:80]!a} is no URL: write it in ASCII, without spaces.")
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise InvalidInput("url", f"{text[:80]!a} is no URL: {error}.") from error
    if parts.scheme not in schemes:
        raise InvalidInput("url", f"{text[:80]!a} can't be fetched: only {', '.join(schemes)} URLs can.")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise InvalidInput("url", f"{text[:80]!a} names no host.")
    if parts.password is not None or (parts.username and parts.scheme != "ssh"):
        raise InvalidInput(
            "url",
            "Put no name and no password into a URL: it is shown in logs and records. Use ssh with the server's own "
            "key (git:public-key shows it) for a private repository.",
        )
    if parts.username and not _USER.fullmatch(parts.username):
        raise InvalidInput("url", f"{parts.username[:40]!a} is no name of a user.")
    if parts.path in ("", "/") or parts.path.startswith("/-"):
        raise InvalidInput("url", f"{text[:80]!a} names nothing on that host.")
    return Remote(text, parts.scheme, parts.hostname, port)


async def addresses_of(remote: Remote, *, private: bool) -> Sequence[str]:
    """The addresses that its host has. `private`: those of private networks too. Raises Refused."""
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(
                remote.host, remote.port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError, TimeoutError) as error:
        raise Refused(f"The host {remote.host} can't be found from the server.") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    allowed = [each for each in addresses if private or is_public(each)]
    if not allowed:
        raise Refused(
            f"{remote.host} is in a private network ({addresses[0]}), from which this server fetches nothing: its "
            "administrator can allow that with the setting fetch_private."
        )
    return allowed


def is_public(address: str) -> bool:
    """Whether everybody could ask that address, also where it wraps an older one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if found.teredo is not None:
            return False
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast
