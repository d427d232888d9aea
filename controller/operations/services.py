"""Services: making, defining, showing and destroying them, and their config."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.difference import HIDDEN
from controller.domains import domains_of
from controller.environment import shared_env
from controller.errors import InvalidInput
from controller.exposing import places_of
from controller.formation import due_processes, process_commands, wanted_processes
from controller.limits import ALL, effective_limits
from controller.names import Address, check_process_type
from controller.operations.access import Actor, shown_service, shown_version
from controller.operations.advice import Advisor
from controller.operations.definition import changed_definition, changed_env, whole
from controller.operations.deployments import forgotten
from controller.operations.facts import defined, facts_of
from controller.operations.holding import check_no_circle, told_held
from controller.operations.limits import changed_limits
from controller.operations.lookup import find_code, find_wanted, get_deployment, get_service
from controller.operations.newservices import NewServices, created
from controller.operations.publishing import check_publishing
from controller.operations.removal import Removal
from controller.operations.rollouts import rollout_text
from controller.operations.runtime import Runtime
from controller.operations.selection import known_type
from controller.operations.text import one_line
from controller.operations.versioning import (
    MAX_REASON,
    Cause,
    Content,
    check_process,
    content_with,
    held_text,
    new_version,
    staged_names,
)
from controller.plugins.advice import holds_of
from controller.plugins.generate import secrets_of
from controller.provided import put_in
from controller.state import Delete, EventDraft, Put, State, put
from controller.types import NO_LIMITS, Definition, Deployment, InstanceState, Limits, Right, Service, Version
from controller.views import Change, ProcessLimits, ServiceInfo, Variable, VariableSource


class ServiceOperations:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        removal: Removal,
        advisor: Advisor,
        *,
        root_domain: str,
        http_port: Callable[[], int],
        first_uid: int | None,
        clock: Callable[[], datetime],
        limits: Limits = NO_LIMITS,
    ) -> None:
        """`limits`: those that hold where a service has none of its own.

        `first_uid` None: the server is unprivileged, and services get no user id of their own."""
        self._state = state
        self._runtime = runtime
        self._advisor = advisor
        self._removal = removal
        self._births = NewServices(state, removal, root_domain=root_domain, first_uid=first_uid, clock=clock)
        self._root_domain = root_domain
        self._http_port = http_port
        self._limits = limits
        self._clock = clock

    def list(
        self,
        asker: Actor,
        deployment: str | None = None,
        *,
        select: Callable[[Sequence[Service]], Sequence[Service]] = lambda found: found,
    ) -> Sequence[ServiceInfo]:
        """All that the asker may view, of one deployment or of all.

        `select` chooses among them before more is found out about each.
        """
        if deployment is not None:
            get_deployment(self._state, asker, deployment, Right.VIEW)
        found = self._state.services(deployment)
        visible = [each for each in found if asker.may(each.deployment, Right.VIEW)]
        return [self._info(asker, each) for each in select(visible)]

    def get(self, asker: Actor, address: Address) -> ServiceInfo:
        return self._info(asker, get_service(self._state, asker, address, Right.VIEW))

    async def ensure(self, asker: Actor, address: Address) -> ServiceInfo:
        """The service, made as an empty code service when the deployment has none of that name."""

        def decide() -> Iterable[Put | EventDraft]:
            get_deployment(self._state, asker, address.deployment, Right.DEPLOY)
            if self._state.service(address.deployment, address.service) is not None:
                return ()
            service = self._births.new(asker, address)
            return put(service), created(service, asker)

        await self._state.transact(decide)
        return self.get(asker, address)

    async def define(
        self, asker: Actor, address: Address, given: Mapping[str, Any], *, force: bool = False
    ) -> Change:
        """Change the definition by the keys given (see `changed_definition`), making the service if need be."""
        return await self._redefine(
            asker,
            address,
            "set-service",
            lambda before: whole(changed_definition(before, given)),
            force=force,
            make=True,
        )

    async def retry(self, asker: Actor, address: Address) -> Change:
        """Begin anew with what never came up, as a further version; what serves already stays as it is."""
        return await self._redefine(asker, address, "tried again", lambda definition: definition)

    def config(self, asker: Actor, address: Address) -> Mapping[str, str]:
        """The service's own variables, without the deployment's globals and the buildpack's defaults."""
        return get_service(self._state, asker, address, Right.DEPLOY).definition.env

    def environment(self, asker: Actor, address: Address) -> Sequence[Variable]:
        """What the next version finds in its environment, by name; whoever may only view sees no values."""
        service = get_service(self._state, asker, address, Right.VIEW)
        deployment = get_deployment(self._state, asker, address.deployment, Right.VIEW)
        code = find_code(self._state, service)
        names = secrets_of(deployment)
        layers = {
            VariableSource.DEPLOYMENT: shared_env(deployment.globals),
            VariableSource.BUILDPACK: code.artifact.env if code else {},
            VariableSource.SERVICE: service.definition.env,
        }
        hidden = not asker.may(address.deployment, Right.DEPLOY)
        found = {
            name: Variable(name=name, value=HIDDEN if hidden else value, source=source)
            for source, layer in layers.items()
            for name, value in put_in(layer, names).items()
        }
        return sorted(found.values(), key=lambda each: each.name)

    async def change_config(
        self,
        asker: Actor,
        address: Address,
        *,
        values: Mapping[str, str],
        drop: Sequence[str] = (),
        replace_all: bool = False,
        stage: bool = False,
    ) -> Change:
        """Several variables in one version. Dropping one that is not set changes nothing.

        `replace_all`: those that are not among `values` go. `stage`: no version is made; the next one,
        whatever it is made for, has them, unless it is a rollback, which drops them.
        """
        parts = [f"config:set {' '.join(sorted(values))}"] if values else []
        parts += [f"config:unset {' '.join(sorted(drop))}"] if drop else []
        if not parts:
            raise InvalidInput("env", "Name at least one variable to set or to remove.")
        parts += ["all others unset"] if replace_all else []

        def change(before: Definition) -> Definition:
            kept = {} if replace_all else before.env
            return replace(before, env=changed_env(kept, put=values, drop=drop))

        return await self._redefine(asker, address, ", ".join(parts), change, stage=stage)

    async def apply_config(self, asker: Actor, address: Address) -> Change:
        """One version of all that is staged; none when nothing is."""
        return await self._redefine(asker, address, "config:apply", lambda before: before)

    def limits(self, asker: Actor, address: Address) -> Sequence[ProcessLimits]:
        """Of every process type, as the next version has them."""
        service = get_service(self._state, asker, address, Right.VIEW)
        wanted = find_wanted(self._state, service)
        kinds = {*(process_commands(wanted) if wanted else ()), *service.definition.limits}
        found = []
        for kind in sorted(kinds - {ALL} or {ALL}):
            limits, sources = effective_limits(service.definition, kind, self._limits)
            found.append(ProcessLimits(process_type=kind, limits=limits, sources=sources))
        return found

    async def change_limits(
        self,
        asker: Actor,
        address: Address,
        process_type: str = ALL,
        *,
        values: Mapping[str, Any],
        drop: Sequence[str] = (),
    ) -> Change:
        """Of one process type, or of all. What is dropped is as for all types again, or as the server has it.

        Raises InvalidInput, also for an unknown process type.
        """
        given = [f"{name}={values[name]}" for name in sorted(values) if values[name] is not None]
        parts = [f"limits:set {' '.join(given)}"] if given else []
        parts += [f"limits:unset {' '.join(sorted(drop))}"] if drop else []
        if not parts:
            raise InvalidInput(
                "limits", "Name at least one limit to set or to remove: cpu, memory, pids, nofile."
            )

        def change(before: Definition) -> Definition:
            kind = self._limited_type(asker, address, process_type)
            return replace(before, limits=changed_limits(before.limits, kind, values=values, drop=drop))

        reason = ", ".join(parts) + (f" for {process_type}" if process_type else "")
        return await self._redefine(asker, address, reason, change)

    def _limited_type(self, asker: Actor, address: Address, given: str) -> str:
        if given == ALL:
            return ALL
        service = get_service(self._state, asker, address, Right.OPERATE)
        wanted = find_wanted(self._state, service)
        commands = process_commands(wanted) if wanted else {}
        kind = known_type(given, commands, service.name)
        if kind is None and commands:
            known = ", ".join(sorted(each or "web" for each in commands))
            raise InvalidInput("limits", f"There is no process type {given[:40]!a}. Known are: {known}.")
        return check_process_type(given) if kind is None else kind

    async def set_branches(self, asker: Actor, address: Address, branches: Sequence[str]) -> ServiceInfo:
        """Branches whose push deploys."""
        wanted = tuple(dict.fromkeys(_checked_branch(each) for each in branches))
        if not wanted:
            raise InvalidInput("branches", "Name at least one branch.")

        def decide() -> Iterable[Put | EventDraft]:
            service = get_service(self._state, asker, address, Right.OPERATE)
            if service.branches == wanted:
                return ()
            event = EventDraft(
                kind="service.branches",
                deployment=service.deployment,
                service=service.name,
                actor=asker.name,
                text=f"deploys from {', '.join(wanted)}",
            )
            return put(replace(service, branches=wanted)), event

        await self._state.transact(decide)
        return self.get(asker, address)

    async def destroy(self, asker: Actor, address: Address) -> None:
        """Forget the service in one step. Its instances stop, then its files go."""
        gone: list[Service] = []

        def decide() -> Iterator[Delete | EventDraft]:
            gone[:] = [get_service(self._state, asker, address, Right.MANAGE)]
            yield from forgotten(self._state, gone[0], asker)

        await self._state.transact(decide)
        self._removal.begin(gone)

    async def _redefine(
        self,
        asker: Actor,
        address: Address,
        reason: str,
        change: Callable[[Definition], Definition],
        *,
        force: bool = False,
        make: bool = False,
        stage: bool = False,
    ) -> Change:
        made: list[Version] = []
        cause = Cause(actor=asker.name, now=self._clock(), reason=reason)

        def decide() -> Iterator[Put | EventDraft]:
            made.clear()
            deployment = get_deployment(self._state, asker, address.deployment, Right.OPERATE)
            is_new = make and self._state.service(address.deployment, address.service) is None
            if is_new:
                service = self._births.new(asker, address)
                yield created(service, asker)
            else:
                service = get_service(self._state, asker, address, Right.OPERATE)
            definition = change(service.definition)
            check_publishing(self._state, asker, {address: (service.definition, definition)})
            wanted = find_wanted(self._state, service)
            content = content_with(deployment, service.name, definition, find_code(self._state, service))
            if content is not None:
                check_process(content, address)
            waits = stage and wanted is not None
            holds = self._holds(deployment, service, definition)
            if (
                content
                and not waits
                and not holds
                and (force or wanted is None or not content.is_that_of(wanted))
            ):
                version, steps = new_version(service, wanted, content, cause)
                made.append(version)
                yield from steps
            elif is_new or definition != service.definition or holds != service.holds:
                yield put(replace(service, definition=definition, holds=holds))
                yield from told_held(service, holds, content, asker.name)
                if definition == service.definition:
                    return
                if content is None or holds:
                    yield _kept_for_later(service, asker, reason, "for the first version")
                elif waits:
                    yield _kept_for_later(service, asker, reason, "staged for the next version")

        await self._advisor.transact(decide)
        self._runtime.wake()
        service = get_service(self._state, asker, address, Right.VIEW)
        version = shown_version(asker, made[0]) if made else None
        staged = staged_names(service, find_wanted(self._state, service)) if stage else ()
        content = self._content(service)
        return Change(
            version=version, held=held_text(service, content), needs_code=content is None, staged=staged
        )

    def _holds(self, deployment: Deployment, service: Service, definition: Definition) -> Mapping[str, str]:
        """What keeps it from having its first version. Raises InvalidInput for what could never end."""
        facts = defined(facts_of(self._state, deployment), {service.name: definition})
        if definition.extra != service.definition.extra:
            check_no_circle(facts)
        return holds_of(facts, service.name) if service.latest == 0 else {}

    def _content(self, service: Service) -> Content | None:
        """What it would run now; None: it has no code yet."""
        deployment = self._state.deployment(service.deployment)
        if deployment is None:
            return None
        return content_with(deployment, service.name, service.definition, find_code(self._state, service))

    def _info(self, asker: Actor, service: Service) -> ServiceInfo:
        wanted = find_wanted(self._state, service)
        domains = domains_of(service, self._root_domain)
        port = self._http_port()
        suffix = "" if port == 80 else f":{port}"
        return ServiceInfo(
            service=shown_service(asker, service),
            domains=domains,
            urls=tuple(f"http://{each}{suffix}" for each in domains if not each.startswith("*.")),
            process_types=wanted_processes(service, wanted) if wanted else service.scale,
            held=held_text(service, self._content(service)),
            staged=staged_names(service, wanted),
            rollout=rollout_text(self._runtime, service),
            due=sum(due_processes(service, wanted).values()) if wanted else 0,
            running=sum(
                each.state is InstanceState.RUNNING
                for each in self._runtime.instances(service.deployment, service.name)
            ),
            inner_ports=places_of(self._state.deployment(service.deployment), service.name),
        )


def _kept_for_later(service: Service, asker: Actor, reason: str, until: str) -> EventDraft:
    return EventDraft(
        kind="service.defined",
        deployment=service.deployment,
        service=service.name,
        actor=asker.name,
        text=one_line(f"{reason}, {until}", MAX_REASON),
    )


def _checked_branch(text: str) -> str:
    """Git's own rules, as far as they keep a name from meaning something else."""
    odd = set(text) & set(" ~^:?*[\\") or not text.isprintable() or ".." in text or "@{" in text
    if (
        odd
        or not text
        or len(text) > 200
        or text.startswith(("-", "/", "."))
        or text.endswith(("/", ".", ".lock"))
    ):
        raise InvalidInput("branches", f"{text[:60]!a} is no valid branch name.")
    return text
