"""Deciding with plugins: they are asked outside of the transaction, and it is decided again with what they say."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from controller.errors import Unavailable
from controller.operations.facts import defined, facts_of
from controller.plugins.advice import Answers, Question, Unasked, note_code_text, using
from controller.plugins.hooks import OPINIONS
from controller.plugins.manager import Plugins
from controller.state import Delete, EventDraft, Put, State
from controller.types import Event

T = TypeVar("T")

LONGEST = 120.0
"""Seconds in which a decision must have come about, however often something changes meanwhile."""


class Advisor:
    def __init__(self, state: State, plugins: Plugins) -> None:
        self._state = state
        self.plugins = plugins

    async def transact(self, decide: Callable[[], Iterable[Put | Delete | EventDraft]]) -> Sequence[Event]:
        """`State.transact` for what plugins have a say in. Raises Unavailable where it does not come to an end."""
        if not self.plugins.has(*OPINIONS):
            return await self._state.transact(decide)
        answers, end = Answers(), _end()
        while True:
            try:
                with using(answers):
                    return await self._state.transact(decide)
            except Unasked as open_:
                await self._ask(open_.questions, answers, end)

    async def read(self, look: Callable[[], T]) -> T:
        """The same for what only looks."""
        if not self.plugins.has(*OPINIONS):
            return look()
        answers, end = Answers(), _end()
        while True:
            try:
                with using(answers):
                    return look()
            except Unasked as open_:
                await self._ask(open_.questions, answers, end)

    async def _ask(self, questions: Sequence[Question], answers: Answers, end: float) -> None:
        if asyncio.get_running_loop().time() > end:
            raise Unavailable(
                "What plugins have to say changes as fast as they are asked: try again, or see `plugins`."
            )
        by_deployment = defaultdict[int, list[Question]](list)
        for each in questions:  # the same deployment may be asked about as it was and as it is to be
            by_deployment[id(each.deployment)].append(each)
        for group in by_deployment.values():
            facts = facts_of(self._state, group[0].deployment)
            facts = defined(facts, {each.service: each.definition for each in group})
            said = await self.plugins.opinions(facts, [each.service for each in group])
            for each in group:
                answers.add(each, said[each.service])
                note_code_text(each, said[each.service].code)


def _end() -> float:
    return asyncio.get_running_loop().time() + LONGEST
