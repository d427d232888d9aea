"""Services that others of their deployment reach: the key `expose`, and the ports that are theirs for it. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping

from controller.environment import port_numbers
from controller.errors import InvalidInput
from controller.names import check_name
from controller.types import Definition, Deployment, Instance, Version
from router.types import Inner

KEY = "expose"
_PORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")


def check_place(text: str) -> str:
    """A service of the same deployment, or `service:port` for a port of it that has a name. Raises InvalidInput."""
    service, mark, port = text.partition(":")
    try:
        check_name(service, "service name")
    except InvalidInput as error:
        raise InvalidInput(
            KEY,
            f"expose: {text[:60]!a} can't be a service of this deployment: write `postgres`, or `mail:smtp` for a port "
            "of it.",
        ) from error
    if mark and not _PORT_NAME.fullmatch(port):
        raise InvalidInput(KEY, f"expose: {port[:60]!a} is no name of a port, as in `mail:smtp`.")
    return text


def exposed(definition: Definition) -> Mapping[str, str]:
    """Variable to what is reached by it: a service, or `service:port`."""
    return definition.extra.get(KEY) or {}


def places_of(deployment: Deployment | None, service: str) -> Mapping[str, int]:
    """Name of a port of the service, "" for its `PORT`, to the port of the machine at which others reach it."""
    found = dict[str, int]()
    for place, port in (deployment.inner_ports if deployment is not None else {}).items():
        owner, _, name = place.partition(":")
        if owner == service:
            found[name] = port
    return found


def inner_ports(
    deployment: Deployment | None,
    service: str,
    routed: Iterable[Instance],
    find: Callable[[int], Version | None],
) -> frozenset[Inner]:
    """Those that lead to the service, of which these instances take requests. A port with a name is there where an
    instance's version has it, with the number that it has in that one (`find` knows the versions)."""
    places = places_of(deployment, service)
    if deployment is None or not places:
        return frozenset()
    found = [(each.id, version) for each in routed if (version := find(each.version)) is not None]
    return frozenset(
        Inner(port, deployment.name, _leads(name, found) if name else None) for name, port in places.items()
    )


def _leads(name: str, instances: Iterable[tuple[str, Version]]) -> frozenset[tuple[str, int]]:
    numbers = ((instance, port_numbers(version).get(name)) for instance, version in instances)
    return frozenset((instance, number) for instance, number in numbers if number is not None)


def free_port(ports: range, deployments: Iterable[Deployment]) -> int | None:
    """One that no deployment has; None: all are taken."""
    taken = {port for each in deployments for port in each.inner_ports.values()}
    return next((each for each in ports if each not in taken), None)
