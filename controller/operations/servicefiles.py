"""Service files: what one would change of a deployment, and changing it in one step."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from controller.domains import default_domain
from controller.errors import Conflict, InvalidInput, MooringError, Refused
from controller.names import Address, check_name
from controller.operations.access import Actor
from controller.operations.advice import Advisor
from controller.operations.backupplans import filed_plan, filed_plans, plan_text
from controller.operations.deployments import forgotten
from controller.operations.domains import (
    MAX_DOMAINS,
    check_domain_is_free,
    check_own_domain,
    told_domains,
)
from controller.operations.facts import facts_of
from controller.operations.holding import released_build, told_held
from controller.operations.lookup import find_code, find_wanted, get_deployment, get_service
from controller.operations.newservices import NewServices, created
from controller.operations.publishing import check_publishing
from controller.operations.removal import Removal
from controller.operations.resourceservers import told
from controller.operations.runtime import Runtime
from controller.operations.scaling import rescaled
from controller.operations.text import one_line
from controller.operations.versioning import MAX_REASON, Cause, new_version
from controller.operations.volumebackups import told_volume
from controller.plugins.claims import unclaimed
from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.plugins.resources import SECTION as RESOURCES
from controller.plugins.resources import declared, is_unmade, read_resources
from controller.servicefile.backups import has_backups
from controller.servicefile.document import ServiceFile
from controller.servicefile.domains import DomainTarget, read_domains, read_target
from controller.servicefile.plan import Found, Plan, Step, addresses_of, make_plan, with_globals
from controller.state import Delete, EventDraft, Put, State, put
from controller.store.base import StoreError, TooLarge
from controller.types import Definition, Deployment, Right, Service
from controller.views import FileOutcome

MAX_SERVICES = 2_000
BATCH = 50
"""Services that are written at once where all of them are more than the store takes."""

Steps = Iterator[Put | Delete | EventDraft]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody wants of a service file."""

    deployment: str
    file: ServiceFile
    name: str = "Servicefile"
    """What it is called in the reasons of versions."""
    prune: bool = False
    """Services that are not in it go."""
    force: bool = False
    """Each service of it gets a version, also where nothing changes."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Domains that plugins give, which are asked by `plan` and `apply`."""
    kept: frozenset[str] = frozenset()
    """Those of them that were given for the last file, by who does not answer now."""
    left_out: tuple[str, ...] = ()
    """What people should know of others that they gave."""


class ServiceFileOperations:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        removal: Removal,
        births: NewServices,
        advisor: Advisor,
        *,
        check_kind: Callable[[str], None] = lambda _kind: None,
        root_domain: str,
        clock: Callable[[], datetime],
    ) -> None:
        """`check_kind` raises InvalidInput for a kind of resource that this server has no driver of."""
        self._check_kind = check_kind
        self._state = state
        self._runtime = runtime
        self._advisor = advisor
        self._removal = removal
        self._births = births
        self._root = root_domain
        self._clock = clock

    async def plan(self, asker: Actor, request: Request) -> FileOutcome:
        """What `apply` would do now. Raises InvalidInput; rights on domains are checked by `apply` only."""
        request = await self._asked(asker, request, Right.DEPLOY)
        plan = await self._advisor.read(lambda: self._plan(asker, request, Right.DEPLOY))
        return self._outcome(request, plan, {}, applied=False)

    async def apply(self, asker: Actor, request: Request) -> FileOutcome:
        """All of it in one step, or nothing. The same again changes nothing.

        Where it is more than the store takes at once, it is done in several, and Refused tells how far it came
        when one of them fails. Raises InvalidInput, NotFound, Forbidden, Conflict, Refused.
        """
        request = await self._asked(asker, request, Right.OPERATE)
        whole = _Application(self, asker, request, None)
        try:
            await self._advisor.transact(whole.decide)
        except TooLarge:
            return await self._apply_in_parts(asker, request)
        self._done(whole)
        return self._outcome(request, whole.plan, whole.numbers, applied=True)

    async def _asked(self, asker: Actor, request: Request, right: Right) -> Request:
        """With the domains that plugins give. Whatever they give, or fail to, it keeps nobody's file back."""
        deployment = get_deployment(self._state, asker, request.deployment, right)
        if not self._advisor.plugins.records and not deployment.given_domains:
            return request
        try:
            after = with_globals(deployment, request.file)
            said = read_domains(request.file.globals.get("Domains"), deployment.name)
        except InvalidInput:
            return request  # which planning says
        facts = facts_of(self._state, after)
        new = {name: ServiceFacts(name=name, definition=Definition()) for name in request.file.services}
        facts = replace(facts, services={**new, **({} if request.prune else facts.services)})
        answers, whole = await self._advisor.plugins.domains(facts)
        kept = (
            {}
            if whole
            else {each: deployment.given_domains[each] for each in deployment.given_domains.keys() - answers}
        )
        given, left_out = dict[str, Any](), list[str]()
        if kept:
            left_out.append(
                "Not all plugins say now which domains they give (see `plugins`): what they gave before stays."
            )
        for domain, options in {**kept, **answers}.items():
            target = read_target(options, deployment.name, domain)
            beside = {name for name, each in said.items() if each.address == target.address}
            why = self._why_not(asker, domain, target, facts, beside, is_kept=domain in kept)
            if why is not None:
                left_out.append(f"{domain}, which a plugin gives, is left out: {why}")
            else:
                given[domain] = options
                said = {domain: target, **said}
        return replace(
            request, given=given, kept=frozenset(kept.keys() & given.keys()), left_out=tuple(left_out)
        )

    def _why_not(
        self,
        asker: Actor,
        domain: str,
        target: DomainTarget,
        facts: DeploymentFacts,
        others: Collection[str],
        *,
        is_kept: bool,
    ) -> str | None:
        """Why a domain of a plugin can't lead there, beside those others; None: it can."""
        address = target.address
        assert address is not None
        if address.service not in facts.services:
            return f"there is no service {address.service}."
        service = self._state.service(address.deployment, address.service)
        if is_kept and target.asks and (service is None or domain not in service.guards):
            return "its passwords are not known now."
        if len({*others, *(service.domains if service else ())} - {domain}) >= MAX_DOMAINS:
            return f"a service can have {MAX_DOMAINS} domains."
        try:
            check_domain_is_free(self._state, asker, domain, address, root=self._root)
        except Conflict as error:
            return str(error)
        return None

    async def _apply_in_parts(self, asker: Actor, request: Request) -> FileOutcome:
        plan = await self._advisor.read(lambda: self._plan(asker, request, Right.OPERATE))
        names = [str(each.address) for each in plan.steps]
        numbers = dict[Address, int]()
        for start in range(0, max(1, len(names)), BATCH):
            part = _Application(
                self,
                asker,
                request,
                frozenset(names[start : start + BATCH]),
                last=start + BATCH >= len(names),
            )
            try:
                await self._advisor.transact(part.decide)
            except (MooringError, StoreError) as error:
                raise Refused(
                    f"It was more than the store takes at once. The first {start} of {len(names)} services are "
                    f"done, those from {names[start]} on are not: {error} Deploy the same file again."
                ) from error
            self._done(part)
            numbers |= part.numbers
        return self._outcome(request, plan, numbers, applied=True)

    def _outcome(
        self, request: Request, plan: Plan, numbers: Mapping[Address, int], *, applied: bool
    ) -> FileOutcome:
        outcome = _outcome(request, plan, numbers, applied=applied)
        claimed = self._advisor.plugins.claimed()
        return replace(outcome, unclaimed=unclaimed(plan.deployment, plan.definitions, claimed))

    def _done(self, application: "_Application") -> None:
        self._removal.begin(application.gone)
        self._runtime.wake()

    def _plan(self, asker: Actor, request: Request, right: Right) -> Plan:
        deployment = get_deployment(self._state, asker, request.deployment, right)
        if len(request.file.services) > MAX_SERVICES:
            raise InvalidInput(
                "services", f"A service file can have {MAX_SERVICES} services: use several deployments."
            )
        for name in request.file.services:
            check_name(name, "service name")
        for name in request.file.globals:
            if not name[:1].isupper() or len(name) > 200:
                raise InvalidInput(
                    "globals", f"{name[:60]!a} is no section: those begin with a capital letter."
                )
        for wanted in read_resources(request.file.globals.get(RESOURCES)).values():
            self._check_kind(wanted.kind)
        plan = make_plan(
            request.file,
            self._found(asker, deployment, request),
            prune=request.prune,
            force=request.force,
        )
        check_publishing(self._state, asker, _redefined(plan))
        if any(each.removed for each in plan.steps):
            asker.require(request.deployment, Right.MANAGE if right is Right.OPERATE else right)
        return plan

    def _found(self, asker: Actor, deployment: Deployment, request: Request) -> Found:
        services = {each.name: each for each in self._state.services(deployment.name)}
        wanted = {name: find_wanted(self._state, each) for name, each in services.items()}
        code = {name: find_code(self._state, each) for name, each in services.items()}
        elsewhere = dict[Address, Service]()
        for address in addresses_of(request.file, deployment):
            service = self._state.service(address.deployment, address.service)
            if service is not None and asker.may(address.deployment, Right.VIEW):
                elsewhere[address] = service
        return Found(
            deployment=deployment,
            services=services,
            wanted={name: each for name, each in wanted.items() if each is not None},
            code={name: each for name, each in code.items() if each is not None},
            elsewhere=elsewhere,
            facts=facts_of(self._state, deployment),
            given=request.given,
            kept=request.kept,
            left_out=request.left_out,
            root=self._root,
        )

    def _written(
        self, step: Step, asker: Actor, cause: Cause, made: dict[Address, int], uids: set[int]
    ) -> Steps:
        """What is written for one service."""
        address, before = step.address, step.before
        service = before
        if service is None:
            service = self._births.new(asker, address, uids)
            uids.update(() if service.uid is None else (service.uid,))
            yield created(service, asker)
        after = replace(service, domains=step.domains, guards=step.guards, filed=step.filed)
        if step.backups is not None:
            after = replace(after, backups=filed_plans(step.backups, service.backups, cause.now))
        if step.scaled:
            after = rescaled(after, step.wanted, step.scale, cause.now)
        if step.makes_version:
            assert step.content is not None
            version, steps = new_version(after, step.wanted, step.content, cause)
            made[address] = version.number
            yield from steps
            if before is not None and before.latest == 0:
                yield from released_build(self._state, version.build, version.number)
        elif before != (after := replace(after, definition=step.definition, holds=step.holds)):
            yield put(after)
            yield from told_held(service, step.holds, step.content, asker.name)
            if step.definition != service.definition:
                yield _event("service.defined", address, asker, f"{cause.reason}, for the first version")
        if step.scaled:
            told = " ".join(f"{each.name}={each.after}" for each in step.scaled)
            yield _event("service.scaled", address, asker, f"{cause.reason}: scaled to {told}")
        for each in step.rescheduled:
            text = plan_text(f"its volume {each.name}", after.backups.get(each.name))
            yield told_volume(service, each.name, "volume.schedule", f"{cause.reason}: {text}", asker.name)
        if step.added_domains or step.dropped_domains or step.guard_changes:
            said = told_domains(step.added_domains, step.dropped_domains, asking=step.guard_changes)
            yield _event("domains.changed", address, asker, f"{cause.reason}: {said}")

    def _rescheduled(self, plan: Plan, asker: Actor, cause: Cause) -> Steps:
        """What is written for resources that are there; others have their schedule once they are made."""
        section = declared(plan.deployment.globals.get(RESOURCES))
        changed = {each.name for each in plan.backups}
        for resource in self._state.resources(plan.deployment.name):
            if not has_backups(resource) or is_unmade(resource):
                continue
            said = section[resource.name].backup if resource.name in section else None
            after = filed_plan(said, resource.backup, cause.now)
            if after != resource.backup:
                yield put(replace(resource, backup=after))
            if resource.name in changed:
                text = f"{cause.reason}: {plan_text(resource.name, after)}"
                yield told(resource, "resource.schedule", text, asker.name)

    def _check_domains(self, asker: Actor, plan: Plan) -> None:
        """Raises Conflict, Forbidden, NotFound, InvalidInput."""
        freed = {domain for each in plan.steps for domain in each.dropped_domains}
        freed |= {
            domain for each in plan.steps if each.removed and each.before for domain in each.before.domains
        }
        claimed = dict[str, Address]()
        for step in plan.steps:
            if not step.added_domains and not step.dropped_domains and not step.guard_changes:
                continue
            address = step.address
            if step.before is not None:
                get_service(self._state, asker, address, Right.OPERATE)
            default = default_domain(address.deployment, address.service, self._root)
            for domain in step.added_domains:
                if domain not in freed:
                    check_domain_is_free(self._state, asker, domain, address, root=self._root)
                if domain in claimed:
                    raise Conflict(f"The domain {domain} can't lead to {claimed[domain]} and to {address}.")
                claimed[domain] = address
                if domain in plan.deployment.given_domains:
                    continue  # a plugin is the admin's word
                check_own_domain(asker, domain, default, root=self._root)
            if len(step.domains) > MAX_DOMAINS:
                raise InvalidInput(
                    "Domains", f"{address} can have {MAX_DOMAINS} domains; use a wildcard for more."
                )

    def _new_plan(self, asker: Actor, request: Request) -> Plan:
        """The plan of somebody who may carry it out, as things are now."""
        plan = self._plan(asker, request, Right.OPERATE)
        self._check_domains(asker, plan)
        return plan

    def _cause(self, asker: Actor, request: Request) -> Cause:
        reason = one_line(f"deploy of {request.name}", MAX_REASON)
        return Cause(actor=asker.name, now=self._clock(), reason=reason)

    def _forgotten(self, service: Service, asker: Actor) -> Iterable[Delete | EventDraft]:
        return forgotten(self._state, service, asker)


class _Application:
    """One step of writing, decided again when somebody else was faster."""

    def __init__(
        self,
        operations: ServiceFileOperations,
        asker: Actor,
        request: Request,
        only: frozenset[str] | None,
        *,
        last: bool = True,
    ) -> None:
        """`only`: these services; None: all. `last`: with the deployment itself, by which the rest is found."""
        self._operations = operations
        self._asker = asker
        self._request = request
        self._only = only
        self._last = last
        self.numbers = dict[Address, int]()
        self.gone = list[Service]()
        self.plan: Plan

    def decide(self) -> Steps:
        self.numbers.clear()
        self.gone.clear()
        asker, request = self._asker, self._request
        self.plan = plan = self._operations._new_plan(asker, request)
        cause = self._operations._cause(asker, request)
        before = self._operations._state.deployment(request.deployment)
        if self._last and plan.deployment != before:
            yield put(plan.deployment)
            if plan.globals:
                names = ", ".join(f"{each.sign}{each.name}" for each in plan.globals)
                yield _event(
                    "deployment.config", Address(request.deployment, ""), asker, f"{cause.reason}: {names}"
                )
        if self._last:
            yield from self._operations._rescheduled(plan, asker, cause)
        uids = set[int]()
        for step in plan.steps:
            if self._only is not None and str(step.address) not in self._only:
                continue
            if step.removed and step.before is not None:
                self.gone.append(step.before)
                yield from self._operations._forgotten(step.before, asker)
            else:
                yield from self._operations._written(step, asker, cause, self.numbers, uids)


def _event(kind: str, address: Address, asker: Actor, text: str) -> EventDraft:
    return EventDraft(
        kind=kind,
        deployment=address.deployment,
        service=address.service,
        actor=asker.name,
        text=one_line(text, MAX_REASON),
    )


def _outcome(request: Request, plan: Plan, numbers: Mapping[Address, int], *, applied: bool) -> FileOutcome:
    changes = plan.changes
    named = {each.address.service for each in changes if not each.unfiled}
    return FileOutcome(
        deployment=request.deployment,
        applied=applied,
        globals=(*plan.globals, *plan.backups),
        changes=tuple(each.told(numbers.get(each.address)) for each in changes),
        unchanged=sum(name not in named for name in request.file.services),
        notes=plan.notes,
    )


def _redefined(plan: Plan) -> Mapping[Address, tuple[Definition, Definition]]:
    """The definitions of its services before and after; of one that goes, none."""
    return {
        each.address: (
            each.before.definition if each.before else Definition(),
            Definition() if each.removed else each.definition,
        )
        for each in plan.steps
    }
