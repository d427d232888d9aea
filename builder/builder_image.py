"""The image that buildpacks run in: the stack with our own parts in it, made once for each server and stack."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient

from builder.base import BuilderUnavailable
from builder.inside import parts
from builder.threads import completed
from controller.engine import Engine, EngineError, NotThere

log = logging.getLogger(__name__)

STACK_LABEL = "mooring.stack"
"""On images that can be run as any user."""
OURS_LABEL = "mooring.slugbuilder"
NAME = "mooring/slugbuilder"
KEPT = 3
"""Made ones that stay on the engine: other servers on it may have other parts."""


@dataclass(frozen=True)
class BuilderImage:
    """What a build container is made of."""

    reference: str
    ours: bool
    """Whether it takes orders as `builder.inside` does; else it speaks the form of flynn/slugbuilder alone."""


class ImageMaker:
    """Finds or makes it. Raises BuilderUnavailable, EngineError."""

    def __init__(self, engine: Engine, base: str, *, buildpacks: Path, ca_bundle: Path | None) -> None:
        self._engine = engine
        self._base = base
        self._buildpacks = buildpacks
        self._ca_bundle = ca_bundle
        self._making = asyncio.Lock()
        self._made: dict[str, BuilderImage] = {}
        """By the id of the base."""

    async def ensure(self) -> BuilderImage:
        async with self._making:
            base = await self._look()
            if not (base["Config"].get("Labels") or {}).get(STACK_LABEL):
                return BuilderImage(self._base, ours=False)
            known = self._made.get(base["Id"])
            if known is None or not await self._is_there(known.reference):
                known = self._made[base["Id"]] = await self._make(base["Id"])
            return known

    async def sweep(self) -> None:
        """Remove those of earlier servers, but for a few."""

        def work(client: APIClient) -> None:
            found = client.images(filters={"label": [OURS_LABEL]})
            for each in sorted(found, key=lambda image: image["Created"], reverse=True)[KEPT:]:
                with suppress(Exception):  # one that is in use stays
                    client.remove_image(each["Id"], noprune=False)

        await self._engine.call(work)

    async def _look(self) -> Mapping[str, Any]:
        try:
            return await self._engine.call(lambda client: _facts(client, self._base))
        except NotThere as error:
            raise BuilderUnavailable(
                f"The image {self._base} is not on the container engine. Make it with contrib/stack/build, or name "
                "another one in the server's setting builder_image."
            ) from error

    async def _is_there(self, reference: str) -> bool:
        try:
            await self._engine.call(lambda client: _facts(client, reference))
        except NotThere:
            return False
        return True

    async def _make(self, base: str) -> BuilderImage:
        content = await asyncio.to_thread(self._content)
        reference = f"{NAME}:{parts.digest(base, content)}"
        if not await self._is_there(reference):
            log.info("making the builder image reference=%s base=%s", reference, self._base)
            await completed(self._engine.call(lambda client: self._build(client, reference, content)))
        return BuilderImage(reference, ours=True)

    def _build(self, client: APIClient, reference: str, content: Mapping[str, tuple[bytes, bool]]) -> None:
        answers = client.build(
            fileobj=parts.context(self._base, content),
            custom_context=True,
            tag=reference,
            labels={OURS_LABEL: reference.rpartition(":")[2]},
            rm=True,
            forcerm=True,
            decode=True,
        )
        for each in answers:
            if "error" in each:
                raise EngineError(f"The builder image could not be made: {each['error']}")

    def _content(self) -> Mapping[str, tuple[bytes, bool]]:
        bundle = self._ca_bundle
        certificates = bundle.read_bytes() if bundle is not None and bundle.is_file() else None
        return parts.files(self._buildpacks, certificates)


def _facts(client: APIClient, reference: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = client.inspect_image(reference)  # type: ignore[no-untyped-call]
    return found
