"""Users and their rights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from controller.errors import Conflict, Forbidden, NotFound, Refused
from controller.names import check_title
from controller.operations.access import Actor
from controller.operations.lookup import get_deployment
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Right, User


class UserOperations:
    def __init__(self, state: State, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock

    def list(self, asker: Actor) -> Sequence[User]:
        """All for an admin; for others themselves, and who has rights on what they manage (those rights only)."""
        if asker.user.admin:
            return self._state.users()
        return [shown for each in self._state.users() if (shown := self._shown(asker, each))]

    async def create(self, asker: Actor, name: str, *, admin: bool = False) -> User:
        """Without any right. Raises InvalidInput, Forbidden, Conflict."""
        asker.require_admin("make users")
        check_title(name, "user name")
        made = User(name=name, admin=admin, created_at=self._clock())

        def decide() -> Iterator[Put | EventDraft]:
            if self._state.user(name) is not None:
                raise Conflict(f"There is a user {name} already.")
            yield put(made)
            yield user_created(made, asker.name)

        await self._state.transact(decide)
        return made

    async def remove(self, asker: Actor, name: str) -> None:
        """With their keys and tokens. Raises Refused for the last admin."""

        def decide() -> Iterator[Delete | EventDraft]:
            asker.require_admin("remove users")
            user = self._get(name)
            if user.admin and sum(each.admin for each in self._state.users()) == 1:
                raise Refused(f"{name} is the last admin: make another user an admin first.")
            yield from map(delete, self._state.keys(name))
            yield from map(delete, self._state.tokens(name))
            yield delete(user)
            yield EventDraft(kind="user.removed", actor=asker.name, text=f"user {name} was removed")

        await self._state.transact(decide)

    async def grant(self, asker: Actor, name: str, deployment: str, right: Right | None) -> User:
        """That right in place of the one they had; None takes it away. For admins and who manages the deployment."""

        def decide() -> Iterable[Put | EventDraft]:
            get_deployment(self._state, asker, deployment, Right.MANAGE)
            user = self._get(name)
            if user.rights.get(deployment) == right:
                return ()
            rights = {key: held for key, held in user.rights.items() if key != deployment}
            if right is not None:
                rights[deployment] = right
            told = (
                f"{name} may {right} {deployment}"
                if right
                else f"{name} has no rights on {deployment} any more"
            )
            event = EventDraft(kind="user.rights", deployment=deployment, actor=asker.name, text=told)
            return put(replace(user, rights=rights)), event

        await self._state.transact(decide)
        shown = self._shown(asker, self._get(name))
        if shown is None:  # its last right on what the asker manages is gone
            return User(name=name)
        return shown

    def _get(self, name: str) -> User:
        user = self._state.user(name)
        if user is None:
            raise NotFound(f"There is no user {name[:80]!a}.")
        return user

    def _shown(self, asker: Actor, user: User) -> User | None:
        if asker.user.admin or asker.name == user.name:
            return user
        rights = {name: right for name, right in user.rights.items() if asker.may(name, Right.MANAGE)}
        return replace(user, rights=rights) if rights else None


def user_created(user: User, actor: str) -> EventDraft:
    role = "admin" if user.admin else "user"
    return EventDraft(kind="user.created", actor=actor, text=f"{role} {user.name} was made")


def get_subject(asker: Actor, name: str | None, what: str) -> str:
    """Whose keys or tokens it is about: the asker's own, or anybody's for an admin."""
    asker.require_all_rights(what)
    if name is None or name == asker.name:
        return asker.name
    if not asker.user.admin:
        raise Forbidden(f"Only an admin may {what} for somebody else.")
    return name
