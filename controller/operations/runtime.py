"""What operations may ask of the running system; the reconcile loop answers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from controller.backends.base import Backend
from controller.types import Instance


class Runtime(Protocol):
    """A view of what runs, at most one tick old. Operations never start or stop anything through it."""

    @property
    def backend(self) -> Backend:
        """For its optional powers (logs, run)."""

    def instances(self, deployment: str, service: str | None = None) -> Sequence[Instance]:
        """What runs, sorted; `state` is STARTING until the instance has passed its health check."""

    def pending(self, deployment: str, service: str) -> str | None:
        """What is still to be done for that service, in words; None once it has settled."""

    def awaiting(self, deployment: str, service: str) -> str | None:
        """What a person has to decide before that service's rollout goes on, in words; None: nothing."""

    def stopping(self) -> Mapping[str, datetime]:
        """Ids of instances that are being stopped, to when they were first asked to."""

    def problems(self) -> Sequence[str]:
        """What keeps the loop from doing its work now, in words."""

    def wake(self) -> None:
        """Plan again now rather than at the next tick."""
