"""What code brings along for a service that nobody has set up for it yet: variables and a first scale. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.environment import shared_env
from controller.formation import MAX_INSTANCES
from controller.names import check_process_type
from controller.operations.definition import changed_env
from controller.operations.numbers import whole
from controller.types import Definition, Deployment, Service


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """It never goes over what people set."""

    variables: Mapping[str, str] = field(default_factory=dict)
    formation: Mapping[str, int] = field(default_factory=dict)
    """Process type to number of instances."""


NOTHING = Beginning()


def check_beginning(beginning: Beginning) -> None:
    """Raises InvalidInput."""
    changed_env({}, put=beginning.variables, drop=())
    for kind, quantity in beginning.formation.items():
        check_process_type(kind)
        whole(f"formation.{kind}", quantity, least=0, most=MAX_INSTANCES)


def with_variables(definition: Definition, deployment: Deployment, beginning: Beginning) -> Definition:
    """The definition with those of the variables that neither it nor the deployment has."""
    there = shared_env(deployment.globals).keys() | definition.env.keys()
    new = {name: value for name, value in beginning.variables.items() if name not in there}
    return replace(definition, env=changed_env(definition.env, put=new, drop=())) if new else definition


def begun(service: Service, beginning: Beginning) -> Service:
    """The service with the scale that it begins with; as it is where it has had a version."""
    if service.latest or not beginning.formation:
        return service
    return replace(service, scale={**beginning.formation, **service.scale})
