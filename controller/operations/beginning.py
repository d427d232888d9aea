"""What code brings along for a service that nobody has set up for it yet: variables and a first scale. Pure."""

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controller.environment import shared_env
from controller.formation import MAX_INSTANCES
from controller.names import Address, check_process_type
from controller.operations.definition import changed_env
from controller.operations.numbers import whole
from controller.types import Definition, Deployment, Manifest, Service, Version, Wish


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """It never goes over what people set."""

    variables: Mapping[str, str] = field(default_factory=dict)
    formation: Mapping[str, int] = field(default_factory=dict)
    """Process type to number of instances."""


NOTHING = Beginning()


def missing(manifest: Manifest, there: Collection[str]) -> Mapping[str, Wish]:
    """Variables that the code requires, and that are neither there nor made by `wanted`."""
    return {
        name: wish
        for name, wish in manifest.env.items()
        if wish.required and wish.value is None and not wish.secret and name not in there
    }


def wanted(manifest: Manifest, there: Collection[str], make_secret: Callable[[], str]) -> Mapping[str, str]:
    """Variables that the code wants set, of those that are not there."""
    return {
        name: make_secret() if wish.value is None else wish.value
        for name, wish in manifest.env.items()
        if name not in there and (wish.secret or wish.value is not None)
    }


def with_older_secrets(beginning: Beginning, manifest: Manifest, versions: Iterable[Version]) -> Beginning:
    """The same, but a secret that one of these (newest first) had is that one again: what was sealed with it is
    still there when somebody has rolled back in between."""
    older = dict[str, str]()
    for version in versions:
        for name in beginning.variables:
            wish = manifest.env.get(name)
            if wish is not None and wish.secret and name in version.definition.env:
                older.setdefault(name, version.definition.env[name])
    return replace(beginning, variables={**beginning.variables, **older}) if older else beginning


def fresh_secret() -> str:
    """64 hex digits."""
    return secrets.token_hex(32)


def way_out(address: Address, names: Iterable[str]) -> str:
    """What to type where variables are missing."""
    pairs = " ".join(f"{name}=…" for name in names)
    return f"config:set -a {address} {pairs}"


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
