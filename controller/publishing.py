"""Ports of the machine that lead to a service: the key `wan_map`, and what servers of resources have. Pure."""

from collections.abc import Mapping

from controller.environment import port_numbers
from controller.types import ArtifactKind, Definition, Version

KEY = "wan_map"
ITS_PORT = 0
"""In place of a number: the port at which it takes requests."""


def outer_ports(definition: Definition) -> Mapping[str, str]:
    """`HOST:PORT` of the machine (`:PORT`: of all its addresses) to the name of the port that answers there. One
    instance alone can have them."""
    return said_ports(definition) if definition.image is not None else {}


def said_ports(definition: Definition) -> Mapping[str, str]:
    """The same whether or not it has an effect: what runs code now may be given an image later (promote)."""
    return definition.extra.get(KEY) or {}


def published(version: Version) -> Mapping[str, int]:
    """The same to numbers of ports, `ITS_PORT` among them, for what runs by that version."""
    definition = version.definition
    if version.artifact is None or version.artifact.kind is not ArtifactKind.IMAGE:
        return definition.publish
    numbers = port_numbers(version)
    outer = {place: numbers.get(name, ITS_PORT) for place, name in outer_ports(definition).items()}
    return {**definition.publish, **outer}


def clash(one: str, other: str) -> bool:
    """Whether two of them can't be had at once."""
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    return port == other_port and (host == other_host or not host or not other_host)
