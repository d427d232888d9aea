"""`Generate: {Secret: 32}`: random secrets of a deployment, which stay the same until somebody renews them. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from controller.errors import InvalidInput
from controller.plugins.facts import DeploymentFacts
from controller.plugins.hooks import hookimpl
from controller.types import Deployment

NAME = "generate"
SECTION = "Generate"
sections = frozenset({SECTION})
DEFAULT_BYTES, MAX_BYTES = 32, 1024
TAKEN = frozenset({"PORT", "HOST", "DEPLOY_ID"})
"""Names that stand for something else."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")

Random = Callable[[int], str]
"""So many random bytes, as hexadecimal digits."""


def read_generate(section: Any) -> Mapping[str, int]:
    """Name to the number of random bytes; `32`, `{hex: 32}`, `{hex: null}` and nothing are the same.

    Raises InvalidInput.
    """
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise InvalidInput(SECTION, "Generate must map names to sizes, as in {Secret: {hex: 32}}.")
    return {_checked(str(name)): _size(str(name), value) for name, value in section.items()}


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name in TAKEN:
        raise InvalidInput(
            SECTION,
            f"{name[:60]!a} can't name a secret: use letters, digits and _, and none of {', '.join(sorted(TAKEN))}.",
        )
    return name


def _size(name: str, value: Any) -> int:
    if isinstance(value, Mapping):
        if unknown := value.keys() - {"hex"}:
            raise InvalidInput(
                SECTION, f"{name}: {sorted(map(str, unknown))[0][:60]!a} is unknown: write {{hex: 32}}."
            )
        value = value.get("hex")
    size = DEFAULT_BYTES if value is None else value
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_BYTES:
        raise InvalidInput(
            SECTION, f"{name} must be a number of random bytes from 1 to {MAX_BYTES}, as in {{hex: 32}}."
        )
    return size


def with_secrets(deployment: Deployment, random: Random) -> Deployment:
    """The deployment with a value for each name that has none yet. What is there stays, also without its name: it
    is the same again when the name comes back."""
    sizes = read_generate(deployment.globals.get(SECTION))
    new = {name: random(size) for name, size in sizes.items() if name not in deployment.generated}
    return replace(deployment, generated={**deployment.generated, **new}) if new else deployment


@hookimpl
def provide_vars(deployment: DeploymentFacts) -> Mapping[str, str]:
    """What the names of the section stand for."""
    return secrets_of(deployment.deployment)


def secrets_of(deployment: Deployment) -> Mapping[str, str]:
    """The same."""
    section = deployment.globals.get(SECTION)
    names = section if isinstance(section, Mapping) else {}
    return {name: value for name, value in deployment.generated.items() if name in names}
