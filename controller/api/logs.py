from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from controller.api.answers import answers
from controller.api.auth import Asker
from controller.api.paths import SERVICE, At
from controller.api.streams import MEDIA_TYPE, NdjsonStream
from controller.errors import InvalidInput
from controller.operations.logs import LogOperations
from controller.types import LogLine, LogSource


def routes(logs: LogOperations, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["processes"])

    @router.get(
        f"{SERVICE}/logs",
        summary="Read its logs",
        status_code=200,
        response_class=NdjsonStream,
        responses=answers(LogLine, 404, 409, media=MEDIA_TYPE),
    )
    async def index(
        asker: Asker,
        at: At,
        source: Annotated[
            str | None,
            Query(
                description="Only these: app, build, router, system; several with commas.",
                examples=["app,router"],
            ),
        ] = None,
        process: Annotated[
            str | None, Query(description="Only this process type or process.", examples=["web", "web.1"])
        ] = None,
        instance: Annotated[
            str | None,
            Query(
                description="Only this instance, which may be gone, or this build.",
                examples=["foo-app-12-web-1"],
            ),
        ] = None,
        since: Annotated[
            str | None,
            Query(
                description="From then on: how long ago, or a moment (UTC unless it names a zone).",
                examples=["10m", "2026-11-22T08:00"],
            ),
        ] = None,
        until: Annotated[str | None, Query(description="Up to then; in the form of `since`.")] = None,
        text: Annotated[
            str,
            Query(
                description="Only lines with this text in any case of ASCII letters; `*` stands for anything."
            ),
        ] = "",
        lines: Annotated[
            int | None,
            Query(
                description="The last so many of the past. Default: 100, or all where `since` is given.", ge=0
            ),
        ] = None,
        follow: Annotated[bool, Query(description="Go on with what comes.")] = False,
    ) -> Response:
        """One JSON object a line, by time. Blank lines are signs of life; `{"problem": …}` is an error on the way."""
        found = logs.read(
            asker,
            at,
            sources=_sources(source),
            process=process,
            instance=instance,
            since=since,
            until=until,
            text=text,
            lines=lines,
            follow=follow,
        )
        return NdjsonStream(found, keep_alive=keep_alive)

    return router


def _sources(text: str | None) -> list[LogSource]:
    """Raises InvalidInput."""
    found = []
    for word in (text or "").split(","):
        if word.strip():
            try:
                found.append(LogSource(word.strip()))
            except ValueError:
                known = ", ".join(LogSource)
                raise InvalidInput(
                    "source", f"{word[:60]!a} is no source of logs: choose of {known}, several with commas."
                ) from None
    return found
