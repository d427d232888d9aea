"""What a definition says in `require`."""

from collections.abc import Sequence

from controller.types import Definition

KEY = "require"


def required(definition: Definition) -> Sequence[str]:
    """Names of services and resources of the same deployment."""
    names = definition.extra.get(KEY)
    return [each for each in names if isinstance(each, str)] if isinstance(names, list) else []
