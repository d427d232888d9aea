"""What a guard is made of, and the one text in which a proxy keeps those of a pool."""

import hashlib
import re
from collections.abc import Iterable

from router.types import Guard, GuardMode

MAX_GUARDS = 8 * 1024
"""Bytes that the text of one pool's guards may have: more would not fit into a command to a proxy."""
REALM = "protected"
"""What clients are told that the password is for; part of the hash of digest."""
_USER = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_HASHES = {
    GuardMode.DIGEST: re.compile(r"[0-9a-f]{32}"),
    GuardMode.BASIC: re.compile(r"[0-9a-f]{1,64}\$[0-9a-f]{64}"),
}
_LINE = re.compile(r"(digest|basic) (\S+) (\S+=\S+(?: \S+=\S+)*)")


def password_hash(mode: GuardMode, name: str, password: str, salt: str) -> str:
    """What a guard keeps of it. Digest has no salt but the name: its clients make the hash themselves."""
    if mode is GuardMode.DIGEST:
        # The protocol's own hash, which browsers know no other of.
        return hashlib.md5(f"{name}:{REALM}:{password}".encode(), usedforsecurity=False).hexdigest()
    return f"{salt}${hashlib.sha256(f'{salt}{password}'.encode()).hexdigest()}"


def is_user(name: str) -> bool:
    """Whether a guard can have a user of that name."""
    return _USER.fullmatch(name) is not None


def is_sound(guard: Guard) -> bool:
    """Whether it has users, all with hashes of its mode."""
    return bool(guard.users) and all(
        is_user(name) and _HASHES[guard.mode].fullmatch(digest) for name, digest in guard.users
    )


def guards_text(guards: Iterable[tuple[str, Guard]]) -> str:
    """A line for each guard: `MODE DOMAIN,… NAME=HASH …`. Equal guards give equal texts."""
    domains: dict[Guard, list[str]] = {}
    for domain, guard in sorted(guards):
        domains.setdefault(guard, []).append(domain)
    lines = [
        f"{guard.mode} {','.join(named)} {' '.join(f'{name}={digest}' for name, digest in guard.users)}\n"
        for guard, named in domains.items()
    ]
    return "".join(sorted(lines))


def parse_guards(text: str) -> frozenset[tuple[str, Guard]]:
    """The guards again; raises ValueError."""
    found = set[tuple[str, Guard]]()
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("that is no guard")
        users = [each.partition("=") for each in match[3].split(" ")]
        guard = Guard(GuardMode(match[1]), tuple((name, digest) for name, _, digest in users))
        found |= {(domain, guard) for domain in match[2].split(",")}
    return frozenset(found)
