"""Who may have a port of the machine, and that no two services have the same."""

from collections.abc import Mapping
from itertools import chain

from controller.errors import Conflict
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.lookup import address_of
from controller.publishing import clash, said_ports
from controller.state import State
from controller.types import Definition, Right


def check_publishing(
    state: State, asker: Actor, changes: Mapping[Address, tuple[Definition, Definition]]
) -> None:
    """`changes`: definitions before and after, by service. Raises Forbidden where somebody else than an admin takes a
    port, Conflict where another service has it."""
    taken = {
        address: said_ports(after).keys() - said_ports(before) for address, (before, after) in changes.items()
    }
    if not (places := sorted(chain.from_iterable(taken.values()))):
        return
    asker.require_admin(f"give an app a port of the machine (wan_map), as here {', '.join(places)}")
    held = {address_of(each): said_ports(each.definition) for each in state.services()}
    held |= {address: said_ports(after) for address, (_, after) in changes.items()}
    for address, wanted in taken.items():
        for place in sorted(wanted):
            for other, ports in held.items():
                if other != address and any(clash(place, each) for each in ports):
                    known = asker.may(other.deployment, Right.VIEW)
                    owner = other if known else "another app"
                    raise Conflict(f"wan_map: {place} of the machine leads to {owner} already.")
