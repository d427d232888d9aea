"""What builds need of ours, copied to where an unprivileged user can read it.

Our own checkout and virtualenv may lie below a folder that is closed to others (/root), so the
bundled buildpacks and the `uv` program are copied below the data folder, under a name made from
their content: an upgraded server brings its own, a running build keeps what it started with.
"""

import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import uv

from builder.base import BuilderUnavailable
from builder.tree import open_folder, remove_tree


@dataclass(frozen=True)
class Tools:
    buildpacks: Path
    programs: Path
    """A folder for PATH."""


def publish_tools(folder: Path, buildpacks: Path) -> Tools:
    """Make sure that the copies are there. Blocking; cheap when they are. Raises BuilderUnavailable."""
    try:
        open_folder(folder, 0o755)
        return Tools(_publish_buildpacks(folder, buildpacks), _publish_uv(folder))
    except OSError as error:
        raise BuilderUnavailable(
            f"The buildpacks could not be copied to {folder}: {error.strerror}."
        ) from error


def sweep_tools(folder: Path, current: Tools) -> None:
    """Remove the copies of earlier versions. Only before the first build."""
    for place in folder.iterdir():
        if place not in {current.buildpacks, current.programs}:
            remove_tree(place)


def _publish_buildpacks(folder: Path, source: Path) -> Path:
    digest = hashlib.sha256()
    files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for path in files:
        digest.update(f"{path.relative_to(source)}\0".encode() + path.read_bytes() + b"\0")
    place = folder / f"buildpacks-{digest.hexdigest()[:16]}"
    if not place.exists():
        with _Half(place) as half:
            for path in files:
                copy = half / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            for path in (half, *half.rglob("*")):
                program = path.is_dir() or path.parent.name == "bin"
                path.chmod(0o755 if program else 0o644)
    return place


def _publish_uv(folder: Path) -> Path:
    try:
        program = Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise BuilderUnavailable("The uv program is missing; install the `uv` package again.") from error
    info = program.stat()
    place = folder / f"programs-{info.st_size:x}-{info.st_mtime_ns:x}"
    if not place.exists():
        with _Half(place) as half:
            shutil.copyfile(program, half / "uv")
            (half / "uv").chmod(0o755)
            half.chmod(0o755)
    return place


class _Half:
    """A folder that appears whole or not at all; losing the race to another is fine."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._half = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")

    def __enter__(self) -> Path:
        self._half.mkdir()
        return self._half

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._half.rename(self._place)
        except OSError:
            if not self._place.is_dir():
                raise
        finally:
            if self._half.exists():
                remove_tree(self._half)


def system_path(tools: Tools) -> str:
    return os.pathsep.join([str(tools.programs), "/usr/local/bin", "/usr/bin", "/bin"])
