"""The one client of the HTTP API: the command line, the SSH commands and the push pipeline use it.

Every call raises the errors of `controller.errors`, rebuilt from the server's problem+json, and
Unavailable when the server can't be reached. Addresses are `controller.names.Address`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from controller.names import Address
from controller.types import (
    Artifact,
    Build,
    BuildStatus,
    Deployment,
    Event,
    Instance,
    LogLine,
    Right,
    Service,
    SshKey,
    User,
    Version,
)


@dataclass(frozen=True, kw_only=True)
class ServiceInfo:
    """A service with what the server derives for it."""

    service: Service
    domains: tuple[str, ...]
    """All its domains, the default one first."""
    urls: tuple[str, ...]
    """The same as URLs that work through the router, port included where it is not 80."""
    process_types: Mapping[str, int]
    """Every process type of the wanted version to the number of instances it should have."""
    held: str | None
    """Why it can't start yet; None when nothing holds it."""
    running: int
    """Instances that run now."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What came of a request to change a service."""

    version: Version | None
    """The new version; None when nothing was made: no changes, or the service is held (see `held`)."""
    held: str | None = None


@dataclass(frozen=True, kw_only=True)
class RolloutStep:
    """One line of a rollout as it is followed."""

    text: str
    """For people, with the reason."""
    done: bool = False
    """True in the last one only."""
    version: Version | None = None
    """In the last one: the version as it ended, `live` or `failed` (or `superseded`)."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The server as a whole."""

    version: str
    api: str
    ssh: str
    http: str
    domain: str
    host_key_fingerprint: str
    problems: tuple[str, ...] = ()
    """What is wrong now, in words: a backend that does not answer, a full disk."""


class Client(Protocol):
    async def status(self) -> Status: ...
    async def me(self) -> User: ...

    async def deployments(self) -> Sequence[Deployment]: ...
    async def create_deployment(self, name: str) -> Deployment:
        """Also makes nothing else: a service comes with its first push or `set_service`. Raises Conflict."""

    async def destroy_deployment(self, name: str) -> None:
        """Stops and forgets everything of it: services, versions, domains, repositories, slugs, logs."""

    async def services(self, deployment: str | None = None) -> Sequence[ServiceInfo]:
        """All that the user may view, of one deployment or of all."""

    async def service(self, address: Address) -> ServiceInfo: ...
    async def ensure_service(self, address: Address) -> ServiceInfo:
        """The service, made as an empty code service when the deployment has none of that name (a first push)."""

    async def set_service(
        self, address: Address, definition: Mapping[str, Any], *, force: bool = False
    ) -> Change: ...
    async def destroy_service(self, address: Address) -> None: ...

    async def config(self, address: Address) -> Mapping[str, str]: ...
    async def change_config(
        self, address: Address, *, put: Mapping[str, str], drop: Sequence[str] = ()
    ) -> Change:
        """Several variables in one version."""

    async def set_branches(self, address: Address, branches: Sequence[str]) -> Service: ...
    async def scale(self, address: Address, changes: Mapping[str, str]) -> ServiceInfo:
        """Process type to "2", "+1" or "-1"."""

    async def restart(self, address: Address) -> Version: ...
    async def stop(self, address: Address) -> ServiceInfo: ...
    async def start(self, address: Address) -> ServiceInfo: ...
    async def instances(self, address: Address) -> Sequence[Instance]: ...

    async def versions(self, address: Address) -> Sequence[Version]:
        """Newest first."""

    async def version(self, address: Address, number: int) -> Version: ...
    async def release(
        self, address: Address, artifact: Artifact, *, commit: str | None, build: str | None, reason: str
    ) -> Change:
        """A version from new code."""

    async def rollback(self, address: Address, number: int | None = None) -> Version:
        """A new version with the code and config of an older one; None: of the last that was live before."""

    def follow(self, address: Address, number: int | None = None) -> AsyncIterator[RolloutStep]:
        """The rollout of that version, from its start, until it is live or failed.

        None: whatever the service is busy with (scaling, restart, stop), until it has settled.
        """

    async def domains(self, address: Address) -> Sequence[str]: ...
    async def add_domains(self, address: Address, domains: Sequence[str]) -> Sequence[str]:
        """Raises Conflict when another service has one of them; none is added then."""

    async def remove_domains(self, address: Address, domains: Sequence[str]) -> Sequence[str]: ...

    def logs(
        self,
        address: Address,
        *,
        lines: int = 100,
        follow: bool = False,
        instance: str | None = None,
    ) -> AsyncIterator[LogLine]: ...

    async def open_build(self, address: Address, *, commit: str | None) -> Build: ...
    async def append_build_log(self, build: str, lines: Sequence[str]) -> None: ...
    async def close_build(
        self, build: str, status: BuildStatus, *, error: str = "", artifact: Artifact | None = None
    ) -> Build: ...
    async def builds(self, address: Address) -> Sequence[Build]:
        """Newest first."""

    async def build(self, build: str) -> Build: ...
    async def build_log(self, build: str) -> str: ...
    async def cancel_build(self, build: str) -> Build:
        """Ask for its end; the build's owner notices within a second."""

    async def users(self) -> Sequence[User]: ...
    async def create_user(self, name: str, *, admin: bool = False) -> User: ...
    async def remove_user(self, name: str) -> None: ...
    async def grant(self, user: str, deployment: str, right: Right | None) -> User:
        """None takes all rights on that deployment away."""

    async def keys(self) -> Sequence[SshKey]: ...
    async def add_key(self, name: str, public_key: str, *, user: str | None = None) -> SshKey:
        """None: the asker's own. An admin may name anybody; a new user is made by that (without rights)."""

    async def remove_key(self, name: str) -> None: ...
    async def create_token(self, *, user: str | None = None, description: str = "") -> str:
        """The secret, shown this once."""

    async def events(self, *, deployment: str | None = None, limit: int = 100) -> Sequence[Event]: ...
    async def close(self) -> None: ...
