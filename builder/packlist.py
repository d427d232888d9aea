"""Which buildpacks were asked for, and by whom; nobody asking means that they are detected."""

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.base import BuildFailed
from builder.tree import read_small
from controller.buildpacks import INLINE, Source, parse_buildpacks
from controller.errors import InvalidInput

LIST_FILE = ".buildpacks"
MANIFEST = "app.json"
VARIABLE = "BUILDPACK_URL"
MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Wanted:
    sources: tuple[Source, ...]
    by: str
    """Where that was said, in words that can follow "named by"."""


def find_wanted(build: Path, *, chosen: Sequence[str], env: Mapping[str, str]) -> Wanted | None:
    """The first that says anything: the service (`chosen`), its variable, `.buildpacks`, `app.json`.

    Raises BuildFailed where that can't be read.
    """
    for by, names in (
        ("buildpacks:set", tuple(chosen)),
        (f"the variable {VARIABLE}", tuple(filter(None, [env.get(VARIABLE, "").strip()]))),
        (LIST_FILE, _listed(build)),
        (MANIFEST, _in_manifest(build)),
    ):
        if names:
            try:
                return Wanted(parse_buildpacks(names), by)
            except InvalidInput as error:
                raise BuildFailed(f"Buildpacks named by {by}: {error}") from error
    return None


def is_inline(build: Path) -> bool:
    """Whether the app has the programs of a buildpack itself."""
    return all(_is_program(build, name) for name in ("detect", "compile"))


def inline_missing() -> str:
    return (
        f"The buildpack {INLINE!r} is the app itself, which then has the programs bin/detect and bin/compile."
    )


def _listed(build: Path) -> Sequence[str]:
    lines = [line.strip() for line in _text(build, LIST_FILE).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _in_manifest(build: Path) -> Sequence[str]:
    text = _text(build, MANIFEST)
    if not text.strip():
        return ()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BuildFailed(f"{MANIFEST} is no valid JSON: {error}.") from error
    found = content.get("buildpacks") if isinstance(content, dict) else None
    if found is None:
        return ()
    names = (
        [each.get("url") if isinstance(each, dict) else each for each in found]
        if isinstance(found, list)
        else [None]
    )
    if not all(isinstance(each, str) for each in names):
        raise BuildFailed(f'{MANIFEST}: buildpacks must be a list such as [{{"url": "nodejs"}}].')
    return [str(each) for each in names]


def _text(build: Path, name: str) -> str:
    content = read_small(build, name, MAX_BYTES) or b""
    if len(content) > MAX_BYTES:
        raise BuildFailed(f"{name} is larger than {MAX_BYTES // 1024} KB.")
    return content.decode("utf-8-sig", "replace")


def _is_program(build: Path, name: str) -> bool:
    folder = build / "bin"
    try:
        mode = (folder / name).lstat().st_mode
    except OSError:
        return False
    return not folder.is_symlink() and stat.S_ISREG(mode) and bool(mode & 0o100)
