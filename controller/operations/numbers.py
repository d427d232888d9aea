"""Reading numbers that people give. Pure."""

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
