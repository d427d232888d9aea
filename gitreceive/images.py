"""Images that were built elsewhere, over HTTP: pulled by the engine, or sent as `docker save` wrote them."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from builder.base import BuilderUnavailable, BuildFailed
from builder.image_archive import unnamed_archive
from builder.threads import run_blocking
from builder.tree import megabytes
from builder.types import BuildOutput
from controller.api.answers import answers
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.methods import UPLOAD
from controller.api.paths import SERVICE, At
from controller.api.problems import answer
from controller.api.streams import MEDIA_TYPE, NdjsonStream, stream_place
from controller.client import Client
from controller.deliveries import DeliveryStep, Mark
from controller.errors import InvalidInput, Refused
from controller.names import Address
from controller.operations.artifacts import check_image
from controller.problem import problem
from controller.types import Artifact, ArtifactKind, Right
from gitreceive.arriving import arriving, drained
from gitreceive.delivery import Deliveries, Delivery
from gitreceive.doors import ARRIVAL_TIMEOUT
from gitreceive.download import TooLarge, keep
from gitreceive.push import SOURCE_SUFFIX, announce, follow, refuse_full_disk, refused_in_words
from gitreceive.record import BuildRecord, build_record
from gitreceive.session import Context, admit
from gitreceive.turns import behind_others, for_a_place

if TYPE_CHECKING:
    from builder.images import ImageFacts, ImageStore

NO_ENGINE = (
    "This server runs no images: it has no container engine. Push the app's source, or have the server run apps by its "
    "backend docker."
)
_WITHOUT_NAMES = "unnamed.tar"

Provide = Callable[["ImageStore", BuildOutput], Awaitable["ImageFacts"]]
"""Brings the image onto the engine; raises BuildFailed."""


class ImageWish(Body):
    image: str = Field(
        description="Its name, as for `docker pull`.", examples=["registry.example.org/foo:1.2"]
    )


@dataclass(frozen=True, kw_only=True)
class Landing:
    """One image that is deployed."""

    address: Address
    client: Client
    """Acts as whoever asked."""
    out: Delivery


class ImageDoors:
    """What stands behind the routes."""

    def __init__(self, context: Context, images: "ImageStore | None") -> None:
        """`images` None: there is no engine that runs any."""
        self._context = context
        self._images = images
        self._deliveries = Deliveries()

    async def close(self) -> None:
        """The server stops: end what is under way."""
        await self._deliveries.close()

    def check(self) -> None:
        """Raise Refused where no image can run here."""
        if self._images is None:
            raise Refused(NO_ENGINE)

    def pulled(self, user: str, address: Address, image: str) -> AsyncIterator[DeliveryStep]:
        """Deploy an image that the engine has, or can pull."""

        async def provide(images: "ImageStore", out: BuildOutput) -> "ImageFacts":
            timeout = self._context.settings.build_timeout
            async with images.pulled(image, out.step, timeout=timeout) as facts:
                return await images.keep(address.deployment, address.service, facts.id)

        return self._told(user, address, image, provide)

    async def arrived(self, request: Request) -> Path:
        """The request's body as a file in a folder of its own. Raises TooLarge, TimeoutError, ClientDisconnect."""
        settings = self._context.settings
        folder = settings.folders.builds / f"image-{secrets.token_hex(6)}{SOURCE_SUFFIX}"
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True)
        try:
            async with asyncio.timeout(ARRIVAL_TIMEOUT):
                limit = replace(settings, push_limit=settings.image_limit or settings.push_limit)
                await keep(arriving(request), folder / "saved", limit)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
            raise
        return folder / "saved"

    def sent(self, user: str, address: Address, image: str, saved: Path) -> AsyncIterator[DeliveryStep]:
        """Deploy an image of the archive, whose folder goes with it."""
        limit = self._context.settings.image_limit

        async def provide(images: "ImageStore", out: BuildOutput) -> "ImageFacts":
            out.step(f"Loading {image} from an archive of {megabytes(saved.stat().st_size)}")
            target = saved.with_name(_WITHOUT_NAMES)
            await run_blocking(lambda check: unnamed_archive(saved, target, image, limit=limit, check=check))
            loaded = await images.load(target)
            try:
                return await images.keep(address.deployment, address.service, loaded)
            finally:
                await images.discard([loaded])

        return self._told(user, address, image, provide, gone=saved.parent)

    def _told(
        self, user: str, address: Address, image: str, provide: Provide, *, gone: Path | None = None
    ) -> AsyncIterator[DeliveryStep]:
        from controller.engine import EngineError  # the SDK costs every server that runs no images 10 MiB

        async def work(delivery: Delivery) -> DeliveryStep:
            try:
                return await self._land(user, address, image, provide, delivery)
            except EngineError as error:
                raise BuilderUnavailable(str(error)) from error
            finally:
                if gone is not None:
                    await asyncio.shield(asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True))

        return self._deliveries.told(work)

    async def _land(
        self, user: str, address: Address, image: str, provide: Provide, delivery: Delivery
    ) -> DeliveryStep:
        assert self._images is not None
        workshop, what = self._context.workshop, f"image {image}"
        client = self._context.connect(user)
        landing = Landing(address=address, client=client, out=delivery)
        try:
            await admit(client, address, Right.DEPLOY)
            with refused_in_words(landing), workshop.turns.join(address, f"{user}'s {what}") as turn:
                async with build_record(client, address, commit=None, reason=what, out=delivery) as record:
                    await client.ensure_service(address)
                    await record.wait(turn, lambda: behind_others(turn))
                    await refuse_full_disk(workshop.settings, client)
                    artifact = await self._artifact(self._images, image, provide, record, address)
                    delivery.finish()
                    change = await client.release(
                        address, artifact, commit=None, build=record.id, reason=what
                    )
                    await follow(landing, change)
            await announce(landing)
        finally:
            await client.close()
        return DeliveryStep(mark=Mark.DONE, text="", deployed=change.version is not None)

    async def _artifact(
        self, images: "ImageStore", name: str, provide: Provide, record: BuildRecord, address: Address
    ) -> Artifact:
        """Once there is a place for it among the builds, which bring the engine much to do as well."""

        async def work() -> Artifact:
            facts = await provide(images, record)
            if not facts.starts:
                raise BuildFailed(
                    f"{name} says not what it runs: build it with a CMD or an ENTRYPOINT, or declare a service of the "
                    "image with a command (set-service)."
                )
            record.step(f"The image has {megabytes(facts.size)}")
            record.line(f"It exposes {', '.join(facts.ports)}" if facts.ports else "It exposes no port")
            return Artifact(kind=ArtifactKind.IMAGE, reference=facts.id, size=facts.size, buildpack=name)

        places = self._context.workshop.places
        with places.join(str(address)) as turn:
            await record.wait(turn, lambda: for_a_place(turn, places.places))
            return await record.run(work)


def routes(doors: ImageDoors, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["doors"])
    told = answers(DeliveryStep, 403, 404, 409, media=MEDIA_TYPE)

    @router.post(f"{SERVICE}/image", summary="Deploy an image", responses=told)
    async def image(asker: Asker, at: At, body: ImageWish) -> Response:
        """The engine pulls it where it does not have it. A stream tells how the deploy goes; whoever closes it before
        the release ends the deploy."""
        asker.require(at.deployment, Right.DEPLOY)
        doors.check()
        return NdjsonStream(doors.pulled(asker.name, at, check_image(body.image)), keep_alive=keep_alive)

    @router.post(
        f"{SERVICE}/image/archive", summary="Deploy a saved image", responses=told, openapi_extra={**UPLOAD}
    )
    async def archive(
        asker: Asker,
        at: At,
        request: Request,
        image: Annotated[str, Query(description="Its name in the archive.", max_length=300)],
    ) -> Response:
        """The body is what `docker save` writes. Other images of the archive are left out, and no name of it reaches
        the engine. Nothing is answered before all of it has arrived; then as for an image that is pulled."""
        asker.require(at.deployment, Right.DEPLOY)
        doors.check()
        name = check_image(image)
        with stream_place(request):  # better told before all of it was sent
            pass
        try:
            saved = await doors.arrived(request)
        except TooLarge as error:
            await drained(request)
            words = str(error).replace("push_limit", "image_limit")
            return answer(problem(413, InvalidInput.code, words, field="body"), {"Connection": "close"})
        except TimeoutError:
            too_slow = problem(408, InvalidInput.code, "The image did not arrive in time.", field="body")
            return answer(too_slow, {"Connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        return NdjsonStream(doors.sent(asker.name, at, name, saved), keep_alive=keep_alive)

    return router
