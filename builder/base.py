"""The contract of a builder, and its errors: BuildFailed is the user's, BuilderUnavailable ours."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from builder.types import BuildOutput, BuildRequest, Expected
from controller.types import Artifact
from controller.views import BuildpackVerdict


class BuildFailed(Exception):
    """The source could not be built; the sentence is for the person who pushed it."""


class BuilderUnavailable(Exception):
    """We could not build, whatever the source: no space, no builder, a part of ours missing."""


class ArtifactLost(BuilderUnavailable):
    """What was built is gone, or damaged: trying again does not help, only another build does."""


class Builder(Protocol):
    """Cancelling the task that awaits `build` ends the build, all its processes, and leaves nothing behind."""

    async def inspect(self, request: BuildRequest) -> Sequence[BuildpackVerdict]:
        """What each buildpack says of this source, in the order in which they are asked. Nothing is built.

        Raises as `build` does; the source folder is gone afterwards.
        """

    async def build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        """Build and keep the artifact. Raises BuildFailed or BuilderUnavailable.

        The source folder is gone afterwards, whatever happened.
        """

    async def close(self) -> None:
        """End what still runs."""


@runtime_checkable
class SupportsExpecting(Protocol):
    """A builder that can make something ready before the source is there."""

    def expect(self, expected: Expected) -> None:
        """Somebody was let in to push. Returns at once; what is made ready goes by itself where no build comes."""
