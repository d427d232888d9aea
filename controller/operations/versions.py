"""Versions: listing, releasing new code, rolling back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from controller.difference import differences, masked
from controller.errors import NotFound, Refused
from controller.names import Address
from controller.operations.access import Actor, shown_version
from controller.operations.advice import Advisor
from controller.operations.artifacts import check_artifact, check_commit, check_origin
from controller.operations.beginning import (
    NOTHING,
    Beginning,
    begun,
    check_beginning,
    with_older_secrets,
    with_variables,
)
from controller.operations.facts import facts_of
from controller.operations.holding import released_build, told_held
from controller.operations.lookup import address_of, find_wanted, get_deployment, get_service, get_version
from controller.operations.runtime import Runtime
from controller.operations.text import one_line
from controller.operations.versioning import (
    Cause,
    Content,
    check_process,
    content_with,
    held_text,
    new_version,
    staged_names,
    was_live,
)
from controller.plugins.advice import holds_of
from controller.state import EventDraft, Put, State, put
from controller.types import Artifact, Code, Right, Service, Version
from controller.views import Change, VersionDiff

MAX_REASON = 200
"""Characters of a version's reason."""


class VersionOperations:
    def __init__(
        self, state: State, runtime: Runtime, advisor: Advisor, *, clock: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._advisor = advisor
        self._clock = clock

    def list(self, asker: Actor, address: Address) -> Sequence[Version]:
        """Newest first."""
        service = get_service(self._state, asker, address, Right.VIEW)
        versions = self._state.versions(service.deployment, service.name)
        return [shown_version(asker, each) for each in versions]

    def get(self, asker: Actor, address: Address, number: int) -> Version:
        service = get_service(self._state, asker, address, Right.VIEW)
        return shown_version(asker, get_version(self._state, service, number))

    def diff(
        self, asker: Actor, address: Address, number: int, *, other: int | None = None, reveal: bool = False
    ) -> VersionDiff:
        """What the version changed: in `other`, by default in the one in whose place it was made.

        Values of variables are hidden unless `reveal`, which takes the right to read config. Raises NotFound.
        """
        service = get_service(self._state, asker, address, Right.DEPLOY if reveal else Right.VIEW)
        version = get_version(self._state, service, number)
        base = self._before(version) if other is None else get_version(self._state, service, other)
        found = differences(base, version)
        return VersionDiff(
            deployment=service.deployment,
            service=service.name,
            number=number,
            compared_with=None if base is None else base.number,
            differences=found if reveal else tuple(map(masked, found)),
        )

    async def release(
        self,
        asker: Actor,
        address: Address,
        artifact: Artifact,
        *,
        commit: str | None = None,
        origin: str = "",
        build: str | None = None,
        reason: str,
        beginning: Beginning = NOTHING,
    ) -> Change:
        """A version from new code; none when the wanted version has the same code and the same config.

        Where the service is held, the code is kept for its first version.
        """
        made: list[Version] = []
        held: list[str | None] = []
        cause = Cause(actor=asker.name, now=self._clock(), reason=one_line(reason, MAX_REASON))
        check_artifact(artifact)
        check_commit(commit)
        check_origin(origin)
        check_beginning(beginning)

        def decide() -> Iterator[Put | EventDraft]:
            made.clear()
            held.clear()
            deployment = get_deployment(self._state, asker, address.deployment, Right.DEPLOY)
            service = get_service(self._state, asker, address, Right.DEPLOY)
            check_takes_code(service)
            service = begun(service, beginning)
            code = Code(artifact=artifact, commit=commit, origin=origin, build=self._build_of(service, build))
            known = self._state.versions(address.deployment, address.service)
            new = with_older_secrets(beginning, artifact.manifest, known)
            definition = with_variables(service.definition, deployment, new)
            content = content_with(deployment, service.name, definition, code)
            assert content is not None, "it takes code, and there is some"
            check_process(content, address)
            wanted = find_wanted(self._state, service)
            holds = holds_of(facts_of(self._state, deployment), service.name) if service.latest == 0 else {}
            if holds:
                after = replace(service, definition=content.definition, holds=holds, code=code)
                yield put(after)
                yield from told_held(service, holds, content, asker.name)
                held.append(held_text(after, content))
            elif wanted is None or not content.is_that_of(wanted):
                version, steps = new_version(service, wanted, content, cause)
                made.append(version)
                yield from steps
                yield from released_build(self._state, version.build, version.number)

        await self._advisor.transact(decide)
        self._runtime.wake()
        return Change(version=made[0] if made else None, held=held[0] if held else None)

    async def rollback(self, asker: Actor, address: Address, number: int | None = None) -> Version:
        """A new version with the code, definition and globals of an older one that was live.

        Staged config is dropped, and the reason says so.

        None: the newest that was live before the wanted one. Raises NotFound, Refused.
        """
        made: list[Version] = []

        def decide() -> Iterator[Put | EventDraft]:
            service = get_service(self._state, asker, address, Right.DEPLOY)
            wanted = find_wanted(self._state, service)
            older = self._eligible(service, wanted, number)
            if older.artifact is None:
                raise Refused(f"v{older.number} has nothing to run.")
            content = Content(
                definition=older.definition,
                globals=older.globals,
                artifact=older.artifact,
                commit=older.commit,
                origin=older.origin,
                build=older.build,
                provided=older.provided,
            )
            reason = f"rollback to v{older.number}"
            staged = staged_names(service, wanted)
            if wanted is not None and staged:
                reason += f", dropping staged config {' '.join(staged)}"
                service = replace(service, definition=wanted.definition)
            cause = Cause(actor=asker.name, now=self._clock(), reason=reason)
            version, steps = new_version(service, wanted, content, cause)
            made[:] = [version]
            yield from steps

        await self._state.transact(decide)
        self._runtime.wake()
        return shown_version(asker, made[0])

    def _before(self, version: Version) -> Version | None:
        """The one in whose place it was made, else the newest older one that is still kept."""
        kept = self._state.versions(version.deployment, version.service)
        older = [each for each in kept if each.number < version.number]
        return next((each for each in older if each.number == version.before), next(iter(older), None))

    def _build_of(self, service: Service, build: str | None) -> str | None:
        """Raises NotFound for a build that is not this service's."""
        found = None if build is None else self._state.build(build)
        if build is None or (
            found and (found.deployment, found.service) == (service.deployment, service.name)
        ):
            return build
        raise NotFound(f"{address_of(service)} has no build {build[:60]!a}.")

    def _eligible(self, service: Service, wanted: Version | None, number: int | None) -> Version:
        address = address_of(service)
        if number is None:
            for each in self._state.versions(service.deployment, service.name):
                if wanted is not None and each.number < wanted.number and was_live(each):
                    return each
            raise NotFound(f"{address} has no earlier version to go back to.")
        version = get_version(self._state, service, number)
        if wanted is not None and number == wanted.number:
            raise Refused(f"v{number} is the version of {address} already: choose an older one.")
        if not was_live(version):
            raise Refused(f"v{number} of {address} never was live: choose one that was (see releases).")
        return version


def check_takes_code(service: Service) -> None:
    """Raise Refused for a service that runs an image."""
    if service.definition.image is not None:
        raise Refused(
            f"{address_of(service)} runs the image {service.definition.image}: "
            "set its image to null first (set-service … '{\"image\": null}') to give it code."
        )
