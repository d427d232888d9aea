"""The server as a whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from controller.backends.base import SupportsLimits
from controller.config import Listen
from controller.operations.access import Actor
from controller.operations.runtime import Runtime
from controller.views import DiskSpace, Status


@dataclass(frozen=True, kw_only=True)
class Doorplate:
    """Where the server can be reached: as bound, with the ports that the system chose."""

    api: Listen
    ssh: Listen
    http: Listen
    host_key_fingerprint: str


class ServerOperations:
    def __init__(
        self,
        runtime: Runtime,
        problems: Callable[[], Sequence[str]],
        doorplate: Callable[[], Doorplate],
        disk: Callable[[], DiskSpace | None],
        *,
        domain: str,
    ) -> None:
        """`problems`: what is wrong anywhere; `disk`: its last look, None before the first."""
        self._runtime = runtime
        self._problems = problems
        self._disk = disk
        self._doorplate = doorplate
        self._domain = domain

    def status(self, asker: Actor) -> Status:
        """For every user, as addresses and problems concern all of them."""
        where, backend = self._doorplate(), self._runtime.backend
        return Status(
            version=version("mooring"),
            api=str(where.api),
            ssh=str(where.ssh),
            http=str(where.http),
            domain=self._domain,
            host_key_fingerprint=where.host_key_fingerprint,
            problems=tuple(self._problems()),
            limits=backend.limits() if isinstance(backend, SupportsLimits) else {},
            disk=self._disk(),
        )
