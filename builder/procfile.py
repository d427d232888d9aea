"""The Procfile: `type: command` lines that say what an app runs."""

import re
from collections.abc import Mapping

from builder.base import BuildFailed
from controller.errors import InvalidInput
from controller.names import check_process_type

FILE = "Procfile"
MAX_BYTES = 64 * 1024
MAX_TYPES = 50
_LINE = re.compile(r"([^:\s]+)\s*:\s*(.*)")


def parse_procfile(content: bytes) -> Mapping[str, str]:
    """Process type to command line, in the file's order.

    Empty lines and lines that begin with `#` are skipped. Raises BuildFailed, naming the line.
    """
    if len(content) > MAX_BYTES:
        raise BuildFailed(f"The Procfile is larger than {MAX_BYTES // 1024} KB.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = content.count(b"\n", 0, error.start) + 1
        raise BuildFailed(f"Procfile line {at}: save the file as UTF-8 text.") from error
    types: dict[str, str] = {}
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        line = raw.strip()
        if line and not line.startswith("#"):
            name, command = _parse_line(number, line)
            if name in types:
                raise BuildFailed(f"Procfile line {number}: the process type {name!r} is there twice.")
            types[name] = command
    if len(types) > MAX_TYPES:
        raise BuildFailed(
            f"The Procfile declares {len(types)} process types; at most {MAX_TYPES} are possible."
        )
    return types


def _parse_line(number: int, line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise BuildFailed(
            f"Procfile line {number}: {_shown(line)} is not of the form `type: command`, "
            "such as `web: python app.py`."
        )
    name, command = match[1], match[2]
    try:
        check_process_type(name)
    except InvalidInput as error:
        raise BuildFailed(f"Procfile line {number}: {error}") from error
    if not command:
        raise BuildFailed(f"Procfile line {number}: the process type {name!r} has no command.")
    if "\0" in command:
        raise BuildFailed(f"Procfile line {number}: the command holds a NUL character.")
    return name, command


def _shown(line: str) -> str:
    return ascii(line if len(line) <= 60 else line[:57] + "...")
