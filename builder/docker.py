"""Builds on a container engine: a Dockerfile where the source has one, else buildpacks in a container."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.buildpack import BUNDLED
from builder.container import ISOLATED
from builder.dockerfile import AUTO, DockerfileBuilder
from builder.slugbuilder import SlugBuilder
from builder.slugs import SlugStore
from builder.types import BuildOutput, BuildRequest, Expected
from controller.engine import Engine
from controller.types import Artifact, BuilderChoice
from controller.views import BuildpackVerdict


class DockerBuilder:
    """Implements Builder, by one of two."""

    def __init__(
        self,
        *,
        builds: Path,
        slugs: SlugStore,
        engine: Engine,
        realm: str,
        builder_image: str,
        buildpacks: Path = BUNDLED,
        build_env: Mapping[str, str] | None = None,
        ca_bundle: Path | None = None,
        disk_reserve: int = 0,
        buildpack_folders: Sequence[Path] = (),
        build_memory: int = 0,
        build_pids: int = 0,
        build_cpu: float = 0.0,
        build_disk: int = 0,
        build_network: str = ISOLATED,
        build_ready: float = 0.0,
        image_limit: int = 0,
        dockerfile_builder: str = AUTO,
        runs_images: bool = True,
    ) -> None:
        """As for SlugBuilder and DockerfileBuilder."""
        self._engine = engine
        self._closed = False
        self._by_dockerfile = set[tuple[str, str]]()
        """Services whose last source had one."""
        self._slugs = SlugBuilder(
            builds=builds,
            slugs=slugs,
            engine=engine,
            realm=realm,
            builder_image=builder_image,
            buildpacks=buildpacks,
            build_env=build_env,
            ca_bundle=ca_bundle,
            disk_reserve=disk_reserve,
            buildpack_folders=buildpack_folders,
            build_memory=build_memory,
            build_pids=build_pids,
            build_cpu=build_cpu,
            build_disk=build_disk,
            build_network=build_network,
            build_ready=build_ready,
        )
        self._images = DockerfileBuilder(
            builds=builds,
            engine=engine,
            realm=realm,
            build_env=build_env,
            ca_bundle=ca_bundle,
            disk_reserve=disk_reserve,
            build_memory=build_memory,
            build_pids=build_pids,
            build_cpu=build_cpu,
            build_network=build_network,
            image_limit=image_limit,
            dockerfile_builder=dockerfile_builder,
            runs_images=runs_images,
        )

    async def sweep(self) -> None:
        """Remove what a server that was killed left behind. Call it once, before the first build."""
        await self._images.sweep()
        await self._slugs.sweep()

    def expect(self, expected: Expected) -> None:
        """See SupportsExpecting. A Dockerfile needs nothing ahead; whether there is one, the last source told."""
        key = (expected.deployment, expected.service)
        if expected.builder is not BuilderChoice.DOCKERFILE and key not in self._by_dockerfile:
            self._slugs.expect(expected)

    async def inspect(self, request: BuildRequest) -> Sequence[BuildpackVerdict]:
        return await (await self._chosen(request)).inspect(request)

    async def build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        return await (await self._chosen(request)).build(request, out)

    async def close(self) -> None:
        """See Builder. Again, it does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(self._slugs.close(), self._images.close())
        await self._engine.close()

    async def _chosen(self, request: BuildRequest) -> DockerfileBuilder | SlugBuilder:
        key = (request.deployment, request.service)
        if await self._images.wants(request):
            self._by_dockerfile.add(key)
            return self._images
        self._by_dockerfile.discard(key)
        return self._slugs
