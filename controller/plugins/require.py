"""`require: db`: a service gets its first version once what it requires is there. Pure.

Only then: a later deploy goes by its own health checks, and what is required may come and go.
"""

from collections.abc import Iterable, Mapping, Sequence

from controller.plugins.exec import SECTION, declared
from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.plugins.hooks import hookimpl
from controller.plugins.required import KEY, required
from controller.plugins.resources import SECTION as RESOURCES
from controller.plugins.resources import declared as wanted
from controller.types import Resource, ResourceStatus

NAME = "require"
priority = 20
keys = frozenset({KEY})


@hookimpl
def setup(deployment: DeploymentFacts, service: ServiceFacts) -> str | None:
    """What the service waits for; None: for nothing."""
    return awaited(required(service.definition), deployment)


def awaited(names: Iterable[str], deployment: DeploymentFacts) -> str | None:
    """What of these is not there yet; None: all of it is."""
    waits = [said for name in names if (said := _awaited(name, deployment)) is not None]
    return f"waits for {', '.join(waits)}" if waits else None


def _awaited(name: str, deployment: DeploymentFacts) -> str | None:
    resource, service = deployment.resources.get(name), deployment.services.get(name)
    if resource is not None:
        return _resource(resource)
    if name in declared(deployment.deployment.globals.get(SECTION)):
        return f"{name} (its command has not run yet)"
    if name in wanted(deployment.deployment.globals.get(RESOURCES)):
        return name
    if service is None:
        return f"{name} (there is no service or resource of that name yet)"
    if service.live:
        return None
    return f"{name} (which was given up: {service.failure})" if service.failure else name


def _resource(resource: Resource) -> str | None:
    match resource.status:
        case ResourceStatus.READY:
            return None
        case ResourceStatus.FAILED:
            return f"{resource.name} (which failed: {resource.failure})"
        case _:
            return resource.name


def requirements(deployment: DeploymentFacts) -> Mapping[str, Sequence[str]]:
    """All that waits for something, services and commands of `Exec`, to what it waits for."""
    commands = declared(deployment.deployment.globals.get(SECTION))
    return {
        **{name: required(each.definition) for name, each in deployment.services.items()},
        **{name: each.require for name, each in commands.items()},
    }


def find_circle(required: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Names that require each other, each the one behind it and the last the first; empty: there is no circle."""
    done = set[str]()
    for start in required:
        path = dict[str, None]()
        stack = [(start, iter(required[start]))]
        path[start] = None
        while stack:
            name, left = stack[-1]
            following = next((each for each in left if each in required and each not in done), None)
            if following is None:
                done.add(name)
                del path[name]
                stack.pop()
            elif following in path:
                names = list(path)
                return names[names.index(following) :]
            else:
                path[following] = None
                stack.append((following, iter(required[following])))
    return ()
