"""A clone or fetch: git's own upload-pack, or dulwich's where git is missing."""

from asyncio.subprocess import PIPE
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncssh
from dulwich.protocol import ReceivableProtocol
from dulwich.server import UploadPackHandler

from gitreceive.bridge import Bridge
from gitreceive.git import Git, end
from gitreceive.repos import BareRepository, OneRepository


async def serve_with_git(process: asyncssh.SSHServerProcess[bytes], repository: Path, git: Git) -> int:
    """Run `git upload-pack` on the channel; its exit status. Cancelled: it is killed."""
    child = await git.start(
        repository, "upload-pack", "--strict", str(repository), env=_protocol(process.env), stdin=PIPE
    )
    try:
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
        return await child.wait()
    finally:
        await end(child)


def serve_with_dulwich(repository: Path, bridge: Bridge) -> None:
    """The same by dulwich; blocks, for a thread."""
    with BareRepository(str(repository)) as content:
        wire = ReceivableProtocol(bridge.recv, bridge.write_and_wait)
        UploadPackHandler(OneRepository(content), [""], wire).handle()


def _protocol(env: Mapping[Any, Any]) -> Mapping[str, str]:
    wanted = env.get("GIT_PROTOCOL", "")
    return {"GIT_PROTOCOL": wanted} if wanted in ("version=1", "version=2") else {}
