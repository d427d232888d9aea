"""What a builder is given and what it says while it works."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from controller.types import BuilderChoice, DockerfileBuild


class BuildOutput(Protocol):
    """Where a build prints. Calls are cheap and may come from the event loop only."""

    def step(self, text: str) -> None:
        """A heading, shown as `-----> text`."""

    def line(self, text: str) -> None:
        """A detail, shown indented by 7 spaces."""

    def warn(self, text: str) -> None:
        """Shown as ` !     text`."""


class Silent:
    """A BuildOutput that drops what it is told."""

    def step(self, text: str) -> None: ...

    def line(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A service of which a build is likely to come within seconds. Fields as in BuildRequest."""

    deployment: str
    service: str
    cache: Path
    uid: int | None = None
    builder: BuilderChoice = BuilderChoice.AUTO


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One build."""

    id: str
    """The build record's id; names temporary folders and `REQUEST_ID`."""
    deployment: str
    service: str
    source: Path
    """A folder with the source tree, the builder's to change and to remove."""
    commit: str | None = None
    """`SOURCE_VERSION` for buildpacks."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The service's env, given to buildpacks as files (ENV_DIR)."""
    buildpacks: tuple[str, ...] = ()
    """Those that were set for the service, in their order; empty: the source says, or they are detected."""
    build_dir: str = ""
    """The folder of the source that is built, from its top; empty: all of it."""
    builder: BuilderChoice = BuilderChoice.AUTO
    """What was set for the service."""
    dockerfile: DockerfileBuild = field(default_factory=DockerfileBuild)
    """How its Dockerfile is built, where that is what is built."""
    cache: Path
    """Kept between the builds of this service; made when missing."""
    uid: int | None = None
    """User and group id to run as; None: as the server does."""
    timeout: float = 900.0
    """Seconds; then the build is killed and BuildFailed says so."""

    @property
    def expected(self) -> Expected:
        """What could be known of it before."""
        return Expected(
            deployment=self.deployment,
            service=self.service,
            cache=self.cache,
            uid=self.uid,
            builder=self.builder,
        )
