from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field, StrictBool
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.operations.plugins import PluginOperations
from controller.plugins.extensions import Answer
from controller.views import PluginCommand, PluginInfo, PluginPanel, PluginReport

PLUGINS = "/v1/plugins"
VERBS = "/v1/plugin-verbs"
PANELS = "/v1/plugin-panels"
METHODS = ("get", "post", "put", "delete")
Name = Annotated[str, Path(description="Of the plugin.", examples=["notify"])]


class Trace(Body):
    on: StrictBool = Field(description="Whether each call is to be in the server's log.")


class Words(Body):
    words: list[str] = Field(default_factory=list, description="What stands behind the verb.")
    deployment: str | None = Field(None, description="That it is about, where it was named.")


def routes(plugins: PluginOperations) -> APIRouter:
    router = APIRouter(tags=["plugins"])

    @router.get(PLUGINS, summary="Show plugins", responses=answers(PluginReport, 403))
    async def index(asker: Asker) -> Response:
        """For admins. What is on, what is off and why, errors, time spent; and keys that no plugin acts on."""
        return respond(plugins.list(asker))

    @router.put(f"{PLUGINS}-trace", summary="Trace plugins", responses=answers(dict[str, bool], 403))
    async def trace(asker: Asker, body: Trace) -> Response:
        """Until the server starts anew."""
        return respond({"on": plugins.trace(asker, body.on)})

    @router.post(
        f"{PLUGINS}/{{plugin}}/resume", summary="Resume one", responses=answers(PluginInfo, 403, 404, 409)
    )
    async def resume(asker: Asker, plugin: Name) -> Response:
        """One that was suspended, as it did not answer in time."""
        return respond(plugins.resume(asker, plugin))

    @router.get(PANELS, summary="List panels of plugins", responses=answers(list[PluginPanel], 404))
    async def panels(
        asker: Asker,
        window: InWindow,
        deployment: Annotated[
            str | None,
            Query(
                description="Those about this one; without: about the server, for admins.", examples=["foo"]
            ),
        ] = None,
    ) -> Response:
        """Parts of the web page that the asker may see. The HTML of each is what its path answers with, asked with the
        same `?deployment=`."""
        found = plugins.panels(asker, deployment)
        return paged(window, found, lambda each: (each.title, each.path))

    @router.get(VERBS, summary="List verbs of plugins", responses=answers(list[PluginCommand]))
    async def verbs(asker: Asker, window: InWindow) -> Response:
        """That `moor` has beside its own."""
        return paged(window, plugins.commands(asker), lambda each: (each.verb,))

    @router.post(
        f"{VERBS}/{{verb}}", summary="Call a verb of a plugin", responses=answers(list[str], 403, 404)
    )
    async def run(
        asker: Asker,
        verb: Annotated[str, Path(description="As people type it.", examples=["notify:test"])],
        body: Words,
    ) -> Response:
        """The lines that it prints."""
        return respond(await plugins.run(asker, verb, body.words, deployment=body.deployment))

    async def call(
        asker: Asker,
        plugin: Name,
        path: Annotated[str, Path(description="Of the route, as the plugin has it.", examples=["report"])],
        request: Request,
    ) -> Response:
        """Whatever the plugin answers. `?deployment=` where the route takes a right on one."""
        answer = await plugins.request(
            asker, plugin, request.method, path, dict(request.query_params), await request.body()
        )
        if isinstance(answer, Answer):
            return Response(answer.body, status_code=answer.status, media_type=answer.media)
        return respond(answer)

    for method in METHODS:
        router.add_api_route(
            f"{PLUGINS}/{{plugin}}/routes/{{path}}",
            call,
            methods=[method.upper()],
            name=f"{method}_of_plugin",
            summary=f"A plugin's own route ({method.upper()})",
            responses=answers(dict[str, Any], 403, 404),
        )
    return router
