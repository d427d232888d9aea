"""What plugins are told of a deployment, read from the state."""

from collections.abc import Mapping
from dataclasses import replace

from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.state import State
from controller.types import Definition, Deployment, Service


def facts_of(state: State, deployment: Deployment) -> DeploymentFacts:
    """As it is now."""
    services = {each.name: service_facts(each) for each in state.services(deployment.name)}
    resources = {each.name: replace(each, values={}) for each in state.resources(deployment.name)}
    return DeploymentFacts(deployment=deployment, services=services, resources=resources)


def service_facts(service: Service) -> ServiceFacts:
    return ServiceFacts(
        name=service.name,
        definition=service.definition,
        live=service.current is not None,
        failure=service.rollout_failure,
    )


def defined(facts: DeploymentFacts, definitions: Mapping[str, Definition]) -> DeploymentFacts:
    """The same once these services, some of which may be new, have these definitions."""
    services = dict(facts.services)
    for name, definition in definitions.items():
        known = services.get(name, ServiceFacts(name=name, definition=definition))
        services[name] = replace(known, definition=definition)
    return replace(facts, services=services)
