"""Copies what the last builds installed to where the next one takes it from, while a build container waits for
its source: run as `python3 -I -S ready.py CACHE PLACE`, and killed once that comes."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pack

MOST_FILES, MOST_BYTES = 20_000, 200 * 1024**2
"""Of one installation: a larger one is copied by the build that wants it, not ahead of one that may never come."""


def main(cache: Path, place: Path) -> None:
    os.nice(10)
    for kind in sorted((cache / "layers").glob("*")):
        layers = [layer for layer in kind.iterdir() if layer.name != pack.HALF]
        layer = max(layers, key=lambda layer: layer.stat().st_mtime, default=None)
        if layer is not None and is_small(layer):
            pack.make_ready(layer, place)


def is_small(layer: Path) -> bool:
    files = size = 0
    for folder, _, names in os.walk(layer):
        for name in names:
            files, size = files + 1, size + os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
        if files > MOST_FILES or size > MOST_BYTES:
            return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
