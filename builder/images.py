"""Images of ours on a container engine, each kept by a name of ours, so that none vanishes that a version has.

`mooring-<realm>/<deployment>/<service>:<first digits of its id>`; other tags below the same name hold what
builds left for those after them. What an image is called elsewhere is nothing that we rely on.
"""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from builder.base import BuildFailed
from builder.threads import completed
from builder.tree import megabytes
from controller.engine import REALM, Engine, NotThere, Taken, translated
from controller.image_names import split_reference, whole_reference
from controller.upkeep.storage import Removed

KIND, IMAGE = "mooring.kind", "image"
SERVICE_LABELS = ("mooring.deployment", "mooring.service")
FRESH = timedelta(minutes=10)
"""How long an image is safe after it was named: far longer than writing down which version has it."""
DIGITS = 12
_HELD = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the engine tells of an image."""

    id: str
    """`sha256:…`"""
    size: int
    starts: bool
    """Whether it says itself what is run: it has an entrypoint or a command."""
    ports: Sequence[str]
    """Those that it exposes, such as `8000/tcp`."""


@dataclass(frozen=True)
class _Name:
    """One name of ours."""

    deployment: str
    service: str
    tag: str
    image: str
    """Its id."""
    size: int
    text: str

    @property
    def holds_version(self) -> bool:
        return bool(_HELD.fullmatch(self.tag))


class ImageStore:
    """All calls raise EngineError, beside what they say."""

    def __init__(self, engine: Engine, realm: str, *, limit: int = 0, fresh: timedelta = FRESH) -> None:
        """`limit`: largest image, in bytes; 0: none."""
        self.engine = engine
        self.realm = realm
        self._limit = limit
        self._fresh = fresh

    def labels(self, deployment: str, service: str) -> Mapping[str, str]:
        """Of an image that is built here. Nothing in them differs between builds: the same again is the same image."""
        own = dict(zip(SERVICE_LABELS, (deployment, service), strict=True))
        return {REALM: self.realm, KIND: IMAGE, **own}

    async def find(self, reference: str) -> ImageFacts:
        """Raises NotThere."""
        return await self.engine.call(lambda client: _facts(client, reference))

    async def keep(self, deployment: str, service: str, image: str) -> ImageFacts:
        """Name it, so that it stays. Raises BuildFailed for one that is too large, or has nothing to run."""
        facts = await self.find(image)
        if self._limit and facts.size > self._limit:
            raise BuildFailed(
                f"The image has {megabytes(facts.size)}, and this server takes {megabytes(self._limit)} at most (its "
                "setting image_limit): begin with a smaller base, copy less, or leave build tools in an earlier stage."
            )
        tag = facts.id.partition(":")[2][:DIGITS]
        await self.hold(deployment, service, tag, facts.id)
        return facts

    async def hold(self, deployment: str, service: str, tag: str, image: str) -> None:
        """Let this name be that image's; the one that had it goes, unless something else holds it."""
        repository = self._repository(deployment, service)

        def work(client: Any) -> None:
            before = ""
            with suppress(Exception):
                before = str(client.inspect_image(f"{repository}:{tag}")["Id"])
            client.tag(image, repository, tag=tag)
            if before and before != str(client.inspect_image(image)["Id"]):
                with suppress(Exception):  # it is a part of another one
                    client.remove_image(before)

        await self.engine.call(work)

    async def discard(self, images: Collection[str]) -> None:
        """Remove these, unless they have a name, or are parts of others."""

        def work(client: Any) -> None:
            for each in images:
                with suppress(Exception):
                    if not client.inspect_image(each).get("RepoTags"):
                        client.remove_image(each)

        await self.engine.call(work)

    @asynccontextmanager
    async def pulled(
        self, reference: str, say: Callable[[str], None], *, timeout: float
    ) -> AsyncIterator[ImageFacts]:
        """The image of that name, from its registry where the engine does not have it. Raises BuildFailed.

        What was pulled loses its name after the block: who wants it longer keeps it inside.
        """
        name, tag = split_reference(reference)
        whole = whole_reference(reference)
        facts = await self._attempt_find(whole)
        if facts is not None:
            say(f"{whole} is on the engine already")
            yield facts
            return
        say(f"Pulling {whole}")
        said = await self._pull(name, tag, timeout)
        facts = await self._attempt_find(whole)
        if facts is None:
            raise BuildFailed(
                f"The image {reference} is not on the server's container engine, and could not be pulled: "
                f"{said or 'its registry gave no reason'}"
            )
        try:
            yield facts
        finally:
            with suppress(NotThere, Taken):
                await self.engine.call(lambda client: client.remove_image(whole))

    async def _attempt_find(self, reference: str) -> ImageFacts | None:
        try:
            return await self.find(reference)
        except NotThere:
            return None

    async def _pull(self, name: str, tag: str, timeout: float) -> str:
        """What went wrong, in the engine's words; empty when nothing did."""
        client = await asyncio.to_thread(self.engine.connect)
        stop = threading.Event()

        def work() -> str:
            try:
                for step in client.pull(name, tag=tag or None, stream=True, decode=True):
                    if stop.is_set():
                        return "It was given up."
                    if step.get("error"):
                        return str(step["error"])
            except Exception as error:
                return str(translated(error, self.engine.url))
            return ""

        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(asyncio.to_thread(work))
        except TimeoutError:
            return f"It took longer than {timeout:.0f} seconds."
        finally:
            stop.set()
            client.close()

    async def load(self, archive: Path) -> str:
        """The id of the one image in an archive without names (see `unnamed_archive`). Raises BuildFailed."""

        def work() -> str:
            client: Any = self.engine.connect()
            try:
                with archive.open("rb") as content:
                    return _loaded(client.load_image(content))
            except BuildFailed:
                raise
            except Exception as error:
                raise translated(error, self.engine.url) from error
            finally:
                client.close()

        loaded = await completed(asyncio.to_thread(work))
        if not loaded:
            raise BuildFailed("The container engine found no image in this archive.")
        return (await self.find(loaded)).id

    # Making room

    async def collect(self, is_held: Callable[[str], bool]) -> Removed:
        """Forget those of versions that are held (by their reference) no more, and were not named just now."""
        gone = Removed()
        for each in await self._names():
            if each.holds_version and not is_held(each.image) and not await self._is_fresh(each):
                gone += await self._forget(each)
        return gone

    async def remove_service(self, deployment: str, service: str) -> None:
        for each in await self._names():
            if (each.deployment, each.service) == (deployment, service):
                await self._forget(each)

    async def remove_cache(self, deployment: str, service: str) -> None:
        """Forget what builds left for those after them."""
        for each in await self._names():
            if (each.deployment, each.service) == (deployment, service) and not each.holds_version:
                await self._forget(each)

    async def sweep(self) -> None:
        """At the start: images that a server that was killed built and did not name any more."""

        def work(client: Any) -> list[str]:
            filters = {"dangling": True, "label": [f"{REALM}={self.realm}", f"{KIND}={IMAGE}"]}
            return [str(each["Id"]) for each in client.images(filters=filters)]

        await self.discard(await self.engine.call(work))

    async def services(self) -> Sequence[tuple[str, str]]:
        """(deployment, service) of all that has images."""
        return sorted({(each.deployment, each.service) for each in await self._names()})

    async def sizes(self) -> Mapping[tuple[str, str], int]:
        """Bytes of the images of each service's versions, as the engine counts them: each with all it shares."""
        found: dict[tuple[str, str], int] = {}
        for each in await self._names():
            if each.holds_version:
                key = (each.deployment, each.service)
                found[key] = found.get(key, 0) + each.size
        return found

    def _repository(self, deployment: str, service: str) -> str:
        return f"mooring-{self.realm}/{deployment}/{service}"

    async def _names(self) -> Sequence[_Name]:
        prefix = f"mooring-{self.realm}/"

        def work(client: Any) -> list[_Name]:
            return list(_ours(client.images(), prefix))

        return await self.engine.call(work)

    async def _is_fresh(self, name: _Name) -> bool:
        def work(client: Any) -> str:
            return str((client.inspect_image(name.image).get("Metadata") or {}).get("LastTagTime", ""))

        try:
            told = await self.engine.call(work)
        except NotThere:
            return True
        named = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", told)
        if named is None:
            return False
        offset = re.search(r"(Z|[+-]\d\d:\d\d)$", told)
        zone = "+00:00" if offset is None or offset[1] == "Z" else offset[1]
        return datetime.now(UTC) - datetime.fromisoformat(named[0] + zone) < self._fresh

    async def _forget(self, name: _Name) -> Removed:
        try:
            await self.engine.call(lambda client: client.remove_image(name.text))
        except (
            NotThere,
            Taken,
        ):  # somebody was faster; or a container still runs it, and the next turn comes
            return Removed()
        return Removed(1, name.size)


def _loaded(steps: Iterable[Mapping[str, Any]]) -> str:
    """What the engine calls the image that it loaded last."""
    loaded = ""
    for step in steps:
        if step.get("error"):
            raise BuildFailed(f"The container engine can't load this image: {step['error']}")
        found = re.search(r"Loaded image(?: ID)?: (\S+)", str(step.get("stream", "")))
        loaded = found[1] if found else loaded
    return loaded


def _ours(found: Sequence[Mapping[str, Any]], prefix: str) -> Iterator[_Name]:
    for image in found:
        for text in image.get("RepoTags") or ():
            if text.startswith(prefix):
                path, _, tag = text.removeprefix(prefix).rpartition(":")
                deployment, slash, service = path.partition("/")
                if slash:
                    yield _Name(deployment, service, tag, str(image["Id"]), int(image.get("Size") or 0), text)


def _facts(client: Any, reference: str) -> ImageFacts:
    found = json.loads(json.dumps(client.inspect_image(reference)))
    config = found.get("Config") or {}
    return ImageFacts(
        id=str(found["Id"]),
        size=int(found.get("Size") or 0),
        starts=bool(config.get("Cmd") or config.get("Entrypoint")),
        ports=tuple(sorted(config.get("ExposedPorts") or {})),
    )
