"""What `docker save` writes, made fit to be loaded: one image of it, without a name.

Loading gives names away: an archive with `redis:7` in it would become what every other app here means by that.
"""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.base import BuildFailed
from builder.threads import Check
from builder.tree import megabytes

MANIFEST, LEGACY, INDEX = "manifest.json", "repositories", "index.json"
MAX_LISTING = 4 * 1024**2
MAX_MEMBERS = 10_000
_BLOCK = 256 * 1024


def unnamed_archive(archive: Path, target: Path, wanted: str, *, limit: int, check: Check) -> None:
    """Write the image `wanted` of `archive` to `target`, without its names. Blocking. Raises BuildFailed.

    An archive with a single image may be called what people like; of several, the name says which.
    """
    try:
        with tarfile.open(archive, "r:*") as source:
            entry = choose(_listing(source), wanted)
            with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as copy:
                _copy(source, copy, entry, limit, check)
    except tarfile.TarError as error:
        raise BuildFailed(f"This is no archive of an image, as `docker save` writes one: {error}.") from error
    except (EOFError, OSError) as error:
        raise BuildFailed(f"The archive is damaged: {error}.") from error


def choose(listing: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any]:
    """The entry of `manifest.json` that is meant, without names. Pure. Raises BuildFailed."""
    whole = wanted if ":" in wanted.rpartition("/")[2] else f"{wanted}:latest"
    named = [each for each in listing if whole in (each.get("RepoTags") or ())]
    found = named or (listing if len(listing) == 1 else [])
    if not found:
        names = sorted(name for each in listing for name in each.get("RepoTags") or ())
        raise BuildFailed(
            f"The archive holds {len(listing)} images, none of which is {whole}: name one of "
            f"{', '.join(names[:10]) or 'them when it is saved'}."
        )
    return {**found[0], "RepoTags": None}


def _listing(source: tarfile.TarFile) -> Sequence[Mapping[str, Any]]:
    try:
        member = source.getmember(MANIFEST)
    except KeyError:
        raise BuildFailed("The archive has no manifest.json: make it with `docker save IMAGE`.") from None
    content = source.extractfile(member) if member.isfile() and member.size <= MAX_LISTING else None
    try:
        listing = json.load(content) if content is not None else None
    except ValueError:
        listing = None
    if not isinstance(listing, list) or not all(isinstance(each, dict) for each in listing) or not listing:
        raise BuildFailed("The manifest.json of the archive can't be read: make it with `docker save IMAGE`.")
    return listing


def _copy(
    source: tarfile.TarFile, copy: tarfile.TarFile, entry: Mapping[str, Any], limit: int, check: Check
) -> None:
    total = members = 0
    for member in source:
        check()
        total, members = total + member.size, members + 1
        if (limit and total > limit) or members > MAX_MEMBERS:
            raise BuildFailed(
                f"The image in the archive has more than {megabytes(limit)} (this server's setting image_limit), or "
                f"more than {MAX_MEMBERS} parts."
            )
        if member.name in (MANIFEST, LEGACY, INDEX):
            continue
        content = source.extractfile(member) if member.isfile() else None
        copy.addfile(member, content)
    _add(copy, MANIFEST, [entry])


def _add(copy: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    copy.addfile(member, io.BytesIO(data))
