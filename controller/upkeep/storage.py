"""What the server keeps on its disk, as the collector needs it; the builder's side of the house implements it."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Kind(StrEnum):
    """What files are, in the order in which people are told."""

    SLUGS = "slugs"
    APPS = "apps"
    """Unpacked slugs, which instances run in."""
    CACHES = "caches"
    """Of builds."""
    IMAGES = "images"
    """On the container engine, each as large as the engine says, with what it shares with others."""
    BUILDS = "builds"
    """Logs of builds, and what running builds work on."""
    LOGS = "logs"
    """What instances printed."""
    REPOSITORIES = "repositories"
    VOLUMES = "volumes"
    OTHER = "other"
    """The store, tools, drivers' files."""


@dataclass(frozen=True)
class Space:
    """Of the disk that the data folder is on, in bytes."""

    total: int
    free: int


@dataclass(frozen=True)
class Removed:
    """What a call took away."""

    count: int = 0
    size: int = 0
    """Bytes on disk."""

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(self.count + other.count, self.size + other.size)


@dataclass(frozen=True)
class Cache:
    """The build cache of one service."""

    deployment: str
    service: str
    size: int
    used_at: datetime


@dataclass(frozen=True)
class Volume:
    """A folder of a service that outlives its versions."""

    service: str
    name: str
    size: int
    """Bytes on disk."""


class BadArchive(Exception):
    """What was to be unpacked is damaged, or has something in it that is refused."""


class Storage(Protocol):
    """Files of the server. Calls may take long, and may be cancelled; what they raise is OSError."""

    async def space(self) -> Space: ...

    async def usage(self) -> Mapping[Kind, int]:
        """Bytes by kind."""

    async def usage_of(
        self, deployment: str, service: str, *, slugs: Collection[str], builds: Collection[str]
    ) -> Mapping[Kind, int]:
        """Bytes of one service by kind; `slugs`: references of its versions, `builds`: ids of its builds."""

    def forget_fresh(self, slugs: Collection[str]) -> None:
        """These are held by records: that they were just written does not protect them any longer."""

    async def remove_slugs(self, slugs: Collection[str]) -> Removed:
        """Remove these archives, but for those that a build has just written."""

    async def collect_slugs(self, is_held: Callable[[str], bool]) -> Removed:
        """Remove all archives but those of which it says so, and those that a build has just written."""

    async def collect_images(self, is_held: Callable[[str], bool]) -> Removed:
        """Forget all images on the engine but those of which it says so, and those that were just made."""

    async def keep_image(self, deployment: str, service: str, image: str) -> None:
        """Let the engine keep the image for that service too."""

    async def collect_apps(
        self,
        is_wanted: Callable[[str, str, str], bool],
        services: Sequence[tuple[str, str]] | None = None,
    ) -> Removed:
        """Remove unpacked slugs, of these services or of all, unless `is_wanted` (deployment, service, reference);
        it is asked right before each is removed.
        """

    async def caches(self) -> Sequence[Cache]: ...

    async def remove_cache(self, deployment: str, service: str, *, in_use: Callable[[], bool]) -> Removed:
        """Remove it, unless `in_use` says at the last moment that a build works with it."""

    async def remove_service(self, deployment: str, service: str) -> None:
        """Remove all that a destroyed service has, but for archives of slugs, which others may share.

        Its volumes are put aside, where only the machine's admin finds them, unless they were given up.
        """

    async def volumes(self, deployment: str) -> Sequence[Volume]:
        """Of all services of the deployment, measured; by service and name."""

    async def remove_volume(
        self, deployment: str, service: str, name: str, *, in_use: Callable[[], bool]
    ) -> Removed:
        """Remove that one for good, unless `in_use` says at the last moment that something works with it."""

    def pack_volume(self, deployment: str, service: str, name: str) -> AsyncGenerator[bytes, None]:
        """All that is in it, as `restore_volume` takes it; it may be in use. Nothing where it is not there."""

    async def restore_volume(
        self,
        deployment: str,
        service: str,
        name: str,
        pieces: AsyncIterator[bytes],
        *,
        uid: int | None,
        in_use: Callable[[], bool],
    ) -> bool:
        """Make that all that is in it, at once: False where `in_use` said at the last moment that something works
        with it, and nothing changed. `uid`: whom a new one belongs to. Raises BadArchive, and what `pieces` raises."""

    async def give_up_volumes(self, deployment: str, service: str) -> None:
        """They are to be removed with the service."""

    async def services(self) -> Sequence[tuple[str, str]]:
        """(deployment, service) of all that has files."""

    async def sweep(self) -> None:
        """At the start: finish removals that were broken off."""

    @property
    def folder(self) -> Path:
        """What all of it lies below."""
