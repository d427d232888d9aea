"""An archive becomes a commit on the deploy branch, and is deployed as a push of it would be."""

from dataclasses import dataclass
from pathlib import Path

from builder.archive import unpack_archive
from builder.threads import run_blocking
from controller.deliveries import DeliveryStep, Mark
from controller.names import Address
from gitreceive.commits import Made, author_of, make_commit, tree_of
from gitreceive.delivery import Delivery
from gitreceive.ground import Ground, Moved, ground
from gitreceive.origins import with_origin
from gitreceive.push import deploy
from gitreceive.session import Context

ATTEMPTS = 5
"""Times that the commit is made, when others move the branch meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One that has arrived."""

    file: Path
    """In a folder of its own, which what is unpacked goes to too."""
    origin: str
    """Where it came from, in words: part of the commit's message."""
    commit: str = ""
    """The sender's own commit that it was made of, as in `Version.origin`."""


async def land_archive(
    context: Context, user: str, address: Address, archive: Archive, delivery: Delivery
) -> DeliveryStep:
    """Unpack, commit, deploy. Raises what `deploy` raises, and BuildFailed for an archive that is refused."""
    async with ground(context, user, address, delivery) as here:
        delivery.step(f"Unpacking {archive.origin}")
        folder = archive.file.with_name("tree")
        root = await run_blocking(lambda check: unpack_archive(archive.file, folder, check))
        commit = await _land(here, root, archive)
    return DeliveryStep(mark=Mark.DONE, text="", commit=commit, deployed=True)


async def _land(here: Ground, root: Path, archive: Archive) -> str:
    """The commit that was deployed."""
    tree: Path | str = root
    branch = await here.branch()
    for attempt in range(ATTEMPTS):
        head = await here.head(branch)
        made = Made(
            tree=tree,
            parent=head,
            author=author_of(here.user, here.context.settings.domain),
            message=with_origin(f"Source from {archive.origin}", archive.commit),
        )
        commit = await make_commit(here.git, here.place, made)
        tree = await tree_of(here.git, here.place, commit)
        if head is not None and await tree_of(here.git, here.place, head) == tree:
            commit = head
        try:
            push = here.push("archive", commit, branch, upon=head, origin=archive.commit)
            await deploy(push, here.context.workshop)
        except Moved:
            if attempt + 1 == ATTEMPTS:
                raise
            here.delivery.step(f"{branch} was moved meanwhile: once more, on top of that")
            continue
        return commit
    raise AssertionError
