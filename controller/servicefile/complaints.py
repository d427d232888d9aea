"""Where something stands in a service file, and what is to be said of it there."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.errors import InvalidInput

FIELD = "servicefile"
MAX_SHOWN = 20
"""Errors that are told at once: those behind them often follow from them."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A spot of a file, counted from 1 as editors do."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong there, and the way out."""

    place: Place
    text: str
    about: str = ""
    """The section, or the key as `web.sidecar`, that is unknown here: a plugin of the server may know it."""

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class NotAServiceFile(InvalidInput):
    """Raised with all errors that were found, in their order in the file."""

    def __init__(self, errors: Sequence[Complaint]) -> None:
        self.errors = tuple(errors)
        lines = [str(each) for each in self.errors[:MAX_SHOWN]]
        if more := len(self.errors) - MAX_SHOWN:
            lines += [f"… and {more} more."] if more > 0 else []
        super().__init__(FIELD, "\n".join(lines))


class Complaints:
    """Collects them, so that one look at a file tells all that is wrong with it."""

    def __init__(self) -> None:
        self.errors: list[Complaint] = []
        self.warnings: list[Complaint] = []

    def error(self, place: Place, text: str) -> None:
        """Something without which the file can't be used."""
        self.errors.append(Complaint(place, text))

    def warn(self, place: Place, text: str, *, about: str = "") -> None:
        """Something that people should know."""
        self.warnings.append(Complaint(place, text, about))

    def raise_errors(self) -> None:
        """Raise NotAServiceFile where there were any."""
        if self.errors:
            raise NotAServiceFile(sorted(self.errors, key=lambda each: each.place))


def shown(text: str) -> str:
    """A word of the file, fit to stand in a sentence."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...").strip("'") or "''"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean X?`, or nothing where no known word is near."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.65)
    return f" Did you mean {by_lower[close[0]]}?" if close else ""
