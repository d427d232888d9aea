"""Commands of the section `Exec`: each runs once, when what it requires is there, and then is there for others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from controller.errors import Conflict, NotFound
from controller.names import Address, instance_id
from controller.operations.access import Actor
from controller.operations.facts import facts_of
from controller.operations.lookup import find_code, find_wanted, get_deployment
from controller.operations.runtime import Runtime
from controller.operations.versioning import content_with
from controller.plugins.advice import code_text
from controller.plugins.exec import KIND, SECTION, Order, declared
from controller.plugins.facts import DeploymentFacts
from controller.plugins.manager import Plugins
from controller.plugins.require import awaited
from controller.plugins.resources import missing
from controller.run_record import begun
from controller.runs import next_number
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import (
    Deployment,
    Resource,
    ResourceStatus,
    Right,
    Run,
    RunKind,
    RunStatus,
    Service,
    Version,
)
from controller.views import ExecInfo


class ExecOperations:
    def __init__(self, state: State, runtime: Runtime, *, ttl: float, clock: Callable[[], datetime]) -> None:
        """`ttl`: seconds that each of them may take."""
        self._state = state
        self._runtime = runtime
        self._ttl = ttl
        self._kept_back: dict[tuple[str, str], str] = {}
        """Deployment and name of a command to why a plugin does not let it run yet."""
        self._clock = clock

    def list(self, asker: Actor, deployment: str) -> Sequence[ExecInfo]:
        """Those of the deployment's section, and what once ended well and is in it no more; by name."""
        found = get_deployment(self._state, asker, deployment, Right.VIEW)
        facts = facts_of(self._state, found)
        orders = declared(found.globals.get(SECTION))
        infos = [self._info(name, order, facts) for name, order in orders.items()]
        for resource in facts.resources.values():
            if resource.kind == KIND and resource.name not in orders:
                infos.append(self._info(resource.name, _order_of(resource), facts))
        return sorted(infos, key=lambda each: each.name)

    async def retry(self, asker: Actor, deployment: str, name: str) -> ExecInfo:
        """Run one again that failed. Raises NotFound, Conflict where it runs or has ended well."""

        def decide() -> Iterator[Put | EventDraft]:
            found = get_deployment(self._state, asker, deployment, Right.OPERATE)
            resource = self._state.resource(deployment, name)
            if name not in declared(found.globals.get(SECTION)):
                raise NotFound(f"{deployment} has no command {name[:60]!a} in its section Exec (see `exec`).")
            if resource is None or resource.status is ResourceStatus.PENDING:
                raise Conflict(f"{name} has not ended yet: it runs, or waits.")
            if resource.status is not ResourceStatus.FAILED:
                raise Conflict(f"{name} has ended well, and runs only once.")
            settings = {key: value for key, value in resource.settings.items() if key != "run"}
            yield put(replace(resource, status=ResourceStatus.PENDING, failure="", settings=settings))
            yield _event(resource, "resource.pending", f"{name} is to be run again", asker.name)

        await self._state.transact(decide)
        return next(each for each in self.list(asker, deployment) if each.name == name)

    async def consult(self, deployment: str, plugins: Plugins) -> None:
        """Ask plugins about those that could run now."""
        found = self._state.deployment(deployment)
        if found is None or not plugins.has("setup_resource"):
            return
        facts = facts_of(self._state, found)
        for name in declared(found.globals.get(SECTION)):
            reasons = [
                str(said) for _, said in await plugins.ask("setup_resource", deployment=facts, name=name)
            ]
            self._kept_back.pop((deployment, name), None)
            if reasons:
                self._kept_back[deployment, name] = "; ".join(reasons)

    def advance(self, deployment: Deployment, facts: DeploymentFacts) -> Iterator[Put | Delete | EventDraft]:
        """The next step of each, to be written in one transaction: a run that begins, or what came of one."""
        orders = declared(deployment.globals.get(SECTION))
        numbers = dict[str, int]()
        for name, order in orders.items():
            resource = self._state.resource(deployment.name, name)
            if resource is None or _is_due(resource, order):
                yield from self._begin(deployment, name, order, resource, facts, numbers)
            elif resource.kind == KIND and resource.status is ResourceStatus.PENDING:
                yield from self._ended(resource)
        for resource in self._state.resources(deployment.name):
            if resource.kind == KIND and resource.name not in orders and not _is_ready(resource):
                yield delete(resource)
                yield _event(resource, "resource.removed", f"{resource.name} is wanted no more")

    def _begin(
        self,
        deployment: Deployment,
        name: str,
        order: Order,
        before: Resource | None,
        facts: DeploymentFacts,
        numbers: dict[str, int],
    ) -> Iterator[Put | EventDraft]:
        """`numbers`: service to the last one that was given in the same transaction."""
        if self._waits(name, order, facts) is not None:
            return
        service = self._state.service(deployment.name, order.service)
        assert service is not None, "it waits for that"
        wanted = find_wanted(self._state, service)
        known = self._state.runs(service.deployment, service.name)
        number = max(next_number(known, RunKind.EXEC), numbers.get(service.name, 0) + 1)
        numbers[service.name] = number
        run = Run(
            id=instance_id(
                service.deployment, service.name, wanted.number if wanted else 0, RunKind.EXEC, number
            ),
            deployment=service.deployment,
            service=service.name,
            version=wanted.number if wanted else 0,
            kind=RunKind.EXEC,
            number=number,
            command=order.command,
            resource=name,
            ttl=self._ttl,
            actor=deployment.created_by,
            created_at=self._clock(),
        )
        base = before or Resource(
            deployment=deployment.name,
            name=name,
            kind=KIND,
            created_at=self._clock(),
            created_by=deployment.created_by,
        )
        settings = {"run": run.id, "service": order.service, "command": order.command}
        pending = replace(base, status=ResourceStatus.PENDING, failure="", settings=settings)
        yield put(pending)
        yield put(run)
        yield begun(run)

    def _ended(self, resource: Resource) -> Iterator[Put | EventDraft]:
        run = self._state.run(str(resource.settings["run"]))
        if run is not None and not run.status.over:
            return
        if run is not None and run.status is RunStatus.SUCCEEDED:
            yield put(replace(resource, status=ResourceStatus.READY))
            yield _event(resource, "resource.ready", f"{resource.name} is there: {run.process} ended well")
            return
        why = _failure(resource, run)
        yield put(replace(resource, status=ResourceStatus.FAILED, failure=why))
        yield _event(resource, "resource.failed", f"{resource.name} failed: {why}")

    def _info(self, name: str, order: Order, facts: DeploymentFacts) -> ExecInfo:
        resource = self._state.resource(facts.deployment.name, name)
        run = self._state.run(str(resource.settings.get("run", ""))) if resource else None
        begins = resource is None or _is_due(resource, order)
        return ExecInfo(
            deployment=facts.deployment.name,
            name=name,
            service=order.service,
            command=order.command,
            require=order.require,
            status=ResourceStatus.PENDING if resource is None else resource.status,
            waits=self._waits(name, order, facts) if begins else None,
            run=None if run is None else run.process,
            failure="" if resource is None else resource.failure,
        )

    def _waits(self, name: str, order: Order, facts: DeploymentFacts) -> str | None:
        """Why it can't run yet; None: it can."""
        service = self._state.service(facts.deployment.name, order.service)
        if service is None:
            return f"waits for the service {order.service}, which is not there yet"
        code = find_code(self._state, service)
        if content_with(facts.deployment, service.name, service.definition, code) is None:
            words = code_text(service.deployment, service.name, service.definition)
            return f"waits for the code of {order.service} ({words})"
        waits = awaited(order.require, facts) or missing(facts, order.service)
        return waits or self._kept_back.get((facts.deployment.name, name))


def provisional_version(state: State, service: Service) -> Version | None:
    """What a service's first version would be now, for commands that must have run before there is one. It is kept
    nowhere. None: there is no code yet."""
    deployment = state.deployment(service.deployment)
    code = find_code(state, service)
    content = content_with(deployment, service.name, service.definition, code) if deployment else None
    if content is None:
        return None
    return Version(
        deployment=service.deployment,
        service=service.name,
        number=0,
        definition=content.definition,
        globals=content.globals,
        artifact=content.artifact,
        commit=content.commit,
        origin=content.origin,
        build=content.build,
        provided=content.provided,
    )


def _is_due(resource: Resource, order: Order) -> bool:
    """Whether it is to be run, as it never was, is to be run again, or failed and is another one now."""
    if resource.kind != KIND:
        return False
    if resource.status is ResourceStatus.PENDING:
        return "run" not in resource.settings
    return resource.status is ResourceStatus.FAILED and order != replace(
        _order_of(resource), require=order.require
    )


def _is_ready(resource: Resource) -> bool:
    return resource.status is ResourceStatus.READY


def _order_of(resource: Resource) -> Order:
    return Order(
        service=str(resource.settings.get("service", "")), command=str(resource.settings.get("command", ""))
    )


def _failure(resource: Resource, run: Run | None) -> str:
    if run is None:
        return "how it ended is not known any more"
    said = run.detail or f"it {run.status}"
    where = Address(run.deployment, run.service)
    return f"{run.process} of {where}: {said} (run:logs -a {where} {run.process})"


def _event(resource: Resource, kind: str, text: str, actor: str = "") -> EventDraft:
    return EventDraft(
        kind=kind,
        deployment=resource.deployment,
        actor=actor,
        text=text,
        data={"resource": resource.name, "kind": resource.kind},
    )
