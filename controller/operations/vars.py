"""Values that a deployment has for the variables of its service file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from controller.errors import InvalidInput
from controller.operations.access import Actor
from controller.operations.lookup import get_deployment
from controller.operations.text import is_passable, one_line
from controller.operations.versioning import MAX_REASON
from controller.servicefile.values import MAX_VALUES, check_variable
from controller.state import EventDraft, Put, State, put
from controller.types import Right


class VarOperations:
    def __init__(self, state: State, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock

    def get(self, asker: Actor, deployment: str) -> Mapping[str, str]:
        return get_deployment(self._state, asker, deployment, Right.DEPLOY).vars

    async def change(
        self, asker: Actor, deployment: str, *, values: Mapping[str, str], drop: Sequence[str] = ()
    ) -> Mapping[str, str]:
        """All that there are then. Nothing that runs changes: the next service file is read with them."""
        parts = [f"vars:set {' '.join(sorted(values))}"] if values else []
        parts += [f"vars:unset {' '.join(sorted(drop))}"] if drop else []
        if not parts:
            raise InvalidInput("vars", "Name at least one variable to set or to remove.")
        for name, value in values.items():
            check_variable(name, value)
            if not is_passable(value):
                raise InvalidInput("vars", f"The value of {name} is no valid text.")
        found = dict[str, str]()

        def decide() -> Iterator[Put | EventDraft]:
            before = get_deployment(self._state, asker, deployment, Right.OPERATE)
            kept = {name: value for name, value in before.vars.items() if name not in drop}
            found.clear()
            found.update({**kept, **values})
            if len(found) > MAX_VALUES:
                raise InvalidInput("vars", f"A deployment can have {MAX_VALUES} variables.")
            if found != before.vars:
                yield put(replace(before, vars=dict(found)))
                text = one_line(", ".join(parts), MAX_REASON)
                yield EventDraft(kind="deployment.vars", deployment=deployment, actor=asker.name, text=text)

        await self._state.transact(decide)
        return found
