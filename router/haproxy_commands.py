"""Steps → Runtime API commands, and then into the table that they change."""

from collections.abc import Iterator, Sequence

from router.diff import (
    AddPool,
    AddTarget,
    DrainTarget,
    DropDomain,
    DropPool,
    EndMaintenance,
    MoveTarget,
    PointDomain,
    SetGuards,
    SetMaintenance,
    Step,
)
from router.guards import guards_text
from router.haproxy_config import place, server_options
from router.haproxy_table import GUARDS, MAINTENANCE, NAMES, LiveTable, Slot, encode_text, map_entry
from router.runtime_api import Command, Session
from router.types import Guard, Target

_MOVED = ("IP changed", "port changed", "no need to change")
_GONE_OR_DONE = ("", "Key not found")


async def perform(session: Session, live: LiveTable, steps: Sequence[Step], free: Sequence[Slot]) -> None:
    """Take all steps; new pools get the free slots, in order. `live` changes only when every command was accepted."""
    slots = dict(live.pools)
    newcomers = [step.pool for step in steps if isinstance(step, AddPool)]
    slots |= dict(zip(newcomers, free, strict=False))
    options = server_options(len(live.known))
    touched = {slot.pool for step in steps if (slot := _former_owner(live, step)) is not None and slot.pool}
    touched |= {step.pool for step in steps if not isinstance(step, DropDomain)}

    await session.tell([command for step in steps for command in _commands(step, live, slots, options)])
    for step in steps:
        _note(step, live, slots)
    live.refresh(touched)


def _former_owner(live: LiveTable, step: Step) -> Slot | None:
    return live.domains.get(step.domain) if isinstance(step, PointDomain | DropDomain) else None


def _commands(step: Step, live: LiveTable, slots: dict[str, Slot], options: str) -> Iterator[Command]:
    match step:
        case AddPool(pool):
            yield Command(f"add map {NAMES} {slots[pool].name} {pool}")
        case AddTarget(pool, target):
            yield from _add_server(slots[pool], target, options)
        case MoveTarget(pool, target):
            yield from _move_server(f"{slots[pool].name}/{target.id}", target)
        case PointDomain(domain, pool):
            name, key = map_entry(domain)
            # `set` is one change for those who look it up, `del` and `add` would be two.
            verb = "set" if domain in live.domains else "add"
            yield Command(f"{verb} map {name} {key} {slots[pool].name}")
        case SetMaintenance(pool, page):
            slot = slots[pool]
            verb = "set" if slot.maintenance else "add"
            yield Command(f"{verb} map {MAINTENANCE} {slot.name} {encode_text(page)}")
        case EndMaintenance(pool):
            yield Command(f"del map {MAINTENANCE} {slots[pool].name}", _GONE_OR_DONE)
        case SetGuards(pool, guards):
            yield from _set_guards(slots[pool], guards)
        case DropDomain(domain):
            name, key = map_entry(domain)
            yield Command(f"del map {name} {key}", _GONE_OR_DONE)
        case DrainTarget(pool, target_id):
            yield Command(f"set server {slots[pool].name}/{target_id} state drain")
        case DropPool(pool):
            if slots[pool].maintenance:
                yield Command(f"del map {MAINTENANCE} {slots[pool].name}", _GONE_OR_DONE)
            if slots[pool].guards:
                yield Command(f"del map {GUARDS} {slots[pool].name}", _GONE_OR_DONE)
            yield Command(f"del map {NAMES} {slots[pool].name}", _GONE_OR_DONE)


def _set_guards(slot: Slot, guards: frozenset[tuple[str, Guard]]) -> Iterator[Command]:
    # A second one for the pool in the same change is there only where it had guards before, which `slot` still says.
    if guards:
        verb = "set" if slot.guards else "add"
        yield Command(f"{verb} map {GUARDS} {slot.name} {encode_text(guards_text(guards))}")
    else:
        yield Command(f"del map {GUARDS} {slot.name}", _GONE_OR_DONE)


def _add_server(slot: Slot, target: Target, options: str) -> Iterator[Command]:
    server = f"{slot.name}/{target.id}"
    if target.id in slot.leaving:
        # It comes back before it was removed.
        yield from _move_server(server, target)
    else:
        yield Command(f"add server {server} {place(target)} {options}", ("New server registered",))
    yield Command(f"enable health {server}")
    yield Command(f"set server {server} state ready")


def _move_server(server: str, target: Target) -> Iterator[Command]:
    yield Command(f"set server {server} addr {target.address} port {target.port}", _MOVED)
    yield Command(f"set server {server} health up")


def _note(step: Step, live: LiveTable, slots: dict[str, Slot]) -> None:
    match step:
        case AddPool(pool):
            live.name(slots[pool], pool)
        case AddTarget(pool, target) | MoveTarget(pool, target):
            live.left(slots[pool], target.id)
            slots[pool].routed[target.id] = target
        case PointDomain(domain, pool):
            live.point(domain, slots[pool])
        case SetMaintenance(pool, page):
            slots[pool].maintenance, slots[pool].page = True, page
        case EndMaintenance(pool):
            slots[pool].maintenance, slots[pool].page = False, ""
        case SetGuards(pool, guards):
            slots[pool].guards = guards
        case DropDomain(domain):
            live.drop(domain)
        case DrainTarget(pool, target_id):
            live.leave(slots[pool], slots[pool].routed[target_id])
        case DropPool(pool):
            live.unname(pool)
