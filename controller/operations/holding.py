"""Services that are kept from having a first version, and letting them go once nothing keeps them any more."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from controller.errors import InvalidInput
from controller.operations.advice import Advisor
from controller.operations.execs import ExecOperations
from controller.operations.facts import facts_of
from controller.operations.lookup import find_code
from controller.operations.resourceservers import come_up, is_awaited
from controller.operations.runtime import Runtime
from controller.operations.text import one_line
from controller.operations.versioning import MAX_REASON, Cause, Content, content_with, held_text, new_version
from controller.plugins import require
from controller.plugins.advice import Question, holds_of, need
from controller.plugins.exec import KIND as EXEC_KIND
from controller.plugins.exec import SECTION as EXEC
from controller.plugins.facts import DeploymentFacts
from controller.state import Delete, EventDraft, Put, State, put
from controller.types import Deployment, Service

log = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds until a deployment is looked at again in which something went wrong."""


def check_no_circle(facts: DeploymentFacts) -> None:
    """Raise InvalidInput where services, or commands of `Exec`, require each other: none could be the first."""
    if circle := require.find_circle(require.requirements(facts)):
        chain = " requires ".join([*circle, circle[0]])
        raise InvalidInput(
            "require", f"{chain}: none of them could ever be the first. Take one of these out of require."
        )


def told_held(
    service: Service, holds: Mapping[str, str], content: Content | None, actor: str
) -> Iterator[EventDraft]:
    """The journal entry where it waits for something else than before. `service`: as it was."""
    if holds == service.holds:
        return
    text = held_text(replace(service, holds=holds), content)
    yield EventDraft(
        kind="service.held",
        deployment=service.deployment,
        service=service.name,
        actor=actor,
        text=one_line(f"held: {text}", MAX_REASON),
    )


class Releaser:
    """Looks again at what is held whenever something in its deployment has changed."""

    def __init__(
        self,
        state: State,
        runtime: Runtime,
        advisor: Advisor,
        commands: ExecOperations,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._advisor = advisor
        self._commands = commands
        self._runtime = runtime
        self._clock = clock
        self._changes = state.changes()

    async def run(self) -> None:
        """Until cancelled. What a killed server left is looked at first."""
        failed = await self.examine({each.deployment for each in self._state.services()})
        while True:
            touched = frozenset[tuple[str, str]]()
            try:
                async with asyncio.timeout(RETRY if failed else None):
                    touched = await self._changes.__anext__()
            except TimeoutError:
                pass
            except StopAsyncIteration:
                return
            failed = await self.examine({deployment for deployment, _ in touched} | failed)

    async def examine(self, deployments: Iterable[str]) -> set[str]:
        """Each of these by itself; those with which something went wrong, to be looked at again."""
        failed = set[str]()
        for name in sorted(deployments):
            if not self._is_waiting(name):
                continue
            try:
                await self._commands.consult(name, self._advisor.plugins)
                events = await self._advisor.transact(lambda name=name: self._decide(name))  # type: ignore[misc]
            except Exception:  # whatever it is, others go on
                log.exception("held services could not be looked at deployment=%s", name)
                failed.add(name)
            else:
                if events:
                    self._runtime.wake()
        return failed

    def _is_waiting(self, name: str) -> bool:
        """Whether there is anything to look at."""
        deployment = self._state.deployment(name)
        return (
            (deployment is not None and EXEC in deployment.globals)
            or any(each.holds for each in self._state.services(name))
            or any(each.kind == EXEC_KIND or is_awaited(each) for each in self._state.resources(name))
        )

    def _decide(self, name: str) -> Iterator[Put | Delete | EventDraft]:
        deployment = self._state.deployment(name)
        if deployment is None:
            return
        facts = facts_of(self._state, deployment)
        yield from self._commands.advance(deployment, facts)
        yield from come_up(self._state, name)
        held = [each for each in self._state.services(name) if each.holds]
        need(Question(deployment, each.name, each.definition) for each in held)
        for service in held:
            if (holds := holds_of(facts, service.name)) != service.holds:
                yield from self._changed(deployment, service, holds)

    def _changed(
        self, deployment: Deployment, service: Service, holds: Mapping[str, str]
    ) -> Iterator[Put | EventDraft]:
        content = content_with(deployment, service.name, service.definition, find_code(self._state, service))
        if holds or content is None:
            yield put(replace(service, holds=holds))
            yield from told_held(service, holds, content, "")
            return
        cause = Cause(actor=service.created_by, now=self._clock(), reason="what it waited for is there")
        version, steps = new_version(service, None, content, cause)
        yield from steps
        yield from released_build(self._state, version.build, version.number)


def released_build(state: State, build: str | None, number: int) -> Iterator[Put]:
    """From here on the version keeps its slug, and the build no longer needs to."""
    found = state.build(build) if build else None
    if found is not None:
        yield put(replace(found, version=number))
