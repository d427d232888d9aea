"""The routing table as HAProxy holds it: backends made ahead ("slots"), their pools and servers, map entries."""

import base64
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from router.base import RouterError
from router.changelog import ChangeLog
from router.guards import parse_guards
from router.types import Guard, GuardMode, Pool, Target

HOSTS = "hosts.map"
"""Domain to slot."""
WILDCARDS = "wildcards.map"
"""`example.org`, for `*.example.org`, to slot."""
NAMES = "names.map"
"""Slot to pool name."""
MAINTENANCE = "maintenance.map"
"""Slot, of those in maintenance, to the page that answers, as `encode_text` writes it."""
GUARDS = "guards.map"
"""Slot, of those with guards, to their text, as `encode_text` writes it."""

_UNREADABLE = frozenset({("", Guard(GuardMode.BASIC, ()))})
"""Stands for guards that are none of ours: they let nobody in, and differ from all that are wanted."""
_MAINTENANCE = 0x01 | 0x02 | 0x04 | 0x20
_DRAIN = 0x08 | 0x10
_UNNAMED = "?"
"""Begins the name of what serves without belonging to a pool: a change broke off half way. No real pool is named so."""


def map_entry(domain: str) -> tuple[str, str]:
    """The map that holds a domain, and its key there."""
    return (WILDCARDS, domain[2:]) if domain.startswith("*.") else (HOSTS, domain)


def encode_text(text: str) -> str:
    """In base64url without padding, which commands, maps and HAProxy's `ub64dec` take; `-` for none."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=") or "-"


def decode_text(text: str) -> str:
    """The text again; raises ValueError."""
    return "" if text == "-" else base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


@dataclass
class Slot:
    """One backend."""

    name: str
    pool: str | None = None
    """None: free, once its last server is gone."""
    domains: set[str] = field(default_factory=set)
    maintenance: bool = False
    page: str = ""
    guards: frozenset[tuple[str, Guard]] = frozenset()
    routed: dict[str, Target] = field(default_factory=dict)
    leaving: dict[str, Target] = field(default_factory=dict)
    """Drained, being removed, or not yet taken into service when somebody was interrupted."""


@dataclass(frozen=True)
class Layout:
    """Which slot serves which pool: all that a configuration says of a table."""

    slots: int
    """How many there are, the free ones too."""
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Slot name to pool."""

    def names(self) -> list[str]:
        return [f"pool-{index}" for index in range(1, self.slots + 1)]


@dataclass
class LiveTable:
    """What one HAProxy process was last seen doing, kept up to date with what it is told."""

    slots: dict[str, Slot]
    pools: dict[str, Slot] = field(default_factory=dict)
    """Pool name to its slot."""
    domains: dict[str, Slot] = field(default_factory=dict)
    known: dict[str, Pool] = field(default_factory=dict)
    """Pool name to what is routed for it."""
    owners: dict[str, str] = field(default_factory=dict)
    """Id of a routed target to its pool."""
    emptying: dict[str, Slot] = field(default_factory=dict)
    """Slots with targets that leave, by name."""
    changes: ChangeLog = field(default_factory=ChangeLog)
    """Of `known`."""

    @classmethod
    def serving(cls, layout: Layout) -> "LiveTable":
        """What a process does that was just started with this layout."""
        live = cls({name: Slot(name) for name in layout.names()})
        for name, pool in layout.pools.items():
            slot = live.slots[name]
            live.name(slot, pool.name)
            slot.routed = {target.id: target for target in pool.targets}
            slot.maintenance, slot.page, slot.guards = pool.maintenance, pool.page, pool.guards
            for domain in pool.domains:
                live.point(domain, slot)
        live.refresh(live.pools)
        return live

    def layout(self) -> Layout:
        return Layout(len(self.slots), {slot.name: self.known[name] for name, slot in self.pools.items()})

    def layout_for(self, wanted: Mapping[str, Pool], *, slots: int) -> Layout:
        """A layout with at least that many slots for these pools; those that are here keep their slots."""
        layout = Layout(max(slots, len(self.slots)))
        placed = {self.pools[name].name: pool for name, pool in wanted.items() if name in self.pools}
        free = (name for name in layout.names() if name not in placed)
        newcomers = {next(free): pool for name, pool in wanted.items() if name not in self.pools}
        return Layout(layout.slots, placed | newcomers)

    def free_slots(self) -> list[Slot]:
        """Slots that a new pool may take, in order."""
        return [slot for slot in self.slots.values() if slot.pool is None and not slot.leaving]

    def name(self, slot: Slot, pool: str) -> None:
        slot.pool = pool
        self.pools[pool] = slot

    def unname(self, pool: str) -> None:
        slot = self.pools.pop(pool)
        slot.pool, slot.maintenance, slot.page, slot.guards = None, False, "", frozenset()

    def point(self, domain: str, slot: Slot) -> None:
        if (before := self.domains.get(domain)) is not None:
            before.domains.discard(domain)
        self.domains[domain] = slot
        slot.domains.add(domain)

    def drop(self, domain: str) -> None:
        self.domains.pop(domain).domains.discard(domain)

    def leave(self, slot: Slot, target: Target) -> None:
        """It takes no requests any more."""
        slot.routed.pop(target.id, None)
        slot.leaving[target.id] = target
        self.emptying[slot.name] = slot

    def left(self, slot: Slot, target: str) -> None:
        """It leaves no longer: it is gone, or back."""
        slot.leaving.pop(target, None)
        if not slot.leaving:
            self.emptying.pop(slot.name, None)

    def refresh(self, pools: Iterable[str]) -> None:
        """Bring `known` up to date for these pools."""
        names = list(pools)
        for name in names:
            before = self.known.pop(name, None)
            for target in before.targets if before else ():
                if self.owners.get(target.id) == name:
                    del self.owners[target.id]
        for name in names:
            if (slot := self.pools.get(name)) is not None:
                self.known[name] = Pool(
                    name,
                    frozenset(slot.domains),
                    frozenset(slot.routed.values()),
                    maintenance=slot.maintenance,
                    page=slot.page,
                    guards=slot.guards,
                )
                self.owners |= dict.fromkeys(slot.routed, name)
            self.changes.note(name)


def parse_live_table(
    slots: int, *, names: str, hosts: str, wildcards: str, maintenance: str, guards: str, servers: str
) -> LiveTable:
    """The table from HAProxy's own answers: five times `show map`, and `show servers state`."""
    live = LiveTable.serving(Layout(slots))
    for slot, pool in _map_lines(names):
        live.name(_slot(live, slot), pool)
    for domain, slot in _map_lines(hosts):
        live.point(domain, _slot(live, slot))
    for suffix, slot in _map_lines(wildcards):
        live.point(f"*.{suffix}", _slot(live, slot))
    for slot, page in _map_lines(maintenance):
        _slot(live, slot).maintenance = True
        # Nobody's but ours: what is no page is put right by the next change.
        with contextlib.suppress(ValueError):
            _slot(live, slot).page = decode_text(page)
    for slot, text in _map_lines(guards):
        _slot(live, slot).guards = _read_guards(text)
    _take_servers(live, servers)
    for unnamed in live.slots.values():
        if unnamed.pool is None and (
            unnamed.domains or unnamed.routed or unnamed.maintenance or unnamed.guards
        ):
            live.name(unnamed, _UNNAMED + unnamed.name)
    live.refresh(live.pools)
    return live


NO_SERVERS = "1\n# be_name srv_name srv_addr srv_port srv_admin_state"
"""What `show servers state` says where there are none."""


def _read_guards(text: str) -> frozenset[tuple[str, Guard]]:
    try:
        return parse_guards(decode_text(text)) or _UNREADABLE
    except ValueError:
        return _UNREADABLE


def _slot(live: LiveTable, name: str) -> Slot:
    try:
        return live.slots[name]
    except KeyError:
        raise RouterError(f"HAProxy has a backend {name!r} that is not ours.") from None


def _map_lines(answer: str) -> Iterable[tuple[str, str]]:
    for line in answer.splitlines():
        _reference, key, value = line.split(" ", 2)
        yield key, value


def _take_servers(live: LiveTable, answer: str) -> None:
    lines = answer.splitlines()
    if len(lines) < 2 or lines[0] != "1":
        raise RouterError(f"HAProxy answered 'show servers state' with {answer[:80]!r}.")
    columns = lines[1].removeprefix("# ").split()
    backend, name, address, port, admin = (
        columns.index(each) for each in ("be_name", "srv_name", "srv_addr", "srv_port", "srv_admin_state")
    )
    for line in lines[2:]:
        words = line.split(" ")
        slot = _slot(live, words[backend])
        target = Target(words[name], words[address], int(words[port]))
        out_of_service = int(words[admin]) & (_MAINTENANCE | _DRAIN)
        if out_of_service:
            live.leave(slot, target)
        else:
            slot.routed[target.id] = target


def parse_requests_in_work(answer: str) -> Mapping[str, int]:
    """Server name to connections in use, from `show servers conn`; summed over backends."""
    lines = [line for line in answer.splitlines() if line]
    if not lines or not lines[0].startswith("# "):
        raise RouterError(f"HAProxy answered 'show servers conn' with {answer[:80]!r}.")
    used = lines[0].removeprefix("# ").split().index("used_cur")
    found: dict[str, int] = {}
    for line in lines[1:]:
        words = line.split(" ")
        server = words[0].partition("/")[2]
        found[server] = found.get(server, 0) + int(words[used])
    return found
