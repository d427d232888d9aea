"""The SSH servers that source may be fetched from: known by the keys that an admin has seen and let in."""

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from controller.config import Settings
from controller.deliveries import HostKey
from controller.errors import InvalidInput, Refused
from gitreceive.fetcher import SSH_PORT, host_alias
from gitreceive.git import end
from gitreceive.keys import ensure_key
from gitreceive.remote import Remote, addresses_of, parse_remote

SCAN_SECONDS = 10
_NAMED = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*)(?::(?P<port>\d{1,5}))?")
_NUMBERED = re.compile(r"\[?(?P<host>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*?)(?:\](?::(?P<port>\d{1,5}))?)?")
"""A host's name or IPv4 address, and an IPv6 address, which has colons of its own."""
_LINE = re.compile(r"\S+ (?P<key>(?:ssh-|ecdsa-)\S+ [A-Za-z0-9+/=]+)")


class KnownHosts:
    """The server's own `known_hosts`, and the key that it shows to those hosts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()

    async def public_key(self) -> str:
        """In OpenSSH's form; the key is made when it is first asked for."""
        path = self._settings.folders.git / "id_ed25519"
        key = await asyncio.to_thread(ensure_key, path, comment=f"mooring@{self._settings.domain}")
        return key.export_public_key().decode().strip()

    async def allow(self, host: str) -> Sequence[HostKey]:
        """Ask the host (`HOST` or `HOST:PORT`) for its keys, and know it by these from now on.

        Raises InvalidInput, and Refused where it can't be asked.
        """
        remote = parse_host(host)
        keys = parse_scan(await self._scan(remote))
        if not keys:
            raise Refused(f"No SSH server answered at {host} within {SCAN_SECONDS} seconds.")
        async with self._lock:
            await asyncio.to_thread(
                _replace,
                self._settings.folders.git / "known_hosts",
                host_alias(remote.host, remote.port),
                keys,
            )
        return [_described(host, each) for each in keys]

    async def _scan(self, remote: Remote) -> str:
        addresses = await addresses_of(remote, private=self._settings.fetch_private)
        try:
            process = await asyncio.create_subprocess_exec(
                *("ssh-keyscan", "-T", str(SCAN_SECONDS), "-p", str(remote.port), addresses[0]),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=DEVNULL,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Refused(
                "This needs ssh on the server: install the Debian package openssh-client."
            ) from error
        try:
            async with asyncio.timeout(SCAN_SECONDS * 3):
                output, _ = await process.communicate()
        except TimeoutError:
            return ""
        finally:
            await end(process)
        return output.decode(errors="replace")


def parse_host(text: str) -> Remote:
    """`HOST` or `HOST:PORT`. Raises InvalidInput."""
    found = _NAMED.fullmatch(text) or _NUMBERED.fullmatch(text)
    if found is None:
        raise _no_host(text)
    host = f"[{found['host']}]" if ":" in found["host"] else found["host"]
    try:
        return parse_remote(f"ssh://{host}:{found['port'] or SSH_PORT}/any")
    except InvalidInput as error:
        raise _no_host(text) from error


def _no_host(text: str) -> InvalidInput:
    return InvalidInput("host", f"{text[:80]!a} is no host: write HOST or HOST:PORT.")


def parse_scan(text: str) -> Sequence[str]:
    """The keys, each as `KIND BASE64`, that ssh-keyscan printed."""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return sorted({match["key"] for match in found if match and _is_key(match["key"])})


def _is_key(text: str) -> bool:
    try:
        asyncssh.import_public_key(text)
    except asyncssh.KeyImportError:
        return False
    return True


def _described(host: str, key: str) -> HostKey:
    known = asyncssh.import_public_key(key)
    return HostKey(host=host, algorithm=known.get_algorithm(), fingerprint=known.get_fingerprint())


def _replace(file: Path, alias: str, keys: Sequence[str]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = file.read_text().splitlines() if file.exists() else []
    others = [line for line in before if line.partition(" ")[0] != alias]
    fresh = file.with_suffix(".new")
    fresh.write_text("".join(f"{line}\n" for line in [*others, *(f"{alias} {key}" for key in keys)]))
    fresh.replace(file)
