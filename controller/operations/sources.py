"""How a service's source is built: its buildpacks, and the folder that is built."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.buildpacks import FIELD, parse_build_dir, parse_buildpack, parse_buildpacks
from controller.dockerfile import changed_args, check_dockerfile, check_secrets, check_target
from controller.environment import shared_env
from controller.errors import InvalidInput, Refused
from controller.names import Address
from controller.operations.access import Actor, shown_service
from controller.operations.lookup import get_service
from controller.state import EventDraft, Put, State, put
from controller.types import BuilderChoice, DockerfileBuild, Right, Service
from controller.views import BuildpackVerdict


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is to be looked at: a service's source, as a build of it would be given it."""

    service: Service
    env: Mapping[str, str]
    branch: str | None
    """None: the branch that deploys."""


Inspect = Callable[[Look], Awaitable[Sequence[BuildpackVerdict]]]
"""Asks the buildpacks about what was pushed; raises NotFound, Refused."""


class SourceOperations:
    def __init__(self, state: State, inspect: Inspect | None) -> None:
        """`inspect` None: nothing is known here of repositories and buildpacks."""
        self._state = state
        self._inspect = inspect

    async def change_buildpacks(
        self,
        asker: Actor,
        address: Address,
        *,
        only: Sequence[str] | None = None,
        add: Sequence[str] = (),
        at: int | None = None,
        remove: Sequence[str] = (),
    ) -> Service:
        """Replace all by `only`, take away `remove`, put in `add` (before the one at place `at`, counted from 1;
        None: behind all). The next build goes by it; no version is made."""
        parse_buildpacks(add)  # a wrong one is named before anything is looked up
        if at is not None and at < 1:
            raise InvalidInput(FIELD, "Places are counted from 1.")

        def change(service: Service) -> Service:
            kept = list(service.buildpacks if only is None else _written(only))
            for each in _written(remove):
                if each not in kept:
                    raise InvalidInput(FIELD, f"{each} is none of the buildpacks of {address}.")
                kept.remove(each)
            place = len(kept) if at is None else at - 1
            wanted = [*kept[:place], *_written(add), *kept[place:]]
            parse_buildpacks(wanted)
            return replace(service, buildpacks=tuple(wanted))

        return await self._change(
            asker,
            address,
            change,
            lambda after: (
                f"is built by {', '.join(after.buildpacks)}"
                if after.buildpacks
                else "is built by what its source says, or by what is detected"
            ),
        )

    async def set_build_dir(self, asker: Actor, address: Address, folder: str) -> Service:
        """The folder of the repository that is built, from its top; empty: all of it."""
        checked = parse_build_dir(folder)
        return await self._change(
            asker,
            address,
            lambda service: replace(service, build_dir=checked),
            lambda after: f"is built from {after.build_dir or 'the whole repository'}",
        )

    async def set_builder(
        self,
        asker: Actor,
        address: Address,
        *,
        choice: BuilderChoice | None = None,
        dockerfile: str | None = None,
        target: str | None = None,
        args: Mapping[str, str | None] | None = None,
        secrets: Sequence[str] | None = None,
    ) -> Service:
        """Say what builds it, and how its Dockerfile is built; what is None stays, and an argument of the value None
        goes. The next build goes by it; no version is made. Raises InvalidInput."""

        def change(service: Service) -> Service:
            before = service.dockerfile
            after = DockerfileBuild(
                path=before.path if dockerfile is None else check_dockerfile(dockerfile),
                target=before.target if target is None else check_target(target),
                args=changed_args(before.args, args or {}),
                secrets=before.secrets if secrets is None else check_secrets(secrets),
            )
            return replace(service, builder=choice or service.builder, dockerfile=after)

        return await self._change(asker, address, change, _builder_text)

    async def detect(
        self, asker: Actor, address: Address, branch: str | None = None
    ) -> Sequence[BuildpackVerdict]:
        """What each buildpack says of what was pushed last, in the order in which they are asked."""
        service = get_service(self._state, asker, address, Right.DEPLOY)
        if self._inspect is None:
            raise Refused("This server can't look into repositories.")
        deployment = self._state.deployment(address.deployment)
        shared = shared_env(deployment.globals if deployment else {})
        return await self._inspect(
            Look(service=service, env={**shared, **service.definition.env}, branch=branch)
        )

    async def _change(
        self,
        asker: Actor,
        address: Address,
        change: Callable[[Service], Service],
        words: Callable[[Service], str],
    ) -> Service:
        def decide() -> Iterable[Put | EventDraft]:
            service = get_service(self._state, asker, address, Right.OPERATE)
            after = change(service)
            if after == service:
                return ()
            event = EventDraft(
                kind="service.source",
                deployment=service.deployment,
                service=service.name,
                actor=asker.name,
                text=f"{words(after)}, from the next build on",
            )
            return put(after), event

        await self._state.transact(decide)
        return shown_service(asker, get_service(self._state, asker, address, Right.VIEW))


def _builder_text(after: Service) -> str:
    """Without the values of arguments."""
    dockerfile = after.dockerfile
    words = {
        BuilderChoice.AUTO: "is built by its Dockerfile where it has one, else by buildpacks",
        BuilderChoice.BUILDPACKS: "is built by buildpacks",
        BuilderChoice.DOCKERFILE: "is built by its Dockerfile",
    }[after.builder]
    parts = [
        f"file {dockerfile.path}" if dockerfile.path else "",
        f"target {dockerfile.target}" if dockerfile.target else "",
        f"arguments {' '.join(sorted(dockerfile.args))}" if dockerfile.args else "",
        f"secrets {' '.join(dockerfile.secrets)}" if dockerfile.secrets else "",
    ]
    told = ", ".join(each for each in parts if each)
    return f"{words} ({told})" if told else words


def _written(names: Sequence[str]) -> list[str]:
    """Each in its one way of writing."""
    return [str(parse_buildpack(each)) for each in names]
