"""Calling plugins so that none of them can stop the server, or another one.

Each call runs in a daemon thread of its own and has a time limit. What is raised is logged and counted. A plugin
that does not answer in time is suspended: the thread can't be ended, so it is left behind, and nothing more is asked of
it until it is resumed, or the server starts anew.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pluggy

from controller.errors import NotFound, Refused
from controller.names import check_domain, check_env_name
from controller.operations.definition import changed_definition
from controller.plugins import builtin, hooks
from controller.plugins.discovery import claimed
from controller.plugins.extensions import NO_OPINION, Command, Opinion, Panel, Route
from controller.plugins.facts import DeploymentFacts, StartFacts
from controller.plugins.record import Record, Standing
from controller.servicefile.domains import read_domains
from controller.wire import to_json

log = logging.getLogger(__name__)

BATCH = 50
"""Services that a plugin is asked about in one call's time."""
MAX_ERROR = 300


class Failed(Exception):
    """A plugin raised, or gave what can't be used; it is written down already."""


class Plugins:
    def __init__(self, found: Sequence[Record] = (), *, timeout: float = 5.0, trace: bool = False) -> None:
        """`found`: see `find_plugins`. `timeout`: seconds that a call may take. `trace`: log each one."""
        self.records = list(found)
        self.timeout = timeout
        self.trace = trace
        self.routes: Mapping[tuple[str, str, str], Route] = {}
        """By plugin, method and path."""
        self.commands: Mapping[str, tuple[Record, Command]] = {}
        """By verb."""
        self.panels: Sequence[tuple[Record, Panel]] = ()
        """Each has a GET among the routes."""
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)
        for each in sorted(self.records, key=_priority, reverse=True):  # the last registered is called first
            if each.active:
                self._register(each)

    def _register(self, record: Record) -> None:
        try:
            self._manager.register(record.plugin, name=record.name)
            callers = self._manager.get_hookcallers(record.plugin) or []
            record.hooks = tuple(sorted(each.name for each in callers))
            if unknown := [each for each in record.hooks if not hasattr(hooks, each)]:
                raise pluggy.PluginValidationError(  # noqa: TRY301
                    record.plugin, f"there is no hook {', '.join(unknown)}"
                )
        except Exception as error:
            with contextlib.suppress(Exception):
                self._manager.unregister(name=record.name)
            record.standing, record.why = Standing.FAILED, f"it does not fit: {_said(error)}"
            record.hooks = ()
            log.warning("plugin does not fit name=%s", record.name, exc_info=True)

    # What it is asked by others

    def has(self, *names: str) -> bool:
        """Whether a plugin that is on implements any of these hooks."""
        return any(each.active and not set(names).isdisjoint(each.hooks) for each in self.records)

    def implementing(self, hook: str) -> Sequence[Record]:
        """Plugins that are on and have that hook, in their order."""
        return [record for record, _ in self._implementations(hook)]

    def problems(self) -> Sequence[str]:
        """What an admin should know."""
        return [
            f"The plugin {each.name} is suspended: {each.why}. `plugins:resume {each.name}` lets it go on."
            for each in self.records
            if each.standing is Standing.SUSPENDED
        ] + [
            f"The plugin {each.name} ({each.source}) is not in use: {each.why}."
            for each in self.records
            if each.standing is Standing.FAILED
        ]

    def claimed(self) -> Mapping[str, str]:
        """Key of a definition, or section, to the plugin that acts on it."""
        return claimed(self.records, builtin.MODULES)

    def resume(self, name: str) -> Record:
        """Let a suspended one go on. Raises NotFound, Refused."""
        record = next((each for each in self.records if each.name == name), None)
        if record is None:
            raise NotFound(f"There is no plugin {name[:60]!a} (see `plugins`).")
        if record.standing is not Standing.SUSPENDED:
            raise Refused(f"{name} is not suspended: it is {record.standing}.")
        record.standing, record.why = Standing.ON, ""
        return record

    # Calling

    async def start(self, server: Any, known: Iterable[str]) -> None:
        """Once, when the server starts: `known` are the plugins that it has started with before."""
        for record, implementation in self._implementations("system_init"):
            told = {"server": server, "first": record.name not in known}
            with contextlib.suppress(Failed):
                await self.call(record, "system_init", implementation.function, _told(implementation, told))
        routes, commands, panels = {}, {}, list[tuple[Record, Panel]]()
        for record, route in await self._extensions("register_api_routes", Route):
            routes[record.name, route.method.upper(), route.path.strip("/")] = route
        for record, command in await self._extensions("register_commands", Command):
            if command.verb.partition(":")[0] == record.name:
                commands[command.verb] = (record, command)
            else:
                self._note(
                    record, "register_commands", f"the verb {command.verb} must begin with {record.name}"
                )
        for record, panel in await self._extensions("web_panels", Panel):
            if not isinstance(panel.title, str) or not isinstance(panel.path, str):
                self._note(record, "web_panels", "title and path of a panel are texts")
            elif (record.name, "GET", panel.path.strip("/")) in routes:
                panels.append((record, panel))
            else:
                self._note(record, "web_panels", f"the panel {panel.title} has no route GET {panel.path}")
        self.routes, self.commands, self.panels = routes, commands, panels

    async def _extensions(self, hook: str, kind: type[Any]) -> Sequence[tuple[Record, Any]]:
        found = list[tuple[Record, Any]]()
        for record, answer in await self.ask(hook):
            if isinstance(answer, Sequence) and all(isinstance(each, kind) for each in answer):
                found += [(record, each) for each in answer]
            else:
                self._note(record, hook, f"it gave no list of {kind.__name__}")
        return found

    async def ask(self, hook: str, **told: Any) -> Sequence[tuple[Record, Any]]:
        """The answers of all that have one, in their order; those that fail are left out."""
        found = list[tuple[Record, Any]]()
        for record, implementation in self._implementations(hook):
            with contextlib.suppress(Failed):
                answer = await self.call(record, hook, implementation.function, _told(implementation, told))
                if answer is not None:
                    found.append((record, answer))
        return found

    async def ask_one(self, record: Record, hook: str, **told: Any) -> Any:
        """The answer of that one; None where it has none, or fails."""
        for each, implementation in self._implementations(hook):
            if each is record:
                with contextlib.suppress(Failed):
                    return await self.call(record, hook, implementation.function, _told(implementation, told))
        return None

    async def call(
        self, record: Record, what: str, function: Callable[..., Any], arguments: Sequence[Any]
    ) -> Any:
        """One call of one plugin. Raises Failed; it is noted then."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.timeout):
                return await _in_thread(f"plugin {record.name}", function, arguments)
        except TimeoutError:
            record.left_behind += 1
            record.standing = Standing.SUSPENDED
            record.why = f"{what} did not answer within {self.timeout:g} s"
            self._note(record, what, record.why)
            raise Failed(record.why) from None
        except Exception as error:
            self._note(record, what, _said(error), error)
            raise Failed(_said(error)) from error
        finally:
            record.calls += 1
            record.seconds += time.monotonic() - begun
            if self.trace:
                log.info(
                    "plugin.call name=%s what=%s seconds=%.3f", record.name, what, time.monotonic() - begun
                )

    def _note(self, record: Record, what: str, said: str, error: Exception | None = None) -> None:
        record.errors += 1
        record.last_error = f"{what}: {said}"[:MAX_ERROR]
        log.warning("plugin.failed name=%s what=%s error=%s", record.name, what, said, exc_info=error)

    def _implementations(self, hook: str) -> Sequence[tuple[Record, pluggy.HookImpl]]:
        by_name = {each.name: each for each in self.records if each.active}
        found = reversed(getattr(self._manager.hook, hook).get_hookimpls())
        return [(by_name[each.plugin_name], each) for each in found if each.plugin_name in by_name]

    # Opinions

    async def opinions(self, facts: DeploymentFacts, names: Sequence[str]) -> Mapping[str, Opinion]:
        """What they say of these services of a deployment, which the facts have as they are to be."""
        found = dict.fromkeys(names, NO_OPINION)
        for start in range(0, len(names), BATCH):
            for hook in hooks.OPINIONS:
                for record, implementation in self._implementations(hook):
                    batch = {name: found[name] for name in names[start : start + BATCH]}
                    with contextlib.suppress(Failed):
                        found |= await self._opinions(record, hook, implementation, facts, batch)
        return found

    async def _opinions(
        self,
        record: Record,
        hook: str,
        implementation: pluggy.HookImpl,
        facts: DeploymentFacts,
        before: Mapping[str, Opinion],
    ) -> Mapping[str, Opinion]:
        def ask_all() -> list[Any]:
            answers = []
            for name, opinion in before.items():
                service = facts.services[name]
                definition = changed_definition(service.definition, opinion.keys)
                told = {"deployment": facts, "service": replace(service, definition=definition)}
                answers.append(implementation.function(*_told(implementation, told)))
            return answers

        answers = await self.call(record, hook, ask_all, ())
        try:
            return {
                name: _merged(hook, record.name, opinion, answer, facts.services[name].definition)
                for (name, opinion), answer in zip(before.items(), answers, strict=True)
            }
        except Exception as error:
            self._note(record, hook, f"it gave what can't be used: {_said(error)}")
            raise Failed(_said(error)) from error

    async def domains(self, facts: DeploymentFacts) -> tuple[Mapping[str, Any], bool]:
        """Domains that they give, as the section Domains has them; those that are asked first win. And whether that is
        all: one that fails, or is suspended, may have more to give."""
        hook, found = "provide_domains", dict[str, Any]()
        whole = not any(
            each.standing is Standing.FAILED or (each.standing is Standing.SUSPENDED and hook in each.hooks)
            for each in self.records
        )
        for record, implementation in self._implementations(hook):
            try:
                told = _told(implementation, {"deployment": facts})
                answer = await self.call(record, hook, implementation.function, told)
                found = {**_checked_domains(answer or {}, facts.deployment.name), **found}
            except Failed:
                whole = False
            except Exception as error:
                whole = False
                self._note(record, hook, f"it gave what can't be used: {_said(error)}")
        return found, whole

    async def prepared(self, hook: str, start: StartFacts) -> Mapping[str, str]:
        """Variables that they give to what is about to start."""
        env = dict[str, str]()
        for record, answer in await self.ask(hook, start=start):
            try:
                env = {**_checked_env(answer), **env}
            except Exception as error:
                self._note(record, hook, f"it gave what can't be used: {_said(error)}")
        return env


def _priority(record: Record) -> int:
    priority = getattr(record.plugin, "priority", hooks.DEFAULT_PRIORITY)
    return priority if isinstance(priority, int) else hooks.DEFAULT_PRIORITY


def _told(implementation: pluggy.HookImpl, told: Mapping[str, Any]) -> Sequence[Any]:
    return [told[name] for name in implementation.argnames]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _merged(hook: str, plugin: str, before: Opinion, answer: Any, definition: Any) -> Opinion:
    """Those that are asked first win. Raises for what can't be used."""
    if answer is None:
        return before
    match hook:
        case "setup":
            return replace(before, holds={**before.holds, plugin: _text(answer)})
        case "needs_app_code":
            return replace(before, code=before.code or _text(answer))
        case "rewrite_service":
            keys = {**before.keys, **to_json(dict(answer))}
            changed_definition(definition, keys)
            return replace(before, keys=keys)
        case "provide_vars":
            given = {_text(name): _text(value) for name, value in answer.items()}
            return replace(before, vars={**given, **before.vars})
        case _:
            return replace(before, env={**_checked_env(answer), **before.env})


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise TypeError(f"{value!r:.60} is no text")
    return value


def _checked_env(answer: Any) -> Mapping[str, str]:
    env = {check_env_name(name): value for name, value in answer.items()}
    for value in env.values():
        if not isinstance(value, str) or "\0" in value:
            raise TypeError(f"{value!r:.60} is no text")
    return env


def _checked_domains(answer: Any, deployment: str) -> Mapping[str, Any]:
    given = {check_domain(str(domain)): to_json(options) for domain, options in answer.items()}
    for domain, target in read_domains(given, deployment).items():
        if target.address is None or target.address.deployment != deployment:
            raise ValueError(f"{domain} does not lead to a service of {deployment}")
    return given


async def _in_thread(name: str, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """In a thread that nobody waits for at the end: the event loop's own would keep the server from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except Exception as raised:
            error = raised
        except BaseException as raised:  # SystemExit and the like would end the server's wait
            error = RuntimeError(f"it raised {type(raised).__name__}")
        with contextlib.suppress(RuntimeError):  # the loop is gone: so is who wanted to know
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
