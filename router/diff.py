"""The table now, the pools wanted → the steps between them, in the order in which they must happen.

Pure. What comes first makes room, what comes last takes away: a domain never points at nothing, and
a target only loses its requests once those that follow it take them, and a domain that asks for a password is
never reached without it on the way.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.base import RouterError
from router.guards import MAX_GUARDS, guards_text, is_sound
from router.types import MAX_PAGE, Guard, Pool, Target

_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_TARGET_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_DOMAIN = re.compile(r"(?:\*\.)?[a-z0-9][a-z0-9.-]{0,252}")


@dataclass(frozen=True)
class AddPool:
    pool: str


@dataclass(frozen=True)
class AddTarget:
    pool: str
    target: Target


@dataclass(frozen=True)
class MoveTarget:
    """The same id, now at another address: what it works on stays where it is, the next request goes there."""

    pool: str
    target: Target


@dataclass(frozen=True)
class PointDomain:
    domain: str
    pool: str


@dataclass(frozen=True)
class DropDomain:
    domain: str


@dataclass(frozen=True)
class SetMaintenance:
    """Answer the pool's requests without its targets, with this page."""

    pool: str
    page: str


@dataclass(frozen=True)
class EndMaintenance:
    pool: str


@dataclass(frozen=True)
class SetGuards:
    """Ask for passwords at these domains of the pool, and at no others; none: at none."""

    pool: str
    guards: frozenset[tuple[str, Guard]]


@dataclass(frozen=True)
class DrainTarget:
    pool: str
    target: str
    """Its id."""


@dataclass(frozen=True)
class DropPool:
    pool: str


Step = (
    AddPool
    | AddTarget
    | MoveTarget
    | PointDomain
    | SetMaintenance
    | EndMaintenance
    | SetGuards
    | DropDomain
    | DrainTarget
    | DropPool
)


def find_steps(now: Mapping[str, Pool], wanted: Mapping[str, Pool]) -> tuple[Step, ...]:
    """What leads from one to the other; nothing when they are equal. Costs a comparison for a pool that stays."""
    new = [pool for name, pool in wanted.items() if name not in now]
    changed = [(now[name], pool) for name, pool in wanted.items() if name in now and now[name] != pool]
    gone = [pool for name, pool in now.items() if name not in wanted]
    pairs = [(Pool(pool.name, frozenset(), frozenset()), pool) for pool in new] + changed
    pointed = {domain: after.name for before, after in pairs for domain in after.domains - before.domains}
    left = [domain for before, after in changed for domain in before.domains - after.domains]
    left += [domain for pool in gone for domain in pool.domains]

    steps: list[Step] = [AddPool(pool.name) for pool in new]
    # On before anything leads there, off once everything is in its place.
    steps += [
        SetMaintenance(after.name, after.page)
        for before, after in pairs
        if after.maintenance and (before.maintenance, before.page) != (True, after.page)
    ]
    # Before a domain comes those that ask for its password, beside those of the domains that are still to leave.
    steps += [
        SetGuards(after.name, meanwhile)
        for before, after in pairs
        if (meanwhile := _guards_meanwhile(before, after)) != before.guards
    ]
    steps += [step for before, after in pairs for step in _arriving(before, after)]
    steps += [PointDomain(domain, pool) for domain, pool in sorted(pointed.items())]
    steps += [
        EndMaintenance(after.name) for before, after in pairs if before.maintenance and not after.maintenance
    ]
    steps += [DropDomain(domain) for domain in sorted(left) if domain not in pointed]
    steps += [
        SetGuards(after.name, after.guards)
        for before, after in pairs
        if _guards_meanwhile(before, after) != after.guards
    ]
    steps += [step for before, after in pairs for step in _leaving(before, after)]
    steps += [DrainTarget(pool.name, target.id) for pool in gone for target in sorted(pool.targets)]
    steps += [DropPool(pool.name) for pool in gone]
    return tuple(steps)


def touched(known: Mapping[str, Pool], wanted: Mapping[str, Pool], gone: Iterable[str]) -> Mapping[str, Pool]:
    """The part of the table that a change of these pools starts from: all others stay as they are."""
    return {name: known[name] for name in (*wanted, *gone) if name in known}


def _guards_meanwhile(before: Pool, after: Pool) -> frozenset[tuple[str, Guard]]:
    leaving = {(domain, guard) for domain, guard in before.guards if domain not in after.domains}
    return after.guards | leaving


def _arriving(before: Pool, after: Pool) -> Iterable[Step]:
    known = {target.id for target in before.targets}
    for target in sorted(after.targets - before.targets):
        yield MoveTarget(after.name, target) if target.id in known else AddTarget(after.name, target)


def _leaving(before: Pool, after: Pool) -> Iterable[Step]:
    staying = {target.id for target in after.targets}
    for target in sorted(before.targets - after.targets):
        if target.id not in staying:
            yield DrainTarget(after.name, target.id)


def checked(
    pools: Iterable[Pool], *, known: Mapping[str, Pool], owners: Mapping[str, str] | None = None
) -> Mapping[str, Pool]:
    """The pools by name; raises RouterError when they contradict each other or hold unfit words.

    `owners`: where these are not all pools, the pool that has each target now.

    These words go into a proxy's configuration and command line, so that whoever calls us is not
    trusted with them, whatever it checked itself. A pool that equals the one in `known` passed before.
    """
    named: dict[str, Pool] = {}
    domains: dict[str, str] = {}
    targets: dict[str, str] = {}
    for pool in pools:
        if named.setdefault(pool.name, pool) is not pool:
            raise RouterError(f"The pool {pool.name!r} is given twice.")
        if known.get(pool.name) != pool:
            _check_words(pool)
        for domain in pool.domains:
            if (owner := domains.setdefault(domain, pool.name)) != pool.name:
                raise RouterError(f"The domain {domain!r} is given to both {owner!r} and {pool.name!r}.")
        for target in pool.targets:
            if target.id in targets:
                raise RouterError(f"The target {target.id!r} is in {targets[target.id]!r} and {pool.name!r}.")
            targets[target.id] = pool.name
    for target_id, owner in targets.items():
        before = owners.get(target_id, owner) if owners else owner
        if before != owner and before not in named:
            raise RouterError(f"The target {target_id!r} is in {before!r} and {owner!r}.")
    return named


def normal_page(text: str) -> str:
    """The page in the form that a `Pool` takes: line breaks and tabs as spaces, no other control characters."""
    spaced = text.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
    return "".join(each for each in spaced if each >= " " and each != "\x7f")


def _check_words(pool: Pool) -> None:
    if not _POOL_NAME.fullmatch(pool.name):
        raise RouterError(f"{pool.name!r} is no name that a router takes for a pool.")
    if pool.inner:
        raise RouterError(f"{pool.name!r} is to have ports within the machine, which this router can't give.")
    if len(pool.page.encode(errors="replace")) > MAX_PAGE:
        raise RouterError(f"The maintenance page of {pool.name!r} has more than {MAX_PAGE} bytes.")
    if pool.page and (not pool.maintenance or normal_page(pool.page) != pool.page):
        raise RouterError(f"The maintenance page of {pool.name!r} is given in a form that no router takes.")
    for domain in pool.domains:
        if not _DOMAIN.fullmatch(domain):
            raise RouterError(f"{domain!r} is no domain that a router takes (pool {pool.name!r}).")
    for domain, guard in pool.guards:
        if domain not in pool.domains or not is_sound(guard):
            raise RouterError(f"The guard of {domain!r} is none that a router takes (pool {pool.name!r}).")
    if len(dict(pool.guards)) < len(pool.guards):
        raise RouterError(f"A domain of {pool.name!r} has two guards.")
    if len(guards_text(pool.guards)) > MAX_GUARDS:
        raise RouterError(f"The guards of {pool.name!r} have more than {MAX_GUARDS} bytes.")
    for target in pool.targets:
        if not _TARGET_ID.fullmatch(target.id):
            raise RouterError(f"{target.id!r} is no target id that a router takes (pool {pool.name!r}).")
        if not _is_address(target.address) or not 0 < target.port < 65536:
            raise RouterError(
                f"Target {target.id!r} is said to be at {target.address!r} port {target.port!r}: "
                "give an IP address and a port between 1 and 65535."
            )


def _is_address(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False
