"""How long: `30d`, `12h`, `90m`, as people write it."""

import re
from datetime import timedelta
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_duration(text: str) -> timedelta | None:
    """A number and a unit (s, m, h, d, w); None where it is no such thing."""
    match = re.fullmatch(r"(\d{1,6})\s*([smhdw])", text.strip().lower())
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else None


class Duration(click.ParamType[timedelta]):
    """An option's value such as `30d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        found = value if isinstance(value, timedelta) else parse_duration(value)
        if found is None:
            self.fail(f"{value!r} is no length of time: write 30d, 12h or 90m, say.", param, ctx)
        return found
