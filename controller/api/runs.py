from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field, StrictFloat
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.paths import SERVICE, At
from controller.api.streams import MEDIA_TYPE, NdjsonStream
from controller.operations.cron import CronOperations
from controller.operations.runs import Order, RunOperations
from controller.types import LogLine, Run
from controller.views import CronInfo

RUNS = f"{SERVICE}/runs"
RUN = f"{RUNS}/{{run}}"
RunName = Annotated[str, Path(description="Its id, or the name of its process.", examples=["run.3"])]


class NewRun(Body):
    command: list[str] = Field(
        description="One text is a shell line as it is; several are a program and its arguments. "
        "The first may name a process type.",
        examples=[["python", "manage.py", "migrate"]],
    )
    env: Mapping[str, str] = Field({}, description="Variables over those of the version.")
    ttl: StrictFloat | None = Field(
        None, description="Seconds after which it is ended; null: the server's setting."
    )
    type: str = Field("", description="Process type whose limits apply.")

    def order(self) -> Order:
        return Order(command=self.command, env=self.env, ttl=self.ttl, process_type=self.type)


def routes(runs: RunOperations, cron: CronOperations, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["one-offs"])

    @router.get(RUNS, summary="List one-offs", responses=answers(list[Run], 404))
    async def index(asker: Asker, at: At) -> Response:
        """Newest first: what runs, and the last that have ended."""
        return respond(runs.list(asker, at))

    @router.post(
        RUNS,
        summary="Run a command once",
        status_code=201,
        responses=answers(Run, 403, 404, 409, status=201),
    )
    async def detach(asker: Asker, at: At, body: NewRun) -> Response:
        """In the code and the environment of the wanted version, beside its instances. It goes on by itself."""
        return respond(await runs.detach(asker, at, body.order()), 201)

    @router.get(f"{SERVICE}/cron", summary="List scheduled commands", responses=answers(list[CronInfo], 404))
    async def scheduled(asker: Asker, at: At) -> Response:
        """Of the app.json that came with what serves, in its order, and how each went last."""
        return respond(cron.list(asker, at))

    @router.get(RUN, summary="Show one", responses=answers(Run, 404))
    async def show(asker: Asker, at: At, run: RunName) -> Response:
        return respond(runs.get(asker, at, run))

    @router.post(f"{RUN}/stop", summary="Ask for its end", responses=answers(Run, 403, 404, 409))
    async def stop(asker: Asker, at: At, run: RunName) -> Response:
        return respond(await runs.stop(asker, at, run))

    @router.get(
        f"{RUN}/logs",
        summary="Read what it prints",
        status_code=200,
        response_class=NdjsonStream,
        responses=answers(LogLine, 404, 409, media=MEDIA_TYPE),
    )
    async def logs(
        asker: Asker,
        at: At,
        run: RunName,
        lines: Annotated[int | None, Query(description="Lines of the past; without: all.", ge=0)] = None,
        follow: Annotated[bool, Query(description="Go on until it ends.")] = False,
    ) -> Response:
        """One JSON object a line. Blank lines are signs of life; `{"problem": …}` is an error on the way."""
        found = runs.logs(asker, at, run, lines=lines, follow=follow)
        return NdjsonStream(found, keep_alive=keep_alive)

    return router
