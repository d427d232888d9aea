"""Source from a repository elsewhere: fetched into the service's own, and deployed where that is wished."""

from dataclasses import dataclass

from controller.deliveries import DeliveryStep, Mark, SyncBuild
from controller.names import Address
from gitreceive.delivery import Delivery
from gitreceive.fetcher import Fetcher, Found, is_commit
from gitreceive.ground import Ground, ground, object_folder
from gitreceive.push import deploy
from gitreceive.quarantine import PackRefused
from gitreceive.remote import Remote
from gitreceive.session import Context

FETCHED = "refs/remotes/origin/"
"""Where that is kept which is not deployed."""


@dataclass(frozen=True, kw_only=True)
class Sync:
    """What is wished."""

    remote: Remote
    ref: str
    """A branch, a tag or a commit; "": the remote's own branch."""
    build: SyncBuild


async def land_sync(
    context: Context, user: str, address: Address, sync: Sync, delivery: Delivery
) -> DeliveryStep:
    """Fetch, and deploy. Raises Refused when it can't be fetched, and what `deploy` raises."""
    async with ground(context, user, address, delivery) as here:
        fetcher = Fetcher(context.settings, here.git)
        found = await fetcher.find(sync.remote, sync.ref, here.place.repository)
        await _fetch(here, fetcher, sync.remote, found)
        deployed = await _use(here, found, sync.build)
    return DeliveryStep(mark=Mark.DONE, text="", commit=found.commit, deployed=deployed)


async def _fetch(here: Ground, fetcher: Fetcher, remote: Remote, found: Found) -> None:
    if await _is_here(here, found.commit):
        here.delivery.step(f"{found.name} of {remote} is {found.commit[:7]}, which is here already")
        return
    what = "" if is_commit(found.name) else f"{found.name} ({found.commit[:7]})"
    here.delivery.step(f"Fetching {what or found.commit[:7]} of {remote}")
    await fetcher.fetch(
        remote,
        [found.ref],
        here.place.repository,
        into=object_folder(here.place),
        env=here.place.environment,
        say=here.delivery.line,
    )
    if not await _is_here(here, found.commit):
        raise PackRefused(f"{found.name} of {remote} moved while it was fetched: try again.")


async def _is_here(here: Ground, commit: str) -> bool:
    """With all that it refers to."""
    try:
        (kind,) = await here.place.kinds([commit.encode()])
        await here.place.check_connected([commit.encode()])
    except PackRefused:
        return False
    if kind != "commit":
        raise PackRefused(f"{commit[:7]} is a {kind}; only a commit can be deployed.")
    return True


async def _use(here: Ground, found: Found, build: SyncBuild) -> bool:
    """Deploy it, or keep it; whether it was deployed."""
    branch = await here.branch()
    head = await here.head(branch)
    if build is SyncBuild.IF_CHANGES and head == found.commit:
        here.delivery.step(f"No changes: {found.commit[:7]} was deployed already")
        return False
    if build is SyncBuild.NO:
        await here.keep(FETCHED + ("HEAD" if is_commit(found.name) else found.name), found.commit)
        here.delivery.step(f"{found.commit[:7]} is here and not deployed: --build deploys it")
        return False
    push = here.push("sync", found.commit, branch, upon=head, overwrites=True)
    await deploy(push, here.context.workshop)
    return True
