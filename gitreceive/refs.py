"""A ref on its way to another commit, while others may be pushing to it too."""

import asyncio

from dulwich.objects import ZERO_SHA, ObjectID
from dulwich.refs import Ref

from gitreceive.origins import origin_of
from gitreceive.push import PushRefused
from gitreceive.quarantine import Quarantine
from gitreceive.repos import BareRepository
from gitreceive.rules import HEADS, Update, shown


class MovingRef:
    """A ref that a push wants to move."""

    def __init__(
        self, repository: BareRepository, update: Update, place: Quarantine, *, deploys: bool = False
    ) -> None:
        self.name = shown(update.ref.removeprefix(HEADS).removeprefix(b"refs/"))
        self._repository = repository
        self._update = update
        self._place = place
        self._deploys = deploys
        self._before = update.old

    async def check(self) -> str | None:
        """See `gitreceive.push.Branch`.

        The ref may have moved since the client saw it: by a push that we waited for. That is fine
        when the new commit builds upon it.
        """
        now = await asyncio.to_thread(self._read)
        if now not in (self._update.old, self._update.new) and now != ZERO_SHA:
            if await self._builds_upon_origin(now):
                self._before = now
                return self._update.new.decode()
        elif now == ZERO_SHA != self._update.old:
            raise PushRefused("fetch first", f"{self.name} was deleted by somebody else meanwhile.")
        self._before = now
        return None if now == ZERO_SHA else now.decode()

    async def _builds_upon_origin(self, now: bytes) -> bool:
        """Whether it goes on from the sender's commit of which what is there was made; False: from that itself. Raises
        PushRefused for neither."""
        new = self._update.new.decode()
        if await self._place.contains(now.decode(), new):
            return False
        origin = await asyncio.to_thread(origin_of, self._repository, now)
        if origin is None:
            raise PushRefused(
                "fetch first",
                f"{self.name} is at {now[:7].decode()} now: somebody else pushed meanwhile. "
                "Fetch, merge or rebase, then push again.",
            )
        if origin != new and not await self._place.contains(origin, new):
            raise PushRefused(
                "fetch first",
                f"{self.name} was uploaded from the commit {origin[:7]}, which this one does not build upon. Get that "
                "from who has it and merge or rebase, then push again; or deploy yours in its place: `moor upload`.",
            )
        return True

    async def check_unmoved(self) -> None:
        """Raises PushRefused when it is not where the client saw it."""
        if await asyncio.to_thread(self._read) != self._update.old:
            raise PushRefused("fetch first", f"{self.name} was moved by somebody else meanwhile.")

    async def move(self, commit: str) -> None:
        """See `gitreceive.push.Branch`."""
        await asyncio.to_thread(self._keep, ObjectID(commit.encode()))

    async def delete(self) -> None:
        """Raises PushRefused when it moved meanwhile."""
        done = await asyncio.to_thread(
            self._repository.refs.remove_if_equals, Ref(self._update.ref), ObjectID(self._before)
        )
        if not done:
            raise PushRefused("moved meanwhile", f"{self.name} was moved by somebody else meanwhile.")

    def _read(self) -> bytes:
        return self._repository.refs.read_ref(Ref(self._update.ref)) or ZERO_SHA

    def _keep(self, commit: ObjectID) -> None:
        self._place.keep()
        refs, name = self._repository.refs, Ref(self._update.ref)
        try:
            moved = refs.set_if_equals(name, ObjectID(self._before), commit)
        except OSError as error:
            raise PushRefused(
                "failed to write", f"{self.name} can't be written: {error.strerror or error}."
            ) from error
        if not moved:
            raise PushRefused("fetch first", f"{self.name} was moved by somebody else meanwhile.")
        # So that a clone checks out what is deployed, or else the first branch that there is.
        followed, there = refs.follow(Ref(b"HEAD"))
        if name.startswith(HEADS) and followed[-1] != name and (self._deploys or there is None):
            refs.set_symbolic_ref(Ref(b"HEAD"), name)
