"""What the images are made from, as one hash: whoever has images of that hash need not make them."""

import hashlib
import os
from pathlib import Path

from contrib.stack.errors import StackError

FOLDER = Path(__file__).resolve().parent
VERSION = "1"
RUN = f"mooring/stack:{VERSION}-run"
BUILD = f"mooring/stack:{VERSION}-build"
RESOURCES = f"mooring/stack:{VERSION}-resources"
IMAGES = (RUN, BUILD, RESOURCES)
LABEL = "mooring.stack"
INPUTS_LABEL = "mooring.stack.inputs"
EPOCH = 1767225600
"""Time of every file that a build makes (2026-01-01), unless SOURCE_DATE_EPOCH says another."""


def inputs_hash() -> str:
    """Of all files of this folder but its documentation."""
    total = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and path.suffix not in (".pyc", ".md"):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{path.relative_to(FOLDER)} {content}\n".encode())
    return total.hexdigest()[:16]


def source_date() -> int:
    """Seconds since 1970: the time of what a build makes. Raises StackError."""
    given = os.environ.get("SOURCE_DATE_EPOCH", str(EPOCH))
    if not given.isdecimal():
        raise StackError(f"SOURCE_DATE_EPOCH must be seconds since 1970, not {given!r}.")
    return int(given)
