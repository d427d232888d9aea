"""Source over HTTP: archives, and repositories elsewhere. Each answer tells how the deploy goes, line by line."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.methods import UPLOAD
from controller.api.paths import SERVICE, At
from controller.api.problems import answer
from controller.api.streams import MEDIA_TYPE, NdjsonStream, stream_place
from controller.deliveries import DeliveryStep, HostKey, SyncBuild
from controller.errors import InvalidInput
from controller.names import Address
from controller.operations.artifacts import check_origin
from controller.problem import problem
from controller.types import Right
from gitreceive.archive import Archive, land_archive
from gitreceive.arrivals import Arrivals
from gitreceive.arriving import arriving, drained
from gitreceive.delivery import Deliveries, Delivery
from gitreceive.download import TooLarge, download, keep
from gitreceive.fetcher import check_ref
from gitreceive.hosts import KnownHosts
from gitreceive.remote import Remote, parse_remote, parse_web
from gitreceive.session import Context
from gitreceive.sync import Sync, land_sync
from gitreceive.upload_doors import Name, Origin, add_upload_routes
from gitreceive.uploads import Uploads

ARRIVAL_TIMEOUT = 3600.0
"""Seconds that an archive may take to arrive; a minute without a byte ends it too."""


class ArchivePlace(Body):
    url: str = Field(
        description="Of the archive; http or https.", examples=["https://example.org/app-1.2.tar.gz"]
    )


class SyncWish(Body):
    url: str = Field(
        description="Of a git repository; https, http or ssh.", examples=["https://example.org/app.git"]
    )
    ref: str = Field(
        "",
        description="A branch, a tag, or a commit by all of its 40 characters; empty: the remote's own branch.",
        examples=["v1.2"],
    )
    build: SyncBuild = Field(
        SyncBuild.NO, description="Whether it is deployed: `no`, `yes`, or only `if-changes`."
    )


class HostName(Body):
    host: str = Field(
        description="HOST or HOST:PORT.", examples=["git.example.org"], min_length=1, max_length=300
    )


class Doors:
    """What stands behind the routes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deliveries = Deliveries()
        self._arrivals = Arrivals(context.settings)
        self.uploads = Uploads(self._arrivals, context.settings)
        self.hosts = KnownHosts(context.settings)

    async def close(self) -> None:
        """The server stops: end what is under way."""
        await self._deliveries.close()
        await self.uploads.close()

    @asynccontextmanager
    async def arrived(self, user: str, request: Request) -> AsyncIterator[Path]:
        """The request's body as a file. Gone after the block only where the block fails; else `archive` takes it."""
        folder = await self._arrivals.open(user)
        try:
            file = folder / "archive"
            async with asyncio.timeout(ARRIVAL_TIMEOUT):
                await keep(arriving(request), file, self._context.settings)
            yield file
        except BaseException:
            await self._arrivals.close(user, folder)
            raise

    def archive(self, user: str, address: Address, archive: Archive) -> AsyncIterator[DeliveryStep]:
        """Deploy the archive that has arrived; its folder goes with it."""

        async def work(delivery: Delivery) -> DeliveryStep:
            try:
                return await land_archive(self._context, user, address, archive, delivery)
            finally:
                await self._arrivals.close(user, archive.file.parent)

        return self._deliveries.told(work)

    def fetched(self, user: str, address: Address, remote: Remote) -> AsyncIterator[DeliveryStep]:
        """Fetch an archive and deploy it."""

        async def work(delivery: Delivery) -> DeliveryStep:
            folder = await self._arrivals.open(user)
            try:
                delivery.step(f"Fetching {remote}")
                file = folder / "archive"
                await download(remote, file, self._context.settings)
                arrived = Archive(file=file, origin=str(remote))
                return await land_archive(self._context, user, address, arrived, delivery)
            finally:
                await self._arrivals.close(user, folder)

        return self._deliveries.told(work)

    def sync(self, user: str, address: Address, wish: Sync) -> AsyncIterator[DeliveryStep]:
        """Fetch from a repository, and deploy where that is wished."""
        return self._deliveries.told(lambda delivery: land_sync(self._context, user, address, wish, delivery))


def routes(doors: Doors, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["doors"])
    told = answers(DeliveryStep, 403, 404, 409, media=MEDIA_TYPE)

    @router.post(f"{SERVICE}/archive", summary="Deploy an archive", responses=told, openapi_extra={**UPLOAD})
    async def archive(
        asker: Asker,
        at: At,
        request: Request,
        name: Name = "",
        origin: Origin = "",
    ) -> Response:
        """The body is a tar (also compressed by gzip or zstd) or a zip of the source; where all of it is in one
        folder, that is the source. It becomes a commit on the deploy branch. Nothing is answered before all of it
        has arrived; then a stream tells how the deploy goes, as `deploys` and `builds` do too. Whoever closes the
        stream before the release ends the deploy."""
        asker.require(at.deployment, Right.DEPLOY)
        check_origin(origin)
        with stream_place(request):  # better told before all of it was sent
            pass
        try:
            async with doors.arrived(asker.name, request) as file:
                what = f"the archive {name}" if name else "an archive"
                steps = doors.archive(asker.name, at, Archive(file=file, origin=what, commit=origin))
                return NdjsonStream(steps, keep_alive=keep_alive)
        except TooLarge as error:
            await drained(request)
            too_large = problem(413, InvalidInput.code, str(error), field="body")
            return answer(too_large, {"Connection": "close"})
        except TimeoutError:
            too_slow = problem(408, InvalidInput.code, "The archive did not arrive in time.", field="body")
            return answer(too_slow, {"Connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads

    @router.post(f"{SERVICE}/archive/fetch", summary="Deploy an archive from elsewhere", responses=told)
    async def fetch(asker: Asker, at: At, body: ArchivePlace) -> Response:
        """As with an archive in the body, which the server fetches. Private networks are refused, unless the setting
        `fetch_private` allows them."""
        asker.require(at.deployment, Right.DEPLOY)
        return NdjsonStream(doors.fetched(asker.name, at, parse_web(body.url)), keep_alive=keep_alive)

    @router.post(f"{SERVICE}/sync", summary="Fetch from a git repository", responses=told)
    async def sync(asker: Asker, at: At, body: SyncWish) -> Response:
        """Fetches one branch, tag or commit, and deploys it where `build` says so. By ssh the server shows a key of
        its own, and asks only hosts that were made known to it."""
        asker.require(at.deployment, Right.DEPLOY)
        wish = Sync(remote=parse_remote(body.url), ref=check_ref(body.ref), build=body.build)
        return NdjsonStream(doors.sync(asker.name, at, wish), keep_alive=keep_alive)

    @router.get("/v1/git/public-key", summary="Show the server's own key", responses=answers(dict[str, str]))
    async def public_key(asker: Asker) -> Response:
        """The `public_key` that gives this server the right to read a private repository, once it is let in there.
        What it may read, everybody who may deploy can fetch."""
        return respond({"public_key": await doors.hosts.public_key()})

    @router.post(
        "/v1/git/hosts", summary="Make an SSH server known", responses=answers(list[HostKey], 403, 409)
    )
    async def allow_host(asker: Asker, body: HostName) -> Response:
        """For admins. Asks the host for its keys and answers with them: compare them with what its owner says. From
        then on source is fetched from it by ssh as long as it shows one of these."""
        asker.require_admin("make SSH servers known")
        return respond(list(await doors.hosts.allow(body.host)))

    add_upload_routes(router, doors, keep_alive=keep_alive)
    return router
