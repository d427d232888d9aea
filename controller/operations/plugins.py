"""Plugins: which there are and how they do, and what they add: routes and verbs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controller.errors import InvalidInput, NotFound, Unavailable
from controller.names import check_name
from controller.operations.access import Actor
from controller.operations.lookup import get_deployment
from controller.plugins import builtin
from controller.plugins.claims import unclaimed
from controller.plugins.extensions import Answer, CommandCall, Panel, RouteCall
from controller.plugins.manager import Failed, Plugins
from controller.plugins.record import Record, Standing
from controller.state import State
from controller.types import Right
from controller.views import PluginCommand, PluginInfo, PluginPanel, PluginReport
from controller.wire import to_json

MAX_LINES = 10_000


class PluginOperations:
    def __init__(self, state: State, plugins: Plugins) -> None:
        self._state = state
        self._plugins = plugins

    def list(self, asker: Actor) -> PluginReport:
        """All that there are, also those that are off, with the reason; and what people wrote that none acts on."""
        asker.require_admin("see the plugins of the server")
        panels = self._plugins.panels
        return PluginReport(
            plugins=(*map(_built_in, builtin.MODULES), *(_info(each) for each in self._plugins.records)),
            trace=self._plugins.trace,
            timeout=self._plugins.timeout,
            panels=tuple(_panel_path(record, each) for record, each in panels),
            unclaimed=self._unclaimed(),
        )

    def _unclaimed(self) -> Mapping[str, tuple[str, ...]]:
        claimed, found = self._plugins.claimed(), dict[str, tuple[str, ...]]()
        for each in self._state.deployments():
            definitions = {one.name: one.definition for one in self._state.services(each.name)}
            if keys := unclaimed(each, definitions, claimed):
                found[each.name] = keys
        return found

    def resume(self, asker: Actor, name: str) -> PluginInfo:
        """Let a plugin go on that was suspended. Raises NotFound, Refused."""
        asker.require_admin("resume plugins")
        return _info(self._plugins.resume(name))

    def trace(self, asker: Actor, on: bool) -> bool:
        """Whether the server's log has each call of a plugin, until the server starts anew."""
        asker.require_admin("trace plugins")
        self._plugins.trace = on
        return on

    def commands(self, asker: Actor) -> Sequence[PluginCommand]:
        """Verbs of plugins that are on."""
        return [
            PluginCommand(verb=verb, plugin=record.name, summary=command.summary)
            for verb, (record, command) in sorted(self._plugins.commands.items())
            if record.active
        ]

    def panels(self, asker: Actor, deployment: str | None = None) -> Sequence[PluginPanel]:
        """Parts of the web page: those about that deployment which the asker has the right to see; without one those
        about the server, for admins. One of a plugin that was suspended stays: it says so. Raises NotFound."""
        if deployment is not None:
            get_deployment(self._state, asker, check_name(deployment, "app name"), Right.VIEW)
        found = list[PluginPanel]()
        for record, panel in self._plugins.panels:
            right = self._plugins.routes[record.name, "GET", panel.path.strip("/")].right
            if right is None:
                seen = deployment is None and asker.user.admin
            else:
                seen = deployment is not None and asker.may(deployment, right)
            if seen:
                path = _panel_path(record, panel)
                found.append(PluginPanel(plugin=record.name, title=panel.title, path=path, right=right))
        return found

    async def run(
        self, asker: Actor, verb: str, words: Sequence[str], *, deployment: str | None
    ) -> Sequence[str]:
        """What the verb prints. Raises NotFound, Forbidden, InvalidInput; Unavailable where the plugin fails."""
        known = self._plugins.commands.get(verb)
        if known is None or not known[0].active:
            raise NotFound(f"There is no verb {verb[:60]} (see `help`, and `plugins:verbs`).")
        record, command = known
        if command.right is not None and deployment is None and words:
            deployment, words = words[0], words[1:]
        self._check(asker, command.right, deployment, f"call {verb}")
        call = CommandCall(
            user=asker.name, admin=asker.user.admin, may=asker.may, deployment=deployment, words=tuple(words)
        )
        answer = await self._call(record, verb, command.run, call)
        lines = answer.splitlines() if isinstance(answer, str) else [str(each) for each in answer or ()]
        return lines[:MAX_LINES]

    async def request(
        self, asker: Actor, plugin: str, method: str, path: str, query: Mapping[str, str], body: bytes
    ) -> Answer | Any:
        """What a plugin's route answers: an `Answer`, or plain JSON. Raises as `run` does."""
        record = next((each for each in self._plugins.records if each.name == plugin), None)
        route = self._plugins.routes.get((plugin, method.upper(), path.strip("/")))
        if record is None or route is None:
            raise NotFound(
                f"No plugin has the route {method.upper()} /v1/plugins/{plugin[:60]}/routes/{path[:100]}."
            )
        deployment = query.get("deployment")
        self._check(asker, route.right, deployment, f"use this route of {plugin}")
        if not record.active:
            raise Unavailable(f"The plugin {plugin} is {record.standing}: {record.why}.")
        call = RouteCall(
            user=asker.name,
            admin=asker.user.admin,
            may=asker.may,
            deployment=deployment,
            query=dict(query),
            body=body,
        )
        answer = await self._call(record, f"{method.upper()} {path}", route.handle, call)
        if isinstance(answer, Answer):
            return answer
        try:
            return to_json(answer)
        except TypeError as error:
            raise Unavailable(f"The plugin {plugin} answered what is no JSON: {error}") from error

    def _check(self, asker: Actor, right: Right | None, deployment: str | None, what: str) -> None:
        if right is None:
            asker.require_admin(what)
            return
        if deployment is None:
            raise InvalidInput("deployment", "Name the deployment that this is about.")
        get_deployment(self._state, asker, check_name(deployment, "app name"), right)

    async def _call(self, record: Record, what: str, function: Callable[..., Any], call: Any) -> Any:
        def guarded() -> Any:
            try:
                return function(call)
            except ValueError as error:
                return error

        try:
            answer = await self._plugins.call(record, what, guarded, ())
        except Failed as error:
            raise Unavailable(f"The plugin {record.name} failed: {error}") from error
        if isinstance(answer, ValueError):
            raise InvalidInput("words", str(answer) or "That is not what the plugin takes.")
        return answer


def _panel_path(record: Record, panel: Panel) -> str:
    return f"/v1/plugins/{record.name}/routes/{panel.path.strip('/')}"


def _built_in(module: Any) -> PluginInfo:
    hooks = tuple(sorted(each.name for each in builtin.BUILTIN.get_hookcallers(module) or ()))
    keys = (*getattr(module, "keys", ()), *getattr(module, "sections", ()))
    return PluginInfo(
        name=module.NAME,
        source="Mooring",
        standing=Standing.BUILT_IN,
        hooks=hooks,
        keys=tuple(sorted(keys)),
    )


def _info(record: Record) -> PluginInfo:
    return PluginInfo(
        name=record.name,
        source=record.source,
        standing=record.standing,
        why=record.why,
        hooks=record.hooks,
        keys=tuple(sorted(record.keys)),
        calls=record.calls,
        errors=record.errors,
        seconds=round(record.seconds, 3),
        last_error=record.last_error,
        left_behind=record.left_behind,
    )
