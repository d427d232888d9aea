"""What may be pushed to a service, as far as the commands of a push tell: decided before its pack is read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dulwich.objects import ZERO_SHA
from dulwich.refs import Ref, check_ref_format

from controller.names import Address

HEADS = b"refs/heads/"


@dataclass(frozen=True)
class Update:
    """One command of the client: move, make or delete a ref."""

    ref: bytes
    old: bytes
    new: bytes

    @property
    def deletes(self) -> bool:
        return self.new == ZERO_SHA

    @property
    def branch(self) -> str | None:
        """The branch's name; None for a tag or another ref."""
        return shown(self.ref.removeprefix(HEADS)) if self.ref.startswith(HEADS) else None


@dataclass(frozen=True)
class Rules:
    """What may be pushed to one service."""

    address: Address
    branches: Collection[str]
    """Its deploy branches."""

    def refusal(self, updates: Sequence[Update], *, missing_shallow: bool) -> tuple[str, str] | None:
        """Why nothing of this push is taken, for the report and in full; None when nothing is against it.

        Known from the commands alone, before the pack is read. `missing_shallow`: the client's history
        is cut off at commits that we don't have.
        """
        deploying = [each.branch for each in updates if each.branch in self.branches and not each.deletes]
        deleting = [each.branch for each in updates if each.branch in self.branches and each.deletes]
        if missing_shallow:
            return "shallow update not allowed", (
                "This is a push from a shallow clone, whose history is cut off: it can't be taken. Fetch the "
                "rest with `git fetch --unshallow` (in CI: a checkout with full history), then push again."
            )
        if len({each.ref for each in updates}) != len(updates):
            return "ref named twice", "The push names a ref twice."
        for each in updates:
            if not each.ref.startswith(b"refs/") or not check_ref_format(Ref(each.ref)):
                return "funny refname", f"{shown(each.ref)!r} is no ref that can be pushed."
        if len(deploying) > 1:
            return "several deploy branches", (
                f"{' and '.join(map(str, deploying))} all deploy {self.address}: which one should serve? "
                "Push one of them."
            )
        if deleting:
            return "deploy branch", (
                f"{deleting[0]} deploys {self.address} and is not deleted. Push another branch over it, or "
                f"set other deploy branches for {self.address} first."
            )
        return None


def shown(name: bytes) -> str:
    """A ref's name as text."""
    return name.decode(errors="replace")
