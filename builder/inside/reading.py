"""Reads what comes into a build container: the order, then the source, which tar unpacks from the same stream."""

import base64
import os
import subprocess
import tarfile
from pathlib import Path

from builder.base import BuilderUnavailable
from builder.inside.order import MEMBER, Order
from builder.workspace import Workspace

_BLOCK = tarfile.BLOCKSIZE


def read_order(stream: int, folders: Workspace, unpacked: Path) -> Order | None:
    """None where there is none. The folders of the build are made and filled then."""
    head = _exactly(stream, _BLOCK)
    try:
        member = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    if member.name != MEMBER:
        return None
    padded = -(-member.size // _BLOCK) * _BLOCK
    order = Order.parse(_exactly(stream, padded)[: member.size])
    for folder in (folders.build, folders.env, folders.home, folders.temporary, folders.packs):
        folder.mkdir(mode=0o700)
    for name, value in order.env.items():
        (folders.env / name).write_text(value)
    for path, data in order.folders.items():
        place = unpacked / path.lstrip("/")
        place.mkdir(parents=True)
        _unpack(place, base64.b64decode(data))
    _unpack(folders.build, stream)
    return order


def _unpack(place: Path, source: int | bytes) -> None:
    # The server has looked at every name in it; what is left is to write it.
    command = ["tar", "-x", "-f", "-", "--no-same-owner", "-C", str(place)]
    if isinstance(source, bytes):
        done = subprocess.run(command, input=source, stderr=subprocess.PIPE, check=False)
    else:
        done = subprocess.run(command, stdin=source, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")[-300:]
        raise BuilderUnavailable(f"The source could not be unpacked: {said}")


def _exactly(stream: int, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := os.read(stream, size - len(found))):
        found += piece
    return found
