"""Code of repositories on this machine: sending what is committed, and telling whether that is news."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cli.commands.apps import push_url
from cli.commands.git import follow_delivery
from cli.context import Context
from cli.folder import DEFAULT_REMOTE, Folder
from cli.output import SEED_MARK
from controller.errors import InvalidInput
from controller.names import Address
from controller.types import Code, Version
from controller.upload import send_file

_COMMIT = re.compile(r"(?P<commit>[0-9a-f]{40,64})(?::(?P<folder>.*))?")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the code of a service is."""

    place: str
    """`FOLDER`, or `FOLDER:SUBFOLDER`, as people write it."""
    base: Path = Path()
    """What FOLDER is relative to."""


async def send_code(context: Context, address: Address, source: Source, *, is_answer: bool = True) -> None:
    """Deploy what is committed there. Raises InvalidInput, CommandFailed."""
    folder, subfolder = _repository(context, source)
    commit = folder.commit()
    inside = f":{subfolder}" if subfolder else ""

    with tempfile.TemporaryFile() as file:
        for piece in folder.archive(subfolder):
            file.write(piece)
        upload = await send_file(context.client, address, file)
    delivery = context.client.deploy_upload(
        address, upload, name=f"git archive of {commit[:10]}{inside}", origin=commit + inside
    )
    await follow_delivery(context, delivery, is_answer=is_answer)


async def add_remote(context: Context, address: Address, source: Source) -> None:
    """Let `git push deploy` work there; a remote of that name stays as it is."""
    folder, _ = _repository(context, source)
    if folder.remote_url(DEFAULT_REMOTE) is None:
        context.output.step(
            f"Adding remote {DEFAULT_REMOTE} to repository '{source.place.partition(':')[0]}'", SEED_MARK
        )
        folder.set_remote(DEFAULT_REMOTE, await push_url(context, address))


async def bring_code(context: Context, address: Address, source: Source) -> None:
    """What becomes of a service that is held for its code, where its repository is known: the code is sent."""
    try:
        _repository(context, source)[0].commit()
    except InvalidInput as error:
        context.output.note(
            f"{error} Then: moor -D {address.deployment} upload {address.service} --git {source.place}"
        )
        return
    await add_remote(context, address, source)
    context.output.step("Uploading", SEED_MARK)
    await send_code(context, address, source, is_answer=False)


@dataclass(frozen=True, kw_only=True)
class News:
    """What is committed and not deployed yet."""

    commit: str
    deployed: str | None
    """None: no commit, as where an image was deployed in its place."""
    is_first: bool = False
    """The service is there, and never got any code."""

    def __str__(self) -> str:
        before = "none" if self.is_first else self.deployed[:7] if self.deployed else "an image"
        return f"~ code: {before} -> {self.commit[:7]}"


async def find_news(context: Context, address: Address, source: Source) -> News | None:
    """None where what is committed there is deployed, on its way, or what a held service waits with; or where what is
    deployed is ahead of it, or can't be compared with it, which is told."""
    info = await context.client.service(address)
    service = info.service
    code: Code | Version | None = service.code
    if service.target is not None:
        code = await context.client.version(address, service.target)
    if code is None:
        return await _find_first(context, address, source) if info.held else None
    deployed = code.origin or f"{code.commit or ''}{f':{service.build_dir}' if service.build_dir else ''}"
    try:
        folder, subfolder = _repository(context, source)
        commit = folder.commit()
    except InvalidInput as error:
        context.output.note(f"{address}: its code stays as it is. {error}")
        return None
    match = _COMMIT.fullmatch(deployed)
    if match is None:
        return News(commit=commit, deployed=None)
    if folder.tree(match["commit"], match["folder"] or "") == folder.tree(commit, subfolder):
        return None
    if folder.is_ancestor(commit, match["commit"]):
        context.output.note(
            f"{address}: what is deployed ({match['commit'][:7]}) is ahead of what is committed in {source.place} "
            f"({commit[:7]}), and stays. `upload` deploys it all the same."
        )
        return None
    return News(commit=commit, deployed=match["commit"])


async def _find_first(context: Context, address: Address, source: Source) -> News | None:
    """What is committed for a service that has no code; None where some is on its way, or none is committed."""
    if any(each.status.under_way for each in await context.client.builds(address, limit=1)):
        context.output.note(f"{address}: its code is on its way: a build of it goes on.")
        return None
    try:
        return News(commit=_repository(context, source)[0].commit(), deployed=None, is_first=True)
    except InvalidInput as error:
        context.output.note(f"{address} has no code yet. {error}")
        return None


def _repository(context: Context, source: Source) -> tuple[Folder, str]:
    assert context.folder is not None
    path, _, subfolder = source.place.partition(":")
    whole = context.folder.path / source.base / Path(path).expanduser()
    if not whole.is_dir():
        raise InvalidInput("git", f"There is no folder {path}.")
    return Folder(whole, context.folder.environ), subfolder.strip("/")
