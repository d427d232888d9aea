"""Where source lands that came by another door than a push: the service's repository, in a push's quarantine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dulwich.objects import ZERO_SHA
from dulwich.refs import Ref

from builder.base import BuilderUnavailable
from controller.client import Client
from controller.names import Address
from controller.types import Right, Service
from gitreceive.delivery import Delivery
from gitreceive.git import Git
from gitreceive.push import Push, PushRefused
from gitreceive.quarantine import Quarantine, quarantine
from gitreceive.refs import MovingRef
from gitreceive.repos import BareRepository
from gitreceive.rules import HEADS, Update
from gitreceive.session import Context, admit


class Moved(PushRefused):
    """Somebody else moved the branch while this waited for its turn."""

    def __init__(self, branch: str) -> None:
        super().__init__("moved meanwhile", f"{branch} was moved by somebody else meanwhile: try again.")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One service's repository with a place for what comes."""

    context: Context
    git: Git
    user: str
    address: Address
    client: Client
    service: Service
    repository: BareRepository
    place: Quarantine
    delivery: Delivery

    async def branch(self) -> str:
        """The deploy branch that things land on: the first that there is, else the first."""
        refs = await asyncio.to_thread(self.repository.get_refs)
        there = [each for each in self.service.branches if Ref(HEADS + each.encode()) in refs]
        return (there or list(self.service.branches))[0]

    async def head(self, branch: str) -> str | None:
        """Its commit."""
        found = await asyncio.to_thread(self.repository.refs.read_ref, Ref(HEADS + branch.encode()))
        return found.decode() if found else None

    def push(
        self,
        kind: str,
        commit: str,
        branch: str,
        *,
        upon: str | None,
        overwrites: bool = False,
        origin: str = "",
    ) -> Push:
        """What is deployed, as a push of this commit to that branch.

        `upon`: where the branch was when the commit was made; `overwrites`: wherever it is now is fine.
        """
        update = Update(HEADS + branch.encode(), upon.encode() if upon else ZERO_SHA, commit.encode())
        return Push(
            address=self.address,
            user=self.user,
            branch=_Branch(self.repository, update, self.place, overwrites=overwrites),
            commit=commit,
            quarantine=self.place,
            client=self.client,
            out=self.delivery,
            finish=self.delivery.finish,
            kind=kind,
            origin=origin,
        )

    async def keep(self, ref: str, commit: str) -> None:
        """Keep the commit under that name. Raises PushRefused."""
        before = await asyncio.to_thread(self.repository.refs.read_ref, Ref(ref.encode()))
        update = Update(ref.encode(), before or ZERO_SHA, commit.encode())
        await MovingRef(self.repository, update, self.place).move(commit)


class _Branch(MovingRef):
    """A deploy branch that nobody has a copy of who could fetch and merge first."""

    def __init__(
        self, repository: BareRepository, update: Update, place: Quarantine, *, overwrites: bool
    ) -> None:
        super().__init__(repository, update, place, deploys=True)
        self._overwrites = overwrites

    async def check(self) -> str | None:
        now = await asyncio.to_thread(self._read)
        if now not in (self._update.old, self._update.new) and not self._overwrites:
            raise Moved(self.name)
        self._before = now
        return None if now == ZERO_SHA else now.decode()


@asynccontextmanager
async def ground(context: Context, user: str, address: Address, delivery: Delivery) -> AsyncIterator[Ground]:
    """Raises NotFound or Forbidden unless the user may deploy, BuilderUnavailable where there is no git."""
    if context.git is None:
        raise BuilderUnavailable("this needs git on the server: install the Debian package git.")
    client = context.connect(user)
    try:
        service = await admit(client, address, Right.DEPLOY)
        async with (
            context.push_places.take(user, lambda why: delivery.step(f"Waiting: {why}")),
            context.repositories.use(address) as path,
        ):
            with BareRepository(str(path)) as repository:
                async with quarantine(path, context.git) as place:
                    yield Ground(
                        context=context,
                        git=context.git,
                        user=user,
                        address=address,
                        client=client,
                        service=service,
                        repository=repository,
                        place=place,
                        delivery=delivery,
                    )
            context.repositories.maintain(path)
    finally:
        await client.close()


def object_folder(place: Quarantine) -> Path:
    """Where the quarantine's objects are."""
    return Path(place.environment["GIT_OBJECT_DIRECTORY"])
