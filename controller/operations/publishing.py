"""Who may have a port of the machine, and that no two services have the same. Pure."""

from collections.abc import Iterable, Mapping
from itertools import chain

from controller.errors import Conflict
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.lookup import address_of
from controller.publishing import clash, outer_ports
from controller.types import Definition, Right, Service


def check_publishing(
    asker: Actor, changes: Mapping[Address, tuple[Definition, Definition]], services: Iterable[Service]
) -> None:
    """`changes`: definitions before and after, by service; `services`: all of the server. Raises Forbidden where
    somebody else than an admin takes a port, Conflict where another service has it."""
    taken = {
        address: outer_ports(after).keys() - outer_ports(before)
        for address, (before, after) in changes.items()
    }
    if not (places := sorted(chain.from_iterable(taken.values()))):
        return
    asker.require_admin(f"give an app a port of the machine (wan_map), as here {', '.join(places)}")
    held = {address: outer_ports(after) for address, (_, after) in changes.items()}
    others = {address_of(each): outer_ports(each.definition) for each in services}
    for address, wanted in taken.items():
        for place in sorted(wanted):
            for other, ports in {**others, **held}.items():
                if other != address and any(clash(place, each) for each in ports):
                    known = asker.may(other.deployment, Right.VIEW)
                    owner = other if known else "another app"
                    raise Conflict(f"wan_map: {place} of the machine leads to {owner} already.")
