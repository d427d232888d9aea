"""Config of a whole deployment: what all of its services find in their environment, below their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from secrets import token_hex

from controller.environment import shared_env
from controller.errors import InvalidInput, NotFound
from controller.operations.access import Actor, shown_version
from controller.operations.advice import Advisor
from controller.operations.definition import changed_env
from controller.operations.lookup import find_code, find_wanted, get_deployment
from controller.operations.runtime import Runtime
from controller.operations.text import one_line
from controller.operations.versioning import MAX_REASON, Cause, content_with, new_version
from controller.plugins.advice import Question, need
from controller.plugins.generate import secrets_of, with_secrets
from controller.state import EventDraft, Put, State, put
from controller.types import Deployment, Right, Service, Version
from controller.views import SharedChange


class SharedConfigOperations:
    def __init__(
        self, state: State, runtime: Runtime, advisor: Advisor, *, clock: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._advisor = advisor
        self._clock = clock

    def get(self, asker: Actor, deployment: str) -> Mapping[str, str]:
        return shared_env(get_deployment(self._state, asker, deployment, Right.DEPLOY).globals)

    async def change(
        self, asker: Actor, deployment: str, *, values: Mapping[str, str], drop: Sequence[str] = ()
    ) -> SharedChange:
        """A version of each service whose environment this changes: none where its own config wins."""
        parts = [f"config:set --global {' '.join(sorted(values))}"] if values else []
        parts += [f"config:unset --global {' '.join(sorted(drop))}"] if drop else []
        if not parts:
            raise InvalidInput("env", "Name at least one variable to set or to remove.")
        cause = Cause(actor=asker.name, now=self._clock(), reason=one_line(", ".join(parts), MAX_REASON))
        made: list[Version] = []

        def decide() -> Iterator[Put | EventDraft]:
            made.clear()
            before = get_deployment(self._state, asker, deployment, Right.OPERATE)
            env = changed_env(shared_env(before.globals), put=values, drop=drop)
            after = replace(before, globals={**before.globals, "Env": env})
            if env == shared_env(before.globals):
                return
            yield from self._written(before, after, cause, made)

        await self._advisor.transact(decide)
        self._runtime.wake()
        return SharedChange(versions=tuple(shown_version(asker, each) for each in made))

    def generated(self, asker: Actor, deployment: str) -> Mapping[str, str]:
        """What `{NAME}` stands for, of the names in the section Generate."""
        return secrets_of(get_deployment(self._state, asker, deployment, Right.DEPLOY))

    async def renew(self, asker: Actor, deployment: str, name: str) -> SharedChange:
        """A new secret of that name, and a version of each service that has it. Raises NotFound."""
        cause = Cause(
            actor=asker.name, now=self._clock(), reason=one_line(f"generate:renew {name}", MAX_REASON)
        )
        made: list[Version] = []

        def decide() -> Iterator[Put | EventDraft]:
            made.clear()
            before = get_deployment(self._state, asker, deployment, Right.OPERATE)
            if name not in secrets_of(before):
                raise NotFound(f"{deployment} has no secret {name[:60]!a} (see `generate`).")
            others = {key: value for key, value in before.generated.items() if key != name}
            after = with_secrets(replace(before, generated=others), token_hex)
            yield from self._written(before, after, cause, made)

        await self._advisor.transact(decide)
        self._runtime.wake()
        return SharedChange(versions=tuple(shown_version(asker, each) for each in made))

    def _written(
        self, before: Deployment, after: Deployment, cause: Cause, made: list[Version]
    ) -> Iterator[Put | EventDraft]:
        yield put(after)
        yield EventDraft(
            kind="deployment.config", deployment=after.name, actor=cause.actor, text=cause.reason
        )
        services = self._state.services(after.name)
        need(
            Question(each, service.name, service.definition)
            for each in (before, after)
            for service in services
        )
        for service in services:
            yield from self._released(service, before, after, cause, made)

    def _released(
        self, service: Service, before: Deployment, after: Deployment, cause: Cause, made: list[Version]
    ) -> Iterator[Put | EventDraft]:
        """A version of it, where there was one to change and it would run with something else."""
        wanted, code = find_wanted(self._state, service), find_code(self._state, service)
        old = content_with(before, service.name, service.definition, code)
        new = content_with(after, service.name, service.definition, code)
        if old and new and wanted and not new.runs_like(old):
            version, steps = new_version(service, wanted, new, cause)
            made.append(version)
            yield from steps
