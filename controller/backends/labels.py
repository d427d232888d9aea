"""What a backend must remember of an instance, as flat text: the same in every driver.

Supervisor keeps it beside the program, an engine as labels of the container; it comes back as it went.
"""

from collections.abc import Mapping
from typing import Any

from controller.backends.base import BackendError, InstanceSpec
from controller.types import Instance, InstanceState

DEPLOYMENT = "deployment"
SERVICE = "service"
VERSION = "version"
PROCESS_TYPE = "process-type"
NUMBER = "number"
GENERATION = "generation"
ONCE = "once"


def to_labels(spec: InstanceSpec) -> Mapping[str, str]:
    """Everything that says whose copy it is."""
    return {
        DEPLOYMENT: spec.deployment,
        SERVICE: spec.service,
        VERSION: str(spec.version),
        PROCESS_TYPE: spec.process_type,
        NUMBER: str(spec.number),
        GENERATION: str(spec.generation),
        **({ONCE: "yes"} if spec.once else {}),
    }


def to_instance(name: str, labels: Mapping[str, str], *, state: InstanceState, **seen: Any) -> Instance:
    """The instance again. `seen` are the fields of Instance that the driver observed; raises BackendError."""
    try:
        return Instance(
            id=name,
            deployment=labels[DEPLOYMENT],
            service=labels[SERVICE],
            version=int(labels[VERSION]),
            process_type=labels[PROCESS_TYPE],
            number=int(labels[NUMBER]),
            generation=int(labels[GENERATION]),
            once=ONCE in labels,
            state=state,
            **seen,
        )
    except (KeyError, ValueError) as error:
        raise BackendError(
            f"Instance {name!r} lacks its label {error}: it was not made by this version of Mooring.",
            retryable=False,
        ) from error


def process_name(process_type: str, service: str, number: int | str) -> str:
    """`web.1`, as people see it; the unnamed process type goes by its service."""
    return f"{process_type or service}.{number}"


def split_id(name: str, *, deployment: str, service: str) -> tuple[str, str] | None:
    """Process type and number of an instance of that service; None when the id is of no such one."""
    prefix = f"{deployment}-{service}-"
    version, dash, rest = name.removeprefix(prefix).partition("-")
    process_type, _, number = rest.rpartition("-")
    if not name.startswith(prefix) or not dash or not (version + number).isdecimal():
        return None
    return process_type, number
