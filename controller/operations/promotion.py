"""Taking over what runs in one deployment into another, without building it again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count

from controller.difference import HIDDEN
from controller.environment import shared_env
from controller.errors import Conflict, InvalidInput, NotFound, Refused, Unavailable
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.advice import Advisor
from controller.operations.beginning import (
    Beginning,
    fresh_secret,
    missing,
    wanted,
    way_out,
    with_variables,
)
from controller.operations.facts import defined, facts_of
from controller.operations.holding import told_held
from controller.operations.lookup import address_of, find_code, find_wanted, get_deployment
from controller.operations.runtime import Runtime
from controller.operations.text import one_line
from controller.operations.versioning import (
    MAX_REASON,
    Cause,
    Content,
    check_process,
    content_with,
    held_text,
    new_version,
)
from controller.plugins.advice import holds_of
from controller.plugins.required import required
from controller.servicefile.plan import in_order
from controller.state import EventDraft, Put, State, put
from controller.types import (
    Artifact,
    ArtifactKind,
    Code,
    Definition,
    Deployment,
    Manifest,
    Right,
    Service,
    Version,
)
from controller.upkeep.storage import Storage
from controller.views import Area, Difference, FileChange, FileChangeKind, FileOutcome

Steps = Iterator[Put | EventDraft]
SHOWN_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody wants taken over."""

    source: str
    target: str
    services: tuple[str, ...] = ()
    """Empty: all that are in both."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What becomes of one service."""

    service: Service
    """Of the target, before."""
    version: Version
    """Of the source: what serves there."""
    content: Content
    wanted: Version | None
    holds: Mapping[str, str]

    @property
    def makes_version(self) -> bool:
        return not self.holds and (self.wanted is None or not self.content.is_that_of(self.wanted))

    @property
    def is_change(self) -> bool:
        """Whether people are told of it."""
        if not self.holds:
            return self.makes_version
        return self.service.code != self.code or self.service.definition != self.content.definition

    @property
    def code(self) -> Code | None:
        """What a held service keeps for its first version; None where the definition says what runs."""
        if self.content.definition.image is not None:
            return None
        content = self.content
        return Code(artifact=content.artifact, commit=content.commit, origin=content.origin)

    @property
    def built_image(self) -> str | None:
        """The image that only the source's versions hold on the engine; None where there is none."""
        artifact = self.content.artifact
        is_built = artifact.kind is ArtifactKind.IMAGE and self.content.definition.image is None
        return artifact.reference if is_built else None

    @property
    def reason(self) -> str:
        where = Address(self.version.deployment, self.version.service)
        return f"promoted from {where} v{self.version.number}"

    def told(self, number: int | None) -> FileChange:
        return FileChange(
            deployment=self.service.deployment,
            service=self.service.name,
            kind=FileChangeKind.CHANGE,
            makes_version=self.makes_version,
            version=number,
            differences=tuple(self._differences()),
            held=held_text(replace(self.service, holds=self.holds), self.content) if self.holds else None,
        )

    def _differences(self) -> Iterator[Difference]:
        before = self.wanted
        if self.content.definition.image != self.service.definition.image:
            yield Difference(
                area=Area.DEFINITION,
                name="image",
                before=self.service.definition.image,
                after=self.content.definition.image,
            )
        else:
            old = before.commit or _short(before.artifact) if before else None
            new = self.content.commit or _short(self.content.artifact)
            if old != new:
                yield Difference(
                    area=Area.CODE, name="code", before=old and old[:SHOWN_DIGITS], after=new[:SHOWN_DIGITS]
                )
        for name in sorted(self.content.definition.env.keys() - self.service.definition.env.keys()):
            yield Difference(area=Area.ENV, name=name, after=HIDDEN)


class _Secrets:
    """Made once for all tries of one decision: what plugins said of a definition holds for the same one only."""

    def __init__(self) -> None:
        self._made = list[str]()

    def again(self) -> Callable[[], str]:
        """The same ones in the same order; more of them where more are wanted."""
        places = count()

        def take() -> str:
            place = next(places)
            if place == len(self._made):
                self._made.append(fresh_secret())
            return self._made[place]

        return take


class PromotionOperations:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        storage: Storage,
        advisor: Advisor,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._advisor = advisor
        self._storage = storage
        self._clock = clock

    async def plan(self, asker: Actor, request: Request) -> FileOutcome:
        """What `apply` would do now. Raises what that raises."""
        taken, notes = await self._advisor.read(lambda: self._taken(asker, request, lambda: HIDDEN))
        return _outcome(request, taken, notes, {}, applied=False)

    async def apply(self, asker: Actor, request: Request) -> FileOutcome:
        """Each service gets the code of what serves in the source, and the target's own config, in one step.

        Raises NotFound, Forbidden, InvalidInput; Refused where one of the services that were named can't be taken
        over; Conflict, Unavailable.
        """
        secrets, kept = _Secrets(), set[str]()
        for each in (await self._advisor.read(lambda: self._taken(asker, request, secrets.again())))[0]:
            if each.is_change and each.built_image is not None:
                await self._keep(each.service, each.built_image)
                kept.add(each.built_image)
        made, found, notes = dict[str, int](), list[Taken](), list[str]()

        def decide() -> Steps:
            made.clear()
            found[:], notes[:] = self._taken(asker, request, secrets.again())
            for each in found:
                if each.is_change and each.built_image not in (None, *kept):
                    raise Conflict(f"{request.source} got something new meanwhile: promote that, once more.")
                yield from self._written(each, asker, made)

        await self._advisor.transact(decide)
        self._runtime.wake()
        return _outcome(request, found, notes, made, applied=True)

    async def _keep(self, service: Service, image: str) -> None:
        try:
            await self._storage.keep_image(service.deployment, service.name, image)
        except OSError as error:
            raise Unavailable(
                f"The image of {address_of(service)} can't be taken over now: {error}"
            ) from error

    def _written(self, taken: Taken, asker: Actor, made: dict[str, int]) -> Steps:
        service, content = taken.service, taken.content
        if taken.makes_version:
            cause = Cause(actor=asker.name, now=self._clock(), reason=one_line(taken.reason, MAX_REASON))
            version, steps = new_version(service, taken.wanted, content, cause)
            made[service.name] = version.number
            yield from steps
        elif taken.is_change:
            yield put(replace(service, definition=content.definition, holds=taken.holds, code=taken.code))
            yield from told_held(service, taken.holds, content, asker.name)

    def _taken(
        self, asker: Actor, request: Request, make_secret: Callable[[], str]
    ) -> tuple[list[Taken], list[str]]:
        """What can be taken over, those that others require first, and why the rest can't."""
        if request.source == request.target:
            raise InvalidInput("target", f"{request.target} is promoted to itself: name another deployment.")
        get_deployment(self._state, asker, request.source, Right.DEPLOY)
        target = get_deployment(self._state, asker, request.target, Right.DEPLOY)
        there = {each.name: each for each in self._state.services(request.source)}
        for name in request.services:
            if name not in there:
                raise NotFound(f"{request.source} has no service {name}.")
        taken, notes = dict[str, Taken](), list[str]()
        for name in dict.fromkeys(request.services or there):
            try:
                taken[name] = self._one(asker, there[name], target, make_secret)
            except Refused as error:
                if request.services:
                    raise
                notes.append(str(error))
        if not taken:
            raise Refused("\n".join(["Nothing can be taken over.", *notes]))
        order = in_order(
            list(taken), {name: required(each.content.definition) for name, each in taken.items()}
        )
        return [taken[name] for name in order], notes

    def _one(
        self, asker: Actor, source: Service, deployment: Deployment, make_secret: Callable[[], str]
    ) -> Taken:
        """Raises Refused, Forbidden."""
        where = address_of(source)
        address = Address(deployment.name, source.name)
        version = (
            self._state.version(source.deployment, source.name, source.current) if source.current else None
        )
        if version is None or version.artifact is None:
            raise Refused(f"{where} serves nothing yet: there is nothing to take over.")
        target = self._state.service(address.deployment, address.service)
        if target is None:
            raise Refused(
                f"{deployment.name} has no service {source.name}: deploy its service file there first."
            )
        image = version.definition.image
        if image is not None and target.definition.image is None and self._has_code(target):
            raise Refused(f"{where} runs the image {image}, and {address} runs code: set its image first.")
        if image is None and target.definition.image is not None:
            raise Refused(
                f"{where} runs code, and {address} the image {target.definition.image}: set that to null first."
            )
        if image is not None and image != target.definition.image:
            asker.require(deployment.name, Right.OPERATE)
        definition = replace(target.definition, image=image)
        manifest = version.artifact.manifest
        definition = with_variables(
            definition, deployment, _variables(address, definition, deployment, manifest, make_secret)
        )
        code = Code(artifact=version.artifact, commit=version.commit, origin=version.origin)
        content = content_with(deployment, target.name, definition, code)
        assert content is not None
        check_process(content, address)
        facts = defined(facts_of(self._state, deployment), {target.name: definition})
        holds = holds_of(facts, target.name) if target.latest == 0 else {}
        return Taken(
            service=target,
            version=version,
            content=content,
            wanted=find_wanted(self._state, target),
            holds=holds,
        )

    def _has_code(self, service: Service) -> bool:
        return find_code(self._state, service) is not None or "git" in service.definition.extra


def _variables(
    address: Address,
    definition: Definition,
    deployment: Deployment,
    manifest: Manifest,
    make_secret: Callable[[], str],
) -> Beginning:
    """What the code wants set there. Raises Refused where it requires what nobody has set."""
    there = {*shared_env(deployment.globals), *definition.env}
    if lacking := missing(manifest, there):
        names = " and ".join(lacking)
        raise Refused(f"{address} lacks {names}, which this code requires: {way_out(address, lacking)}")
    return Beginning(variables=wanted(manifest, there, make_secret))


def _short(artifact: Artifact | None) -> str:
    return artifact.reference.removeprefix("sha256:") if artifact else ""


def _outcome(
    request: Request, taken: list[Taken], notes: list[str], made: Mapping[str, int], *, applied: bool
) -> FileOutcome:
    changes = [each for each in taken if each.is_change]
    return FileOutcome(
        deployment=request.target,
        applied=applied,
        globals=(),
        changes=tuple(each.told(made.get(each.service.name)) for each in changes),
        unchanged=len(taken) - len(changes),
        notes=tuple(notes),
    )
