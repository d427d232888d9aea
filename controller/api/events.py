from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, WebSocket
from starlette.responses import Response

from controller.api.answers import answers
from controller.api.auth import Asker
from controller.api.pages import Cursor, Window, no_cursor
from controller.api.streams import MEDIA_TYPE, SSE, EventStream, NdjsonStream, serve_socket
from controller.operations.journal import MAX_EVENTS, JournalOperations, Wanted
from controller.types import Event

Deployment = Annotated[str | None, Query(description="Only of this deployment.", examples=["foo"])]
Service = Annotated[str | None, Query(description="Only of this service of it.", examples=["app"])]
Kinds = Annotated[
    list[str] | None,
    Query(
        description="Only of this kind, or of those that begin with it and a dot; repeatable.",
        examples=[["version.live"], ["build"]],
    ),
]
After = Annotated[
    int | None, Query(description="Only those behind this revision.", ge=0, le=2**53, examples=[17])
]
Limit = Annotated[
    int | None,
    Query(
        description="How many at most, 100 without. A stream begins with so many of the past, with none without.",
        ge=1,
        le=MAX_EVENTS,
    ),
]
LastEventId = Annotated[
    int | None,
    Header(description="In place of `after`, as browsers say it when they connect again.", ge=0, le=2**53),
]


def routes(journal: JournalOperations, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.get("/v1/events", summary="Read what happened, or follow it", responses=_documented())
    async def index(
        request: Request,
        asker: Asker,
        deployment: Deployment = None,
        service: Service = None,
        kind: Kinds = None,
        after: After = None,
        limit: Limit = None,
        cursor: Cursor = None,
        last_event_id: LastEventId = None,
    ) -> Response:
        """Oldest first. Without `after` the newest, and the `Link` leads to older ones; with it the next ones, and
        the `Link` leads to later ones. What concerns no deployment is for admins.

        With `Accept: text/event-stream` (server-sent events; `id` is the revision, `event` the kind) or
        `Accept: application/x-ndjson` it goes on as things happen, until the right to see them is gone. The
        websocket `/v1/events/ws` does the same, with the same parameters.

        Events are kept in bounded number. Where some were asked for that are gone, one of the kind
        `journal.trimmed` stands in their place.
        """
        wanted = Wanted(deployment=deployment, service=service, kinds=kind or ())
        after = after if last_event_id is None else last_event_id
        accepted = request.headers.get("accept", "")
        for media, stream in ((SSE, EventStream), (MEDIA_TYPE, NdjsonStream)):
            if media in accepted:
                found = journal.follow(asker, wanted, after=after, past=limit or 0)
                return stream(found, keep_alive=keep_alive)
        window = Window(request, limit or 100, cursor)
        return _later(window, asker, wanted, after) if after is not None else _earlier(window, asker, wanted)

    def _earlier(window: Window, asker: Asker, wanted: Wanted) -> Response:
        before = _revision(window)
        found = journal.list(asker, wanted, limit=window.limit, before=before)
        older = found and journal.list(asker, wanted, limit=1, before=found[0].revision)
        return window.respond(found, (found[0].revision,) if older else None)

    def _later(window: Window, asker: Asker, wanted: Wanted, after: int) -> Response:
        begin = _revision(window)
        found = journal.since(asker, wanted, limit=window.limit, after=after if begin is None else begin)
        newer = found and journal.since(asker, wanted, limit=1, after=found[-1].revision)
        return window.respond(found, (found[-1].revision,) if newer else None)

    @router.websocket("/v1/events/ws")
    async def follow(
        socket: WebSocket,
        asker: Asker,
        deployment: Deployment = None,
        service: Service = None,
        kind: Kinds = None,
        after: After = None,
        limit: Limit = None,
    ) -> None:
        wanted = Wanted(deployment=deployment, service=service, kinds=kind or ())
        await serve_socket(socket, journal.follow(asker, wanted, after=after, past=limit or 0))

    return router


def _documented() -> dict[int | str, dict[str, object]]:
    documented = answers(list[Event], 404)
    for media in (SSE, MEDIA_TYPE):
        documented[200]["content"] |= answers(Event, media=media)[200]["content"]
    return documented


def _revision(window: Window) -> int | None:
    """Raises InvalidInput."""
    match window.begin():
        case None:
            return None
        case (int(revision),):
            return revision
    raise no_cursor()
