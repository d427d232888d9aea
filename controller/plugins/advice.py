"""What plugins say of a service, as whoever decides on it may use it: without waiting, within a transaction.

Those of the product are asked on the spot. Others were asked before; where that is found to be missing, `Unasked` is
raised, and whoever opened the decision (`Advisor.transact`) asks them and decides again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from controller.plugins.builtin import ask
from controller.plugins.extensions import NO_OPINION, Opinion
from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.types import Definition, Deployment


@dataclass(frozen=True)
class Question:
    """What plugins would say of a service of this definition."""

    deployment: Deployment
    service: str
    definition: Definition


class Unasked(Exception):
    """Raised out of a decision; nothing is written."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self.questions = tuple(questions)
        super().__init__(f"{len(self.questions)} questions to plugins are open")


class Answers:
    """What was asked for one decision. An answer holds for the definition and the globals that it was given for."""

    def __init__(self) -> None:
        self._known = defaultdict[tuple[str, str], list[tuple[Question, Opinion]]](list)

    def add(self, question: Question, opinion: Opinion) -> None:
        self._known[question.deployment.name, question.service].append((question, opinion))

    def find(self, question: Question) -> Opinion | None:
        known = self._known.get((question.deployment.name, question.service), ())
        return next((said for asked, said in known if _is_same(asked, question)), None)


def _is_same(one: Question, other: Question) -> bool:
    return (one.definition, one.deployment.globals) == (other.definition, other.deployment.globals)


_answers: ContextVar[Answers | None] = ContextVar("answers", default=None)
"""None: nobody but the product's own plugins is asked."""


@contextmanager
def using(answers: Answers | None) -> Iterator[None]:
    """Decisions within the block use these."""
    token = _answers.set(answers)
    try:
        yield
    finally:
        _answers.reset(token)


def need(questions: Iterable[Question]) -> None:
    """Raise Unasked with all of these that have no answer yet: to ask about many services at once."""
    answers = _answers.get()
    if answers is not None and (open_ := [each for each in questions if answers.find(each) is None]):
        raise Unasked(open_)


def opinion(question: Question) -> Opinion:
    """What others than the product's own plugins said."""
    answers = _answers.get()
    if answers is None:
        return NO_OPINION
    found = answers.find(question)
    if found is None:
        raise Unasked([question])
    return found


def vars_for(question: Question) -> Mapping[str, str]:
    """What `{NAME}` stands for; the first plugin that knows a name has it."""
    facts = DeploymentFacts(deployment=question.deployment)
    service = ServiceFacts(name=question.service, definition=question.definition)
    own = [answer for _, answer in ask("provide_vars", deployment=facts, service=service)]
    found = dict[str, str]()
    for each in (*own, opinion(question).vars):
        found = {**each, **found}
    return found


def holds_of(facts: DeploymentFacts, name: str) -> Mapping[str, str]:
    """Name of a plugin to why it keeps that service from having its first version."""
    service = facts.services[name]
    own = dict(ask("setup", deployment=facts, service=service))
    return {**own, **opinion(Question(facts.deployment, name, service.definition)).holds}


_code_words: dict[tuple[str, str], str] = {}
"""What others than the product's own plugins said last of how a service gets its code."""


def note_code_text(question: Question, text: str | None) -> None:
    """Remember it for those who look at the service."""
    _code_words.pop((question.deployment.name, question.service), None)
    if text is not None:
        _code_words[question.deployment.name, question.service] = text


def code_text(deployment: str, service: str, definition: Definition) -> str:
    """How a service without code gets some."""
    if (known := _code_words.get((deployment, service))) is not None:
        return known
    facts = ServiceFacts(name=service, definition=definition)
    told = DeploymentFacts(deployment=Deployment(name=deployment))
    return next((text for _, text in ask("needs_app_code", deployment=told, service=facts)), "no code yet")
