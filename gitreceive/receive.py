"""One push over git's protocol: dulwich speaks it, this decides what becomes of each ref.

dulwich reads the commands and writes the advertisement and the report. What its handler would do
between the two (take the pack, ask the update hook, move the refs) is done here, because the pack
must go to a quarantine, and because a ref that somebody else moved meanwhile must be reported.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dulwich.errors import GitProtocolError
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, valid_hexsha
from dulwich.protocol import CAPABILITY_ATOMIC, CAPABILITY_SIDE_BAND_64K, Protocol
from dulwich.refs import Ref
from dulwich.server import ReceivePackHandler

from controller.client import Client
from controller.config import Settings
from controller.errors import MooringError
from controller.names import Address
from gitreceive.bridge import Bridge
from gitreceive.git import Git
from gitreceive.progress import Progress
from gitreceive.push import Push, PushRefused, Workshop, deploy, refuse_full_disk
from gitreceive.quarantine import PackRefused, Quarantine, quarantine
from gitreceive.refs import MovingRef
from gitreceive.repos import BareRepository, OneRepository
from gitreceive.rules import Rules, Update

log = logging.getLogger(__name__)

MAX_UPDATES = 20_000
MAX_COMMANDS = 8 * 1024**2
"""Refs that one push may name, and bytes that it may use for it."""
DRAIN_TIME = 10.0
DRAIN_SILENCE = 2.0
"""Seconds that we go on reading, in all and without a byte, from a client that we refused in the middle
of its pack: one that can write to the end shows our answer without an error of its own."""


class Wire(Protocol):
    """git's packet lines over a bridge; the `shallow` lines among the commands are kept aside."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge.read, self._collect)
        self.recv = bridge.recv
        self.shallow: list[bytes] = []
        self._send = bridge.write
        self._waiting = bytearray()
        self._lines = 0
        self._size = 0

    def flush(self) -> None:
        """Send what was written: in one piece, not a packet for each line."""
        self._send(bytes(self._waiting))
        self._waiting.clear()

    def _collect(self, data: bytes) -> None:
        self._waiting += data

    def read_pkt_line(self) -> bytes | None:
        if self._waiting:
            self.flush()
        line = super().read_pkt_line()
        while line is not None and line.startswith(b"shallow "):
            commit = line.removeprefix(b"shallow ").strip()
            if not valid_hexsha(commit):
                raise GitProtocolError("a shallow line without a commit id")
            self.shallow.append(commit)
            self._count(line)
            line = super().read_pkt_line()
        self._count(line or b"")
        return line

    def _count(self, line: bytes) -> None:
        self._lines += 1
        self._size += len(line)
        if self._lines > MAX_UPDATES or self._size > MAX_COMMANDS:
            raise GitProtocolError(f"more than {MAX_UPDATES} refs in one push, or names too long")


class ReceiveHandler(ReceivePackHandler):
    """dulwich's handler, with our own middle part. `handle` blocks: it runs in a thread."""

    def __init__(self, repository: BareRepository, bridge: Bridge, reception: "Reception") -> None:
        self._wire = Wire(bridge)
        super().__init__(OneRepository(repository), [""], self._wire)
        self._bridge = bridge
        self._reception = reception

    def handle(self) -> None:
        super().handle()
        self._wire.flush()

    def _apply_pack(self, refs: list[tuple[ObjectID, ObjectID, Ref]]) -> Iterator[tuple[bytes, bytes]]:
        updates = [Update(ref, old, new) for old, new, ref in refs]
        if self.has_capability(CAPABILITY_SIDE_BAND_64K):
            self._reception.out.use_side_band()
        atomic = self.has_capability(CAPABILITY_ATOMIC)
        yield from self._bridge.call(
            lambda: self._reception.take(updates, shallow=self._wire.shallow, atomic=atomic)
        )


Report = list[tuple[bytes, bytes]]
"""What git reports: `unpack` first, then each ref, with `ok` or the reason."""


@dataclass
class Reception:
    """What is done with one push, from its commands to its report."""

    repository: BareRepository
    path: Path
    git: Git | None
    bridge: Bridge
    rules: Rules
    user: str
    client: Client
    settings: Settings
    workshop: Workshop
    out: Progress
    unread: bool = False
    """The client may still be sending a pack that nobody reads."""

    async def take(self, updates: Sequence[Update], *, shallow: Sequence[bytes], atomic: bool) -> Report:
        """Decide about every ref. Never raises but for a client that has gone."""
        try:
            if refusal := self.rules.refusal(updates, missing_shallow=self._misses(shallow)):
                return self._refuse_all(updates, *refusal)
            await refuse_full_disk(self.settings, self.client)
            async with quarantine(self.path, self.git) as place:
                if any(not each.deletes for each in updates):
                    self.unread = True
                    await place.take_pack(self.bridge, self.settings.push_limit)
                    self.unread = False
                    await self._check_objects(updates, place)
                if atomic:
                    await self._check_unmoved(updates, place)
                return await self._decide(updates, place, atomic=atomic)
        except PackRefused as error:
            self.out.warn(str(error))
            return [(b"unpack", _one_line(str(error))), *((each.ref, b"unpacker error") for each in updates)]
        except PushRefused as error:
            return self._refuse_all(updates, error.short, str(error))
        except Exception as error:
            return self._refuse_all(updates, *_own_fault(error, self.rules.address))

    async def drain(self) -> None:
        """Read on for a moment after a refusal in the middle of a pack."""
        if not self.unread:
            return
        try:
            async with asyncio.timeout(DRAIN_TIME):
                while True:
                    async with asyncio.timeout(DRAIN_SILENCE):
                        if not await self.bridge.some():
                            return
        except TimeoutError:
            return

    def _misses(self, shallow: Sequence[bytes]) -> bool:
        if not shallow:
            return False
        with closing(DiskObjectStore(self.path / "objects")) as store:
            return any(ObjectID(each) not in store for each in shallow)

    async def _check_objects(self, updates: Sequence[Update], place: Quarantine) -> None:
        tips = [each.new for each in updates if not each.deletes]
        await place.check_connected(tips)
        kinds = dict(zip(tips, await place.kinds(tips), strict=True))
        for each in updates:
            if each.branch is not None and kinds.get(each.new, "commit") != "commit":
                raise PackRefused(
                    f"{each.branch} would be a {kinds[each.new]}; a branch must point to a commit."
                )

    async def _check_unmoved(self, updates: Sequence[Update], place: Quarantine) -> None:
        # A deploy branch is looked at when its turn has come.
        for each in updates:
            if each.branch not in self.rules.branches:
                await MovingRef(self.repository, each, place).check_unmoved()

    async def _decide(self, updates: Sequence[Update], place: Quarantine, *, atomic: bool) -> Report:
        deploying = [each for each in updates if each.branch in self.rules.branches]
        others = [each for each in updates if each not in deploying]
        results: dict[bytes, bytes] = {}
        # With --atomic the other refs move once the deploy has succeeded.
        for each in [*deploying, *others] if atomic else [*others, *deploying]:
            if any(result != b"ok" for result in results.values()) and atomic:
                results[each.ref] = b"atomic push failed"
                continue
            results[each.ref] = await self._take_ref(each, place, deploys=each in deploying)
        return [(b"unpack", b"ok"), *((each.ref, results[each.ref]) for each in updates)]

    async def _take_ref(self, update: Update, place: Quarantine, *, deploys: bool) -> bytes:
        branch = MovingRef(self.repository, update, place, deploys=deploys)
        try:
            if deploys:
                await deploy(self._push(update, branch, place), self.workshop)
            elif update.deletes:
                await branch.delete()
                self.out.line(f"{branch.name} is deleted")
            else:
                await branch.move(update.new.decode())
                self.out.line(f"{branch.name} is stored and not deployed: {self._what_deploys()}")
        except PushRefused as error:
            self._show(error)
            return _one_line(error.short)
        except (MooringError, OSError) as error:
            short, text = _own_fault(error, self.rules.address)
            self.out.warn(text)
            return _one_line(short)
        return b"ok"

    def _push(self, update: Update, branch: "MovingRef", place: Quarantine) -> Push:
        return Push(
            address=self.rules.address,
            user=self.user,
            branch=branch,
            commit=update.new.decode(),
            quarantine=place,
            client=self.client,
            out=self.out,
            finish=self.bridge.finish,
        )

    def _what_deploys(self) -> str:
        branches = " and ".join(self.rules.branches) or "no branch"
        return f"{branches} deploy{'s' if len(self.rules.branches) == 1 else ''} {self.rules.address}"

    def _refuse_all(self, updates: Iterable[Update], short: str, text: str) -> Report:
        updates = list(updates)
        self.unread = self.unread or any(not each.deletes for each in updates)
        self.out.warn(text)
        return [(b"unpack", b"ok"), *((each.ref, _one_line(short)) for each in updates)]

    def _show(self, error: PushRefused) -> None:
        self.out.warn(str(error))
        for line in error.log_lines:
            self.out.line(line)


def _own_fault(error: Exception, address: Address) -> tuple[str, str]:
    if isinstance(error, MooringError):
        return error.code, str(error)
    log.error("push failed address=%s", address, exc_info=error)
    return "internal error", "The server failed, through no fault of yours; its log has the cause. Try again."


def _one_line(text: str) -> bytes:
    return " ".join(text.split()).encode()
