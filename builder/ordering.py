"""What a build container is sent: the order, and the source as a tar."""

import base64
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.base import BuildFailed
from builder.chain import allowed_folder
from builder.inside.order import MEMBER, Order
from builder.pack import blocks_of, canonical_tar
from builder.packlist import find_wanted
from builder.types import BuildRequest
from controller.buildpacks import Folder

MAX_FOLDER = 64 * 1024**2
"""Bytes of a buildpack from a folder of the server."""
_RECORD = 20 * tarfile.BLOCKSIZE
"""What tar reads at once: without whole ones it waits for more, where the stream does not end."""


def order_of(request: BuildRequest, source: Path, folders: Sequence[Path], *, inspect: bool) -> Order:
    """With copies of the buildpacks that lie in folders of the server. Blocking. Raises BuildFailed."""
    return Order(
        id=request.id,
        commit=request.commit,
        env=dict(request.env),
        buildpacks=request.buildpacks,
        builder=request.builder,
        folders=dict(_folders(request, source, folders)),
        inspect=inspect,
    )


def with_order(order: Order, source: Path) -> Iterator[bytes]:
    """The order as the first member, then the source."""
    data = order.encoded()
    member = tarfile.TarInfo(MEMBER)
    member.size = len(data)
    yield member.tobuf(tarfile.USTAR_FORMAT)
    yield data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield from plain_feed(source)


def plain_feed(source: Path) -> Iterator[bytes]:
    """The source alone."""
    sent = 0
    for piece in blocks_of(canonical_tar(source, lambda: None)):
        sent += len(piece)
        yield piece
    yield bytes(-sent % _RECORD)


def _folders(request: BuildRequest, source: Path, folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    wanted = find_wanted(source, chosen=request.buildpacks, env=request.env)
    for each in wanted.sources if wanted else ():
        if isinstance(each, Folder):
            place = allowed_folder(each, folders)
            if not place.is_dir():
                raise BuildFailed(f"The buildpack {each} is no folder of the server.")
            data = b"".join(_bounded(canonical_tar(place, lambda: None), each))
            yield str(each.path), base64.b64encode(data).decode()


def _bounded(pieces: Iterator[bytes], source: Folder) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_FOLDER:
            raise BuildFailed(f"The buildpack {source} is larger than {MAX_FOLDER // 1024**2} MB.")
        yield piece
