"""YAML as a tree in which everything knows where it stood.

Made from the parser's events rather than by a loader: a loader forgets the places, and writes aliases out
without end. Texts stay as they were written beside what YAML takes them for (`1.10`, `on`, `0755`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from yaml import events as parsed

from controller.servicefile.complaints import Complaint, Complaints, NotAServiceFile, Place, shown

MAX_SIZE = 1024**2
"""Characters of one file."""
MAX_NODES = 200_000
"""Values in a file, aliases written out."""
MAX_DEPTH = 16
LARGEST = 2**63 - 1
_TAG = "tag:yaml.org,2002:"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # many times as fast, where it was built
_RESOLVER = yaml.resolver.Resolver()
_VALUES = yaml.constructor.SafeConstructor()


@dataclass(frozen=True, slots=True)
class Scalar:
    place: Place
    value: str | int | float | bool | None
    text: str
    """As it was written, without quotes."""


@dataclass(frozen=True, slots=True)
class Row:
    """A list."""

    place: Place
    items: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and its value."""

    key: Scalar
    value: "Tree"


@dataclass(frozen=True, slots=True)
class Branch:
    """A mapping, by the texts of its keys."""

    place: Place
    entries: Mapping[str, Entry]
    flow: bool = False
    """Whether it was written in braces."""


Tree = Scalar | Row | Branch


def plain(tree: Tree) -> Any:
    """Dicts with texts as keys, lists and values."""
    match tree:
        case Scalar():
            return tree.value
        case Row():
            return [plain(each) for each in tree.items]
        case Branch():
            return {name: plain(each.value) for name, each in tree.entries.items()}


def read_tree(text: str, file: str, complaints: Complaints) -> Tree:
    """The one document of a YAML text; raises NotAServiceFile where it is none, or more than we take."""
    start = Place(file, 1, 1)
    if len(text) > MAX_SIZE:
        raise NotAServiceFile([Complaint(start, f"It is larger than {MAX_SIZE // 1024} KiB: split it up.")])
    try:
        return _Reader(file, complaints).document(yaml.parse(text, _LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else start
        said = error.problem or error.context or "it can't be read"
        raise NotAServiceFile(
            [Complaint(place, f"This is no valid YAML: {said}.{_still_open(error) or _hint(text, place)}")]
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise NotAServiceFile([Complaint(start, f"This is no valid YAML: {error}")]) from error


_OPENING = {
    "while parsing a flow mapping": "{",
    "while parsing a flow sequence": "[",
    "while scanning a quoted scalar": "quote",
}
"""What libyaml was at, to what began that."""


def _still_open(error: yaml.MarkedYAMLError) -> str:
    """Where that began which does not end: the place of the error is only where the parser gave up."""
    opening, began = _OPENING.get(error.context or ""), error.context_mark
    if opening is None or began is None:
        return ""
    return f" The {opening} of line {began.line + 1}, column {began.column + 1} is not closed before that."


def _hint(text: str, place: Place) -> str:
    """The two mistakes that people make most."""
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    before = next((each.strip() for each in reversed(lines[: place.line - 1]) if each.strip()), "")
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return " Indent with spaces instead of tabs."
    if before and ":" not in before and not before.startswith(("-", "#")):
        return f" Is a ':' missing behind {shown(before)}?"
    return " A text with ': ' or ' #' in it, or one that begins with { [ * & ! % @, stands in quotes."


class _Reader:
    def __init__(self, file: str, complaints: Complaints) -> None:
        self._file = file
        self._complaints = complaints
        self._anchors: dict[str, tuple[Tree, int, int]] = {}
        """Name to what it names, how many values and how many levels that has."""

    def document(self, events: Iterator[parsed.Event]) -> Tree:
        self._events = events
        for event in events:
            if isinstance(event, parsed.StreamEndEvent):
                return Branch(Place(self._file, 1, 1), {})
            if isinstance(event, parsed.DocumentStartEvent):
                break
        tree, _, _ = self._node(next(events), 0, 0)
        next(events)  # the document's end
        if isinstance(more := next(events), parsed.DocumentStartEvent):
            raise self._refused(more, "Here a second document begins: write one file without '---' in it.")
        return tree

    def _node(self, event: parsed.Event, depth: int, taken: int) -> tuple[Tree, int, int]:
        """What begins with that event, how many values it has and how deep it is. `taken`: values before it."""
        if depth > MAX_DEPTH:
            raise self._refused(event, f"It is nested more than {MAX_DEPTH} levels deep.")
        name = getattr(event, "anchor", None) or ""
        if isinstance(event, parsed.AliasEvent):
            if name not in self._anchors:
                raise self._refused(event, f"*{shown(name)} stands for nothing that was named before it.")
            found = self._anchors[name]
        elif isinstance(event, parsed.ScalarEvent):
            found = (self._scalar(event), 1, 0)
        elif isinstance(event, parsed.SequenceStartEvent):
            found = self._row(event, depth, taken)
        else:
            assert isinstance(event, parsed.MappingStartEvent)
            found = self._branch(event, depth, taken)
        if taken + found[1] > MAX_NODES or depth + found[2] > MAX_DEPTH:
            raise self._refused(event, "Written out, its aliases are more than a service file may hold.")
        if name:
            self._anchors[name] = found
        return found

    def _row(self, start: parsed.SequenceStartEvent, depth: int, taken: int) -> tuple[Tree, int, int]:
        self._check_tag(start, "seq")
        items, size, height = list[Tree](), 1, 0
        while not isinstance(event := next(self._events), parsed.SequenceEndEvent):
            tree, more, deep = self._node(event, depth + 1, taken + size)
            items.append(tree)
            size, height = size + more, max(height, deep + 1)
        return Row(self._place(start), tuple(items)), size, height

    def _branch(self, start: parsed.MappingStartEvent, depth: int, taken: int) -> tuple[Tree, int, int]:
        self._check_tag(start, "map")
        own, merged = dict[str, Entry](), dict[str, Entry]()
        size, height = 1, 0
        while not isinstance(event := next(self._events), parsed.MappingEndEvent):
            key, more, _ = self._node(event, depth + 1, taken + size)
            if not isinstance(key, Scalar):
                raise self._refused(event, "A key must be a text.")
            size += more
            value, more, deep = self._node(next(self._events), depth + 1, taken + size)
            size, height = size + more, max(height, deep + 1)
            if isinstance(event, parsed.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                for name, entry in self._merged(key, value).items():
                    merged.setdefault(name, entry)
            elif key.text in own:
                first = own[key.text].key.place
                self._complaints.error(
                    key.place,
                    f"{shown(key.text)} is there twice, first in line {first.line}: keep one of them.",
                )
            else:
                own[key.text] = Entry(key, value)
        return Branch(self._place(start), {**merged, **own}, bool(start.flow_style)), size, height

    def _merged(self, key: Scalar, value: Tree) -> Mapping[str, Entry]:
        """What `<<` brings; the first of several wins."""
        parts = value.items if isinstance(value, Row) else (value,)
        found = dict[str, Entry]()
        for each in parts:
            if not isinstance(each, Branch):
                self._complaints.error(key.place, "<< takes mappings, as in `<<: *name`.")
                continue
            for name, entry in each.entries.items():
                found.setdefault(name, entry)
        return found

    def _scalar(self, event: parsed.ScalarEvent) -> Scalar:
        place = self._place(event)
        tag = event.tag
        if tag is None or tag == "!":
            tag = _tag_of(event.value, (event.implicit[0], event.implicit[1]))
        if "\0" in event.value:
            self._complaints.error(place, "There is a zero byte in it, which no process can be given.")
        try:
            return Scalar(place, self._value(event.value, tag.removeprefix(_TAG)), event.value)
        except ValueError as error:
            self._complaints.error(place, str(error))
            return Scalar(place, "", event.value)

    def _value(self, text: str, kind: str) -> str | int | float | bool | None:
        if kind in ("str", "timestamp", "merge", "value"):
            return text
        if kind == "null":
            return None
        if kind not in ("bool", "int", "float"):
            raise ValueError(f"The tag {shown(kind)} means nothing here: leave it out.")
        try:
            found: Any = _VALUES.construct_object(yaml.ScalarNode(_TAG + kind, text))
        except (yaml.YAMLError, ValueError, KeyError, IndexError):
            raise ValueError(f"{shown(text)} is no {kind}: put it in quotes if it is a text.") from None
        if isinstance(found, float) and not math.isfinite(found):
            raise ValueError(
                f"{shown(text)} is no number that can be kept: put it in quotes if it is a text."
            )
        if isinstance(found, int) and abs(found) > LARGEST:
            raise ValueError("That number is too large: put it in quotes if it is a text.")
        value: str | int | float | bool | None = found
        return value

    def _check_tag(self, event: parsed.CollectionStartEvent, kind: str) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            self._complaints.error(
                self._place(event), f"The tag {shown(event.tag)} means nothing here: leave it out."
            )

    def _place(self, event: parsed.Event) -> Place:
        mark = event.start_mark
        assert mark is not None
        return Place(self._file, mark.line + 1, mark.column + 1)

    def _refused(self, event: parsed.Event, text: str) -> NotAServiceFile:
        return NotAServiceFile([*self._complaints.errors, Complaint(self._place(event), text)])


@lru_cache(maxsize=4096)
def _tag_of(text: str, implicit: tuple[bool, bool]) -> str:
    """What YAML takes a scalar without a tag for."""
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, implicit)  # type: ignore[no-untyped-call]
    return tag
