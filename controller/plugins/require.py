"""`require: db`: a service gets its first version once what it requires is there. Pure.

Only then: a later deploy goes by its own health checks, and what is required may come and go.
"""

from collections.abc import Mapping, Sequence

from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.types import Definition

NAME = "require"


def required(definition: Definition) -> Sequence[str]:
    """Names of services and resources of the same deployment."""
    names = definition.extra.get(NAME)
    return [each for each in names if isinstance(each, str)] if isinstance(names, list) else []


def setup(deployment: DeploymentFacts, service: ServiceFacts) -> str | None:
    """What the service waits for; None: for nothing."""
    waits = [
        said for name in required(service.definition) if (said := _awaited(name, deployment)) is not None
    ]
    return f"waits for {', '.join(waits)}" if waits else None


def _awaited(name: str, deployment: DeploymentFacts) -> str | None:
    service = deployment.services.get(name)
    if service is None:
        return f"{name} (there is no service of that name yet)"
    if service.live:
        return None
    return f"{name} (which was given up: {service.failure})" if service.failure else name


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
