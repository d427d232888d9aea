"""What a service file changes of a deployment. Pure: a file and what there is, to changes with their reasons."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from secrets import token_hex
from typing import Any

from controller.difference import differences, masked
from controller.domains import default_domain
from controller.errors import InvalidInput
from controller.formation import wanted_processes
from controller.names import Address
from controller.operations.backupplans import WantedBackups
from controller.operations.definition import (
    changed_definition,
    changed_env,
    check_kept,
    read_variables,
    whole,
)
from controller.operations.facts import defined
from controller.operations.holding import check_no_circle
from controller.operations.scaling import scaled
from controller.operations.versioning import Content, check_process, content_with, held_text
from controller.plugins.advice import Question, holds_of, need
from controller.plugins.builtin import ask
from controller.plugins.exec import KIND as EXEC_KIND
from controller.plugins.exec import SECTION as EXEC
from controller.plugins.exec import declared as declared_commands
from controller.plugins.exec import read_exec
from controller.plugins.facts import DeploymentFacts
from controller.plugins.generate import Random, secrets_of, with_secrets
from controller.plugins.require import requirements
from controller.plugins.resources import SECTION as RESOURCES
from controller.plugins.resources import declared, has_server, is_unmade, read_resources
from controller.provided import named
from controller.publishing import outer_ports
from controller.servicefile.backups import (
    changes_of_resources,
    changes_of_volumes,
    notes_on_resources,
    parted,
)
from controller.servicefile.complaints import did_you_mean
from controller.servicefile.document import DOMAINS, ENV, Infra, ServiceFile
from controller.servicefile.domains import DomainTarget, as_given, read_domains, without_passwords
from controller.servicefile.guarding import check_size, guard_changes, guard_for
from controller.servicefile.infra import check_infra
from controller.servicefile.keys import canonical
from controller.servicefile.replace import braced_names
from controller.types import Code, Definition, Deployment, Guard, Service, Strategy, Version
from controller.views import Area, Difference, FileChange, FileChangeKind, GuardChange

ENV_PREFIX = "env."
SHARED_PREFIX = "Env."


@dataclass(frozen=True, kw_only=True)
class Found:
    """What there is before."""

    deployment: Deployment
    services: Mapping[str, Service] = field(default_factory=dict)
    """All of the deployment, by name."""
    wanted: Mapping[str, Version] = field(default_factory=dict)
    """Of each service the version that should run, where there is one."""
    code: Mapping[str, Code] = field(default_factory=dict)
    """Of each service the code that it goes on with."""
    facts: DeploymentFacts | None = None
    """What plugins are told of the deployment; None: that there is nothing in it."""
    elsewhere: Mapping[Address, Service] = field(default_factory=dict)
    """Services of other deployments that the section Domains names, or named."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Domains that plugins give, as the section Domains has them; they can be read, and lead to services of the
    deployment."""
    kept: frozenset[str] = frozenset()
    """Those of them of which only is known what they were before: their passwords stay too."""
    left_out: tuple[str, ...] = ()
    """What people should know of others that they gave."""
    root: str = "localhost"
    """The server's own domain, from which those of apps are derived."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What becomes of one service."""

    address: Address
    before: Service | None
    """None: it is made."""
    definition: Definition
    filed: tuple[str, ...]
    domains: tuple[str, ...]
    guards: Mapping[str, Guard]
    content: Content | None
    """What it would run; None: it has no code yet."""
    wanted: Version | None
    makes_version: bool
    scale: Mapping[str, int] = field(default_factory=dict)
    """Process type to number of instances; a missing one as in Service."""
    holds: Mapping[str, str] = field(default_factory=dict)
    """What keeps it from having its first version."""
    removed: bool = False
    unfiled: bool = False
    """It is no service of the file: only the deployment's globals change it."""
    backups: Mapping[str, WantedBackups] | None = None
    """Volume to when the file wants it to be backed up; None: the file is no word on the service."""

    @property
    def added_domains(self) -> tuple[str, ...]:
        before = self.before.domains if self.before else ()
        return tuple(each for each in self.domains if each not in before)

    @property
    def dropped_domains(self) -> tuple[str, ...]:
        before = self.before.domains if self.before else ()
        return tuple(each for each in before if each not in self.domains)

    @property
    def guard_changes(self) -> Mapping[str, GuardChange]:
        before = self.before.guards if self.before else {}
        return guard_changes(before, self.guards, gone=frozenset(self.dropped_domains))

    @property
    def is_change(self) -> bool:
        """Whether people are told of it."""
        if self.before is None or self.removed or self.makes_version:
            return True
        before = self.before
        return bool(self.rescheduled) or (
            self.definition,
            self.domains,
            self.guards,
            self.holds,
            self.scale,
        ) != (
            before.definition,
            before.domains,
            before.guards,
            before.holds,
            before.scale,
        )

    @property
    def scaled(self) -> tuple[Difference, ...]:
        """What becomes of its scale."""
        before = self.before.scale if self.before else {}
        return tuple(
            Difference(
                area=Area.SCALE, name=kind or "web", before=before.get(kind), after=self.scale.get(kind)
            )
            for kind in sorted({*before, *self.scale})
            if before.get(kind) != self.scale.get(kind)
        )

    @property
    def rescheduled(self) -> tuple[Difference, ...]:
        """What becomes of the schedules by which its volumes are backed up."""
        if self.backups is None or self.removed:
            return ()
        return changes_of_volumes(self.before.backups if self.before else {}, self.backups)

    @property
    def held(self) -> str | None:
        """Why it can't start yet; None when nothing holds it."""
        service = Service(deployment=self.address.deployment, name=self.address.service, holds=self.holds)
        return None if self.unfiled or self.removed else held_text(service, self.content)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """In its definition, without values that may be secrets."""
        if self.removed:
            return ()
        base = (
            self.wanted.definition if self.wanted else self.before.definition if self.before else Definition()
        )
        found = differences(_as_version(self.address, base), _as_version(self.address, self.definition))
        return tuple(masked(each) for each in found if each.area is Area.ENV or each.after != each.before)

    def told(self, number: int | None = None) -> FileChange:
        """As it is told; `number`: of the version that was made."""
        if self.removed:
            kind = FileChangeKind.REMOVE
        else:
            kind = FileChangeKind.CREATE if self.before is None else FileChangeKind.CHANGE
        return FileChange(
            deployment=self.address.deployment,
            service=self.address.service,
            kind=kind,
            makes_version=self.makes_version,
            version=number,
            differences=(*self.differences, *self.scaled, *self.rescheduled) if not self.removed else (),
            added_domains=self.added_domains,
            removed_domains=self.dropped_domains if not self.removed else (),
            guards=self.guard_changes if not self.removed else {},
            held=self.held,
            needs_code=self.content is None and not self.unfiled and not self.removed,
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    deployment: Deployment
    """As it is afterwards."""
    steps: tuple[Step, ...]
    """One for each service that is looked at, those that others require first."""
    globals: tuple[Difference, ...]
    """Without values."""
    backups: tuple[Difference, ...] = ()
    """What becomes of the schedules by which resources are backed up."""
    notes: tuple[str, ...] = ()

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """Of the services of the deployment that stay."""
        return {
            each.address.service: each.definition
            for each in self.steps
            if not each.removed and each.address.deployment == self.deployment.name
        }

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(each for each in self.steps if each.is_change)


def make_plan(
    file: ServiceFile,
    found: Found,
    *,
    prune: bool = False,
    force: bool = False,
    random: Random = token_hex,
) -> Plan:
    """`prune`: services that are not in the file go. `force`: each one of the file gets a version. `random`: makes
    secrets, the only thing in it that is not the same each time.

    Raises InvalidInput for what no definition, and no section, can have.
    """
    read = {name: _read(name, keys) for name, keys in file.services.items()}
    file = replace(file, services={name: keys for name, (keys, _) in read.items()})
    deployment = with_secrets(with_globals(found.deployment, file), random)
    if file.infra is not None:
        infra = check_infra(file.infra, deployment.name)
        file = replace(file, infra=infra)
        deployment = replace(deployment, infra_domains=infra.domains)
    deployment = replace(deployment, given_domains=as_given(found.given))
    wanted = _said(file, deployment, found.given)
    targets = _targets(wanted, file, deployment)
    domains = _domains(targets, file, found, prune=prune)
    guards = _guards(wanted, targets, file, found, deployment, random)
    _check_resources(file, found)
    names = [*file.services, *(each for each in found.services if each not in file.services)]
    steps, notes = list[Step](), list[str]()
    need(_questions(names, file, found, deployment))
    for name in names:
        step = _step(name, file, found, deployment, domains, guards, prune=prune, force=force)
        steps.append(replace(step, backups=read[name][1]) if name in read else step)
    if file.infra is not None:
        steps = _with_scale(steps, file.infra)
    facts = _facts_after(steps, found, deployment)
    waiting = _checked_requirements(facts, found, steps)
    steps = [_held(each, facts) for each in steps]
    for address, service in found.elsewhere.items():
        steps.append(
            _unchanged(service, domains.get(address, service.domains), guards.get(address, service.guards))
        )
    notes += found.left_out
    notes += [said for each in steps if (said := _left_open(each, found.root))]
    notes += [
        f"{domain} has a certificate (cert, key): it is kept, and the domain answers over plain HTTP, as nothing here "
        "uses it yet."
        for domain, target in targets.items()
        if target.certified
    ]
    notes += _unknown_names(steps, targets, deployment)
    notes += [said for each in steps if (said := _stops_first(each))]
    notes += _told_resources(found, deployment)
    resources = found.facts.resources if found.facts else {}
    notes += notes_on_resources(deployment, resources)
    ordered = in_order([*names, *(each for each in waiting if each not in names)], waiting)
    place = {name: at for at, name in enumerate(ordered)}
    steps[: len(names)] = sorted(steps[: len(names)], key=lambda each: place[each.address.service])
    return Plan(
        deployment=deployment,
        steps=tuple(steps),
        globals=_global_differences(found.deployment, deployment),
        backups=changes_of_resources(found.deployment, deployment, resources),
        notes=tuple(notes),
    )


def _questions(
    names: Sequence[str], file: ServiceFile, found: Found, deployment: Deployment
) -> Iterator[Question]:
    """What plugins are asked before it can be planned."""
    for name in names:
        before, keys = found.services.get(name), file.services.get(name)
        definition = before.definition if before else Definition()
        if keys is not None:
            definition = merged_definition(definition, keys, before.filed if before else ())
        else:
            yield Question(found.deployment, name, definition)
        yield Question(deployment, name, definition)


def _read(name: str, keys: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, WantedBackups]]:
    """The keys in their one form, checked, without those that say nothing; and when volumes are to be backed up."""
    try:
        keys, backups = parted(keys)
        found = canonical(keys)
        changed_definition(Definition(), found)
    except InvalidInput as error:
        raise InvalidInput(f"{name}.{error.field}", f"{name}: {error}") from error
    return {key: each for key, each in found.items() if each is not None}, backups


def merged_definition(before: Definition, keys: Mapping[str, Any], filed: Sequence[str]) -> Definition:
    """`before` with the keys of the file, and without what an earlier file said and this one does not.

    So what people set by other means stays: the file is no word on it.
    """
    gone = set(filed) - set(names_of(keys))
    given = {**dict.fromkeys(name for name in gone if not name.startswith(ENV_PREFIX)), **keys}
    dropped = {name.removeprefix(ENV_PREFIX) for name in gone if name.startswith(ENV_PREFIX)}
    kept = {name: value for name, value in before.env.items() if name not in dropped}
    return whole(changed_definition(before, {**given, "env": {**kept, **keys.get("env", {})}}))


def names_of(keys: Mapping[str, Any]) -> tuple[str, ...]:
    """What `filed` says of a service with these keys in the file."""
    env = keys.get("env") or {}
    return tuple(sorted([*(key for key in keys if key != "env"), *(f"{ENV_PREFIX}{name}" for name in env)]))


def in_order(names: Sequence[str], required: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The names, each behind those that it requires. Those of a circle come last, as they were."""
    done = dict[str, None]()
    left, known = list(names), set(names)
    while left:
        ready = [
            each for each in left if all(one in done or one not in known for one in required.get(each, ()))
        ]
        done.update(dict.fromkeys(ready or left))
        left = [each for each in left if each not in done]
    return list(done)


def _with_scale(steps: Sequence[Step], infra: Infra) -> list[Step]:
    """Raises InvalidInput for services and process types that are not there."""
    there = {each.address.service for each in steps if not each.removed}
    if missing := infra.scale.keys() - there:
        raise InvalidInput(
            "infra", f"scale names {min(missing)}, which is neither in the file nor there yet."
        )
    return [_scaled(each, infra.scale.get(each.address.service, {})) for each in steps]


def _scaled(step: Step, wanted: Mapping[str, int]) -> Step:
    service = step.before or Service(deployment=step.address.deployment, name=step.address.service)
    changes = {kind: str(quantity) for kind, quantity in wanted.items()}
    try:
        after = replace(service, scale=scaled(service, step.wanted, changes))
    except InvalidInput as error:
        raise InvalidInput("infra", f"{step.address.service}: {error}") from error
    if step.wanted and wanted_processes(after, step.wanted) == wanted_processes(service, step.wanted):
        return step  # said in other words, as where `web` stands for the unnamed type
    return replace(step, scale=after.scale)


def _stops_first(step: Step) -> str | None:
    """What people should know where its new version can't run beside the old one."""
    if not step.makes_version or step.wanted is None:
        return None
    before, after = step.wanted.definition, step.definition
    shared = [f"the volume {each}" for each in sorted(after.volumes.keys() & before.volumes.keys())]
    shared += [f"the port {each}" for each in sorted(outer_ports(after).keys() & outer_ports(before))]
    strategy = step.definition.rollout.strategy
    if strategy is Strategy.STOP_FIRST or (strategy is Strategy.ALL_AT_ONCE and shared):
        why = f"they would share {', '.join(shared)}" if shared else "its rollout is stop-first"
        return f"{step.address.service}: what serves stops before the new version starts, as {why}."
    return None


def _facts_after(steps: Sequence[Step], found: Found, deployment: Deployment) -> DeploymentFacts:
    """What plugins are told of the deployment as it is to be."""
    stays = {each.address.service: each.definition for each in steps if not each.removed}
    facts = found.facts or DeploymentFacts(deployment=deployment)
    known = {name: each for name, each in facts.services.items() if name in stays}
    return defined(replace(facts, deployment=deployment, services=known), stays)


def _checked_requirements(
    facts: DeploymentFacts, found: Found, steps: Sequence[Step]
) -> Mapping[str, Sequence[str]]:
    """All that waits for something, to what it waits for. Raises InvalidInput for what could never end."""
    section = facts.deployment.globals.get(EXEC)
    for name, order in read_exec(section).items():
        taken = facts.resources.get(name)
        if name in facts.services or (taken is not None and taken.kind != EXEC_KIND):
            raise InvalidInput(
                EXEC, f"{name} is a service or a resource already: give the command another name."
            )
        if order.service not in facts.services:
            raise InvalidInput(
                EXEC, f"{name}: {order.service} is no service of the file, and none that is there."
            )
    if section != found.deployment.globals.get(EXEC) or any(
        each.before is None or each.definition.extra != each.before.definition.extra for each in steps
    ):
        check_no_circle(facts)
    return requirements(facts)


def _held(step: Step, facts: DeploymentFacts) -> Step:
    if step.removed or (step.before is not None and step.before.latest):
        return step
    if step.unfiled and step.before is not None:  # whoever looks after what is held sees to it
        return replace(step, holds=step.before.holds)
    holds = holds_of(facts, step.address.service)
    return replace(step, holds=holds, makes_version=step.makes_version and not holds)


def with_globals(before: Deployment, file: ServiceFile) -> Deployment:
    """What an earlier file said and this one does not goes; what was set otherwise stays."""
    env = changed_env({}, put=read_variables(file.globals.get(ENV)), drop=())
    sections = {name: each for name, each in file.globals.items() if name != ENV and each is not None}
    check_kept(sections)
    if DOMAINS in sections:
        sections[DOMAINS] = without_passwords(sections[DOMAINS])
    filed = tuple(sorted([*sections, *(f"{SHARED_PREFIX}{name}" for name in env)]))
    gone = set(before.filed) - set(filed)
    kept = {name: each for name, each in before.globals.items() if name != ENV and name not in gone}
    before_env = before.globals.get(ENV) or {}
    kept_env = {name: each for name, each in before_env.items() if f"{SHARED_PREFIX}{name}" not in gone}
    shared = {**kept, **sections}
    if all_env := {**kept_env, **env}:
        shared[ENV] = all_env
    elif ENV in before.globals:
        shared[ENV] = {}
    return replace(before, globals=shared, filed=filed)


def _step(
    name: str,
    file: ServiceFile,
    found: Found,
    deployment: Deployment,
    domains: Mapping[Address, tuple[str, ...]],
    guards: Mapping[Address, Mapping[str, Guard]],
    *,
    prune: bool,
    force: bool,
) -> Step:
    before, keys = found.services.get(name), file.services.get(name)
    address = Address(deployment.name, name)
    wanted = found.wanted.get(name)
    definition = before.definition if before else Definition()
    if keys is not None:
        definition = merged_definition(definition, keys, before.filed if before else ())
    content = content_with(deployment, name, definition, found.code.get(name))
    if content is not None and keys is not None:
        check_process(content, address)
    removed = keys is None and prune and not _is_server(name, found)
    changes = content is not None and (wanted is None or not content.is_that_of(wanted))
    if keys is None and content is not None:
        # A file is no word on what is staged, or was rolled back, in services that it does not have.
        old = content_with(found.deployment, name, definition, found.code.get(name))
        changes = changes and wanted is not None and not content.runs_like(old)
    return Step(
        address=address,
        before=before,
        definition=definition,
        filed=names_of(keys) if keys is not None else before.filed if before else (),
        domains=domains.get(address, before.domains if before else ()),
        guards=guards.get(address, before.guards if before else {}),
        scale=before.scale if before else {},
        content=content,
        wanted=wanted,
        makes_version=not removed and (changes or (force and keys is not None and content is not None)),
        removed=removed,
        unfiled=keys is None,
    )


def _is_server(name: str, found: Found) -> bool:
    """Whether that service is the server of a resource, which only goes with that."""
    resource = found.facts.resources.get(name) if found.facts else None
    return resource is not None and has_server(resource)


def _check_resources(file: ServiceFile, found: Found) -> None:
    """Raises InvalidInput for names that mean something else already."""
    facts, wanted = found.facts, read_resources(file.globals.get(RESOURCES))
    for name in file.services:
        if _is_server(name, found) or name in wanted:
            raise InvalidInput(
                name, f"{name} is a resource of {found.deployment.name}: give the service another name."
            )
    for name, each in wanted.items():
        there = facts.resources.get(name) if facts else None
        if there is None and name in found.services:
            raise InvalidInput(RESOURCES, f"{name} is a service already: give the resource another name.")
        if there is not None and there.kind != each.kind:
            what = "a command of Exec" if there.kind == EXEC_KIND else f"of the kind {there.kind}"
            raise InvalidInput(
                RESOURCES, f"{name} is there already, and is {what}: give this one another name."
            )


def _told_resources(found: Found, deployment: Deployment) -> Iterator[str]:
    """What becomes of those that the section has no more."""
    before, after = (declared(each.globals.get(RESOURCES)) for each in (found.deployment, deployment))
    there = found.facts.resources if found.facts else {}
    for name in before:
        if name not in after and name in there and not is_unmade(there[name]):
            yield f"{name} is no more in the file. It stays, with its data: resources:destroy takes it away."


def _unchanged(service: Service, domains: tuple[str, ...], guards: Mapping[str, Guard]) -> Step:
    """Of another deployment: only its domains, and what they ask for, may change."""
    return Step(
        address=Address(service.deployment, service.name),
        before=service,
        definition=service.definition,
        filed=service.filed,
        domains=domains,
        guards=guards,
        scale=service.scale,
        content=None,
        wanted=None,
        makes_version=False,
        unfiled=True,
    )


def _domains(
    targets: Mapping[str, DomainTarget], file: ServiceFile, found: Found, *, prune: bool
) -> Mapping[Address, tuple[str, ...]]:
    """Of each service whose domains the section says, or said, something about: all that it has afterwards."""
    name = found.deployment.name
    kept = [
        each
        for each in found.services.values()
        if not prune or each.name in file.services or _is_server(each.name, found)
    ]
    there = {Address(name, each.name): each for each in kept} | dict(found.elsewhere)
    after = {address: list(service.domains) for address, service in there.items()}
    for domain, address in _routed(_said_before(found.deployment, file)):
        if address in after and domain in after[address]:
            after[address].remove(domain)
    for domain, address in _routed(targets):
        if address not in after:
            if address.deployment != name or address.service not in file.services:
                raise InvalidInput(
                    DOMAINS,
                    f"{domain} leads to {address.deployment}:{address.service}, which is neither in the file nor "
                    "there yet: deploy that first, or name another service.",
                )
            after[address] = []
        own = default_domain(address.deployment, address.service, found.root)
        if domain != own and domain not in after[address]:
            after[address].append(domain)
    return {address: _as_before(all_of, there.get(address)) for address, all_of in after.items()}


def _guards(
    said: Mapping[str, DomainTarget],
    targets: Mapping[str, DomainTarget],
    file: ServiceFile,
    found: Found,
    deployment: Deployment,
    random: Random,
) -> Mapping[Address, Mapping[str, Guard]]:
    """The same of passwords. Where nothing is said of a domain, it asks for what it asked for."""
    services = [*found.services.values(), *found.elsewhere.values()]
    before = {Address(each.deployment, each.name): each.guards for each in services}
    after = {address: dict(guards) for address, guards in before.items()}
    for domain, address in _routed(_said_before(found.deployment, file)):
        after.get(address, {}).pop(domain, None)
    secrets = secrets_of(deployment)
    if file.infra is None:
        targets = {**targets, **_infra_targets(said, deployment.infra_domains, deployment.name)}
    for domain, target in targets.items():
        if target.address is None:
            continue
        guards = after.setdefault(target.address, {})
        guards.pop(domain, None)
        if target.asks is not None:
            known = before.get(target.address, {}).get(domain)
            if known is None or domain not in found.kept:
                known = guard_for(target.asks, known, secrets, random)
            guards[domain] = known
    for address, guards in after.items():
        check_size(guards, address)
    return after


def _unknown_names(
    steps: Sequence[Step], targets: Mapping[str, DomainTarget], deployment: Deployment
) -> Iterator[str]:
    """What stands in braces and is no secret, though it once was one, or may be meant as one."""
    secrets = secrets_of(deployment)
    lost = deployment.generated.keys() - secrets.keys()
    for step in steps if lost else ():
        if not step.removed and step.address.deployment == deployment.name:
            for name in sorted(lost & named(step.definition, deployment.globals)):
                yield f"{step.address.service} has {{{name}}}, which Generate has no more: it stays as it is written."
    for name, order in declared_commands(deployment.globals.get(EXEC)).items():
        for each in sorted(lost & braced_names(order.command)):
            yield f"{name} has {{{each}}}, which Generate has no more: it stays as it is written."
    for domain, target in targets.items():
        for user, password in (target.asks.passwords if target.asks else {}).items():
            for name in sorted(braced_names(password) - secrets.keys()):
                # Not the name: it may be a part of what nobody else is to know.
                near = did_you_mean(name, secrets)
                yield (
                    f"{domain}: the password of {user} has a name in braces that Generate does not have, so it stays "
                    f"as it is written.{near}"
                )


def _left_open(step: Step, root: str) -> str | None:
    """What people should know of a service that asks for a password at one of its names."""
    own = default_domain(step.address.deployment, step.address.service, root)
    if step.removed or not step.guards or own is None or own in step.guards:
        return None
    return f"{min(step.guards)} asks for a password, {own} leads to the same and does not: name that in Domains too."


def _as_before(domains: Sequence[str], service: Service | None) -> tuple[str, ...]:
    """In the order in which they stood, so that the same file again is no change."""
    before = service.domains if service else ()
    return (*(each for each in before if each in domains), *(each for each in domains if each not in before))


def _said(file: ServiceFile, deployment: Deployment, given: Mapping[str, Any]) -> Mapping[str, DomainTarget]:
    """What the file says, and what plugins give beside that. Raises InvalidInput."""
    found = dict(read_domains(given, deployment.name))
    told = DeploymentFacts(deployment=replace(deployment, globals=file.globals))
    for _, section in ask("provide_domains", deployment=told):
        found |= read_domains(section, deployment.name)
    return found


def _targets(
    said: Mapping[str, DomainTarget], file: ServiceFile, deployment: Deployment
) -> Mapping[str, DomainTarget]:
    """What is said, and over it the infrastructure file. Where that is not given, nothing is said of its domains: they
    stay as they are."""
    if file.infra is None:
        return {domain: each for domain, each in said.items() if domain not in deployment.infra_domains}
    return {**said, **_infra_targets(said, file.infra.domains, deployment.name)}


def _infra_targets(
    said: Mapping[str, DomainTarget], domains: Mapping[str, str], deployment: str
) -> Mapping[str, DomainTarget]:
    """Where a domain leads is what an infrastructure file says; who may come in, the section does all the same."""
    return {
        domain: replace(each, asks=said[domain].asks if domain in said else None)
        for domain, each in read_domains(domains, deployment).items()
    }


def _said_before(deployment: Deployment, file: ServiceFile) -> Mapping[str, DomainTarget]:
    """The same of the last service file, and the last infrastructure file; of what this one may take back."""
    filed = deployment.globals.get(DOMAINS) if DOMAINS in deployment.filed else None
    infra = read_domains(deployment.infra_domains, deployment.name)
    try:
        said = {
            **read_domains(deployment.given_domains, deployment.name),
            **read_domains(filed, deployment.name),
        }
    except InvalidInput:  # of a release that took more
        said = {}
    if file.infra is None:
        return {domain: each for domain, each in said.items() if domain not in infra}
    return {**said, **infra}


def _routed(targets: Mapping[str, DomainTarget]) -> Iterator[tuple[str, Address]]:
    for domain, target in targets.items():
        if target.address is not None:
            yield domain, target.address


def addresses_of(file: ServiceFile, deployment: Deployment) -> set[Address]:
    """Services of other deployments that the section Domains names, or named last time."""
    now = _said(file, deployment, {})
    before = _said_before(deployment, file)
    named = {target.address for target in (*now.values(), *before.values()) if target.address}
    return {each for each in named if each.deployment != deployment.name}


def _global_differences(before: Deployment, after: Deployment) -> tuple[Difference, ...]:
    old, new = (_as_version(Address(before.name), Definition(), each.globals) for each in (before, after))
    return tuple(masked(each) for each in differences(old, new))


def _as_version(address: Address, definition: Definition, shared: Mapping[str, Any] | None = None) -> Version:
    """Something to compare with."""
    return Version(
        deployment=address.deployment,
        service=address.service,
        number=0,
        definition=definition,
        globals=shared or {},
    )
