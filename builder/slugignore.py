"""`.slugignore`: files of a repository that no build and no app gets to see."""

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.base import BuildFailed
from builder.tree import Node, read_small, remove_tree, walk

FILE = ".slugignore"
MAX_BYTES = 64 * 1024
MAX_PATTERNS = 500
KEPT = frozenset({FILE, "Procfile"})
"""Right at the top: an app without them is another one."""


@dataclass(frozen=True)
class Pattern:
    """One line: as in a .gitignore, without `!`."""

    segments: tuple[re.Pattern[str] | None, ...]
    """One for each part of a path; None stands for any number of parts."""
    folders_only: bool

    def matches(self, parts: Sequence[str], *, is_directory: bool) -> bool:
        return (is_directory or not self.folders_only) and _matches(self.segments, parts)


def parse_patterns(text: str) -> tuple[Pattern, ...]:
    """Raises BuildFailed, naming the line."""
    patterns = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("!"):
            raise BuildFailed(
                f"{FILE} line {number}: patterns with `!` are not understood; name what shall go."
            )
        patterns.append(_pattern(line))
    if len(patterns) > MAX_PATTERNS:
        raise BuildFailed(f"{FILE} has {len(patterns)} patterns; at most {MAX_PATTERNS} are possible.")
    return tuple(patterns)


def ignore_files(root: Path) -> int:
    """Remove what the tree's own file names; how many files and folders. Raises BuildFailed."""
    content = read_small(root, FILE, MAX_BYTES)
    if content is None:
        return 0
    if len(content) > MAX_BYTES:
        raise BuildFailed(f"{FILE} is larger than {MAX_BYTES // 1024} KB.")
    patterns = parse_patterns(content.decode("utf-8", "surrogateescape"))
    # Found first: a walk does not go on in a folder that is taken away under it.
    found = [node.path for node in walk(root) if node.path not in KEPT and _ignored(patterns, node)]
    for path in found:
        if os.path.lexists(root / path):
            remove_tree(root / path)
    return len(found)


def _ignored(patterns: Sequence[Pattern], node: Node) -> bool:
    parts = node.path.split("/")
    return any(each.matches(parts, is_directory=node.is_directory) for each in patterns)


def _pattern(line: str) -> Pattern:
    path = line.rstrip("/")
    anchored = "/" in path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    segments = [None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts]
    if segments and segments[-1] is None:
        segments.append(re.compile(".*", re.DOTALL))  # `a/**` is all that is in it, not the folder
    return Pattern(tuple(segments if anchored else [None, *segments]), line.endswith("/"))


def _matches(segments: Sequence[re.Pattern[str] | None], parts: Sequence[str]) -> bool:
    """By the set of places in the pattern that can have been reached: no going back, whatever it says."""
    reached = _passing(segments, {0})
    for part in parts:
        after = set()
        for place in reached:
            if place < len(segments):
                segment = segments[place]
                if segment is None:
                    after.add(place)
                elif segment.fullmatch(part):
                    after.add(place + 1)
        reached = _passing(segments, after)
    return len(segments) in reached


def _passing(segments: Sequence[re.Pattern[str] | None], places: set[int]) -> set[int]:
    """With those behind any `**` that may stand for nothing."""
    found = set(places)
    for place in range(len(segments)):
        if place in found and segments[place] is None:
            found.add(place + 1)
    return found
