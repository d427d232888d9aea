"""Which domains a service answers under. Pure: the loop, the operations and the API share it."""

from controller.errors import InvalidInput
from controller.names import DEFAULT_SERVICE, check_domain
from controller.types import Service


def default_domain(deployment: str, service: str, domain: str) -> str | None:
    """What the server derives from the names; None where they make no valid host name (too long, `a.-b`)."""
    name = deployment if service == DEFAULT_SERVICE else f"{service}-{deployment}"
    try:
        return check_domain(f"{name}.{domain}")
    except InvalidInput:
        return None


def domains_of(service: Service, domain: str) -> tuple[str, ...]:
    """All domains of a service, the default one first. `domain` is the setting of that name."""
    default = default_domain(service.deployment, service.name, domain)
    return ((default,) if default else ()) + tuple(each for each in service.domains if each != default)
