"""Finding what an address names, as far as the asker may know of it."""

from controller.errors import NotFound
from controller.names import Address
from controller.operations.access import Actor, unknown_deployment
from controller.state import State
from controller.types import Code, Deployment, Right, Service, Version


def get_deployment(state: State, asker: Actor, name: str, right: Right) -> Deployment:
    """Raises NotFound, Forbidden."""
    asker.require(name, right)
    deployment = state.deployment(name)
    if deployment is None:
        raise unknown_deployment(name)
    return deployment


def get_service(state: State, asker: Actor, address: Address, right: Right) -> Service:
    """Raises NotFound, Forbidden."""
    get_deployment(state, asker, address.deployment, right)
    service = state.service(address.deployment, address.service)
    if service is None:
        raise NotFound(f"{address.deployment} has no service {address.service} yet.")
    return service


def get_version(state: State, service: Service, number: int) -> Version:
    """Raises NotFound."""
    version = state.version(service.deployment, service.name, number)
    if version is None:
        raise NotFound(f"{address_of(service)} has no version {number}.")
    return version


def find_wanted(state: State, service: Service) -> Version | None:
    """The version that should run: the target, else what serves; None while there is neither."""
    number = service.target or service.current
    return None if number is None else state.version(service.deployment, service.name, number)


def find_code(state: State, service: Service) -> Code | None:
    """The code that a change of config goes on with: the wanted version's. None: that has an image.

    Where there is none, because no version came up yet, the newest one's: its config may be what was wrong.
    Before the first version, what was brought while the service was held.
    """
    version = find_wanted(state, service)
    version = version or next(iter(state.versions(service.deployment, service.name)), None)
    if version is None:
        return service.code
    if version.artifact is None or version.definition.image is not None:
        return None
    return Code(artifact=version.artifact, commit=version.commit, origin=version.origin, build=version.build)


def address_of(service: Service) -> Address:
    return Address(service.deployment, service.name)
