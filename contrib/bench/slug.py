"""Packing and unpacking a slug of 200 MB in 9,500 files, beside `tar | zstd -1` and `zstd -d | tar x`.

What is packed is taken from this interpreter's libraries, so that sizes and content are those of a
distribution. Rounds alternate who begins. Both sides read a tree that is in the page cache and sync
the archive to the disk before they count as done; neither syncs what it unpacked. Ours does more in
that time: it seals the tree for its service twice, and takes and checks the SHA-256 of all content.

Nothing is removed before the last round has ended: a file system may be slow to make files for
minutes after many were removed (ext4 without a journal is: it looks at each inode that was freed).

    python -m contrib.bench.slug [--rounds 5] [--folder FOLDER] [--json]
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.slugs import Slug, SlugStore
from controller.types import Artifact, ArtifactKind

FILES, BYTES = 9_500, 200_000_000
SLACK = 30_000_000
"""How far the bytes may be ahead of the files while a tree is chosen: a distribution has a few large libraries."""
SMALL = 4_096
"""Files below this many bytes wait while the bytes are behind."""
TARGET = 1.2
SERVICE_UID = 42_990 if os.getuid() == 0 else None
"""As root a tree is given to its service's group; that is part of the work."""


@dataclass(frozen=True)
class Times:
    """Seconds of one side in one round."""

    pack: float
    unpack: float
    pack_again: float = 0.0
    """The same app once more, where its archive is there already."""

    @property
    def both(self) -> float:
        return self.pack + self.unpack


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of ours and the peer's (5)")
    parser.add_argument("--folder", help="where to work; by default, where temporary files go")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="moor-slug-", dir=options.folder))
    try:
        report = measure(folder, options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report, indent=2) if options.json else as_text(report))
    return report["ratio of pack + unpack"] > TARGET  # type: ignore[operator]


def measure(folder: Path, rounds: int) -> dict[str, object]:
    tree = folder / "tree"
    files, size = make_tree(tree)
    ours: list[Times] = []
    theirs: list[Times] = []
    forget_peak()
    idle = peak()
    for number in range(rounds + 1):
        if number % 2:
            theirs.append(peer_round(folder / f"peer-{number}", tree))
        ours.append(our_round(folder / f"ours-{number}", tree))
        if not number % 2:
            theirs.append(peer_round(folder / f"peer-{number}", tree))
    # The first round warms up: libraries are loaded, the disk is known.
    ours, theirs = ours[1:], theirs[1:]
    return {
        "files": files,
        "bytes": size,
        **rows("pack", [each.pack for each in ours], [each.pack for each in theirs]),
        **rows("unpack", [each.unpack for each in ours], [each.unpack for each in theirs]),
        **rows("pack + unpack", [each.both for each in ours], [each.both for each in theirs]),
        "pack of an unchanged app, s": spread([each.pack_again for each in ours]),
        "memory at peak beyond idle, MiB": round((peak() - idle) / 1024),
    }


def rows(what: str, ours: list[float], theirs: list[float]) -> dict[str, object]:
    return {
        f"{what}, s": spread(ours),
        f"{what} by tar and zstd, s": spread(theirs),
        f"ratio of {what}": round(statistics.median(ours) / statistics.median(theirs), 2),
    }


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f}..{max(times):.2f})"


def our_round(folder: Path, tree: Path) -> Times:
    return asyncio.run(_our_round(folder, tree))


async def _our_round(folder: Path, tree: Path) -> Times:
    folder.mkdir()
    built = copied(tree, folder / "built")
    store = SlugStore(folder / "slugs", folder / "apps", limit=BYTES)
    began = time.monotonic()
    slug = await store.keep(built, deployment="bench", service="app", uid=SERVICE_UID)
    packed = time.monotonic() - began
    os.sync()
    began = time.monotonic()
    # For another service of the same content: where none of the tree is yet.
    await store.ensure_unpacked("bench", "other", artifact(slug), SERVICE_UID)
    unpacked = time.monotonic() - began
    built = copied(tree, folder / "built-again")
    began = time.monotonic()
    await store.keep(built, deployment="bench", service="app", uid=SERVICE_UID)
    return Times(packed, unpacked, time.monotonic() - began)


def artifact(slug: Slug) -> Artifact:
    return Artifact(kind=ArtifactKind.SLUG, reference=slug.reference)


def peer_round(folder: Path, tree: Path) -> Times:
    folder.mkdir()
    copied(tree, folder / "built")
    (folder / "unpacked").mkdir()
    packed = shell(folder, "tar -C built -cf - . | zstd -1 -q -o app.tar.zst && sync app.tar.zst")
    os.sync()
    unpacked = shell(folder, "zstd -dc -q app.tar.zst | tar -C unpacked -xf -")
    return Times(packed, unpacked)


def shell(folder: Path, line: str) -> float:
    began = time.monotonic()
    subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=folder, check=True)
    return time.monotonic() - began


def copied(tree: Path, target: Path) -> Path:
    """A copy of its own for each round, wholly on the disk: ours is used up."""
    subprocess.run(["cp", "-a", "--", tree, target], check=True)
    os.sync()
    return target


def make_tree(target: Path) -> tuple[int, int]:
    """Fill a folder; how many files it got, and their bytes."""
    count = total = 0
    for origin, name in candidates():
        size = origin.stat().st_size
        due = BYTES * count / FILES
        if total + size > due + SLACK * (1 - count / FILES) or (total < due and size < SMALL):
            continue
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, place)
        shutil.copymode(origin, place)
        count, total = count + 1, total + size
        if count == FILES:
            break
    return count, total


def candidates() -> Iterator[tuple[Path, str]]:
    """Files of the libraries with the path to put them at, in an order that looks random and is always the same."""
    roots = [Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("stdlib"))]
    found = sorted(
        (hashlib.sha256(os.fsencode(file.relative_to(root))).digest(), file, str(file.relative_to(root)))
        for root in roots
        for file in root.rglob("*")
        if file.is_file() and not file.is_symlink()
    )
    for times in range(100):  # where there are too few, they come again
        for _, file, name in found:
            yield file, f"{times}/{name}"


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most memory that this process had at once since the last `forget_peak`, in KiB."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def as_text(report: dict[str, object]) -> str:
    return "\n".join(f"       {name:<42} {value}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
