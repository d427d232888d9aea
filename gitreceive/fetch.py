"""A clone or fetch: git's own upload-pack, or dulwich's where git is missing."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dulwich.protocol import ReceivableProtocol
from dulwich.server import UploadPackHandler

from gitreceive.bridge import CHUNK, Bridge
from gitreceive.command import ByteReader, ByteWriter
from gitreceive.git import Git, end
from gitreceive.repos import BareRepository, OneRepository

SILENCE = 120
"""Seconds that a client may neither send nor take anything; then its place goes to the next."""


async def serve_with_git(
    repository: Path, git: Git, *, protocol: str, stdin: ByteReader, stdout: ByteWriter, stderr: ByteWriter
) -> int:
    """Run `git upload-pack` on the channel; its exit status. Cancelled: it is killed.

    `protocol` is the client's GIT_PROTOCOL.
    """
    child = await git.start(
        repository,
        *("upload-pack", "--strict", f"--timeout={SILENCE}", str(repository)),
        env=_protocol(protocol),
        stdin=PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    asking = asyncio.create_task(_copy(stdin, child.stdin))
    try:
        await asyncio.gather(_copy(child.stdout, stdout), _copy(child.stderr, stderr))
        return await child.wait()
    finally:
        asking.cancel()
        await end(child)
        await asyncio.wait({asking})


async def _copy(source: ByteReader, target: ByteWriter) -> None:
    # Not asyncssh's `redirect`: it loses data on some pipes, and leaves tasks of its own behind.
    with suppress(OSError):  # git has ended, or its reader has
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            async with asyncio.timeout(SILENCE):  # its end is an OSError too
                await target.drain()
    if isinstance(target, asyncio.StreamWriter):
        target.close()


def serve_with_dulwich(repository: Path, bridge: Bridge) -> None:
    """The same by dulwich; blocks, for a thread."""
    with BareRepository(str(repository)) as content:
        wire = ReceivableProtocol(bridge.recv, bridge.write_and_wait)
        UploadPackHandler(OneRepository(content), [""], wire).handle()


def _protocol(wanted: str) -> Mapping[str, str]:
    return {"GIT_PROTOCOL": wanted} if wanted in ("version=1", "version=2") else {}
