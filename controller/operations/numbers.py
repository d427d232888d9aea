"""Reading numbers that people give. Pure."""

import re
from typing import Any

from controller.errors import InvalidInput


def seconds(field: str, value: Any, *, most: int = 3600) -> float:
    """Raises InvalidInput naming the field."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise InvalidInput(
            field.partition(".")[0], f"{field} must be a number of seconds, above 0 and up to {most}."
        )
    return float(value)


def whole(field: str, value: Any, *, least: int, most: int) -> int:
    """Raises InvalidInput naming the field."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(field.partition(".")[0], f"{field} must be a whole number from {least} to {most}.")
    return value


def size(field: str, value: Any) -> int:
    """`512M`, `1G`, or a plain number: in powers of 1024. Raises InvalidInput naming the field."""
    text = str(value).strip().lower() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"([0-9]{1,18})\s*([kmgt]?)i?b?", text)
    if not match:
        raise InvalidInput(
            field.partition(".")[0],
            f"{field} must be a whole number, to which K, M, G or T may be added, as in 512M.",
        )
    factor: int = 1024 ** " kmgt".index(match[2] or " ")
    return int(match[1]) * factor
