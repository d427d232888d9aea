"""Which of what people wrote nobody acts on. Pure."""

from collections.abc import Container, Mapping

from controller.servicefile.document import SECTIONS
from controller.servicefile.keys import KNOWN
from controller.types import Definition, Deployment


def unclaimed(
    deployment: Deployment, definitions: Mapping[str, Definition], claimed: Container[str]
) -> tuple[str, ...]:
    """Sections, and keys of services as `web.sidecar`, that are neither the product's nor of a plugin that is on."""
    sections = [name for name in deployment.globals if name not in SECTIONS and name not in claimed]
    keys = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key in definition.extra
        if key not in KNOWN and key not in claimed
    ]
    return tuple(sorted(sections) + sorted(keys))
