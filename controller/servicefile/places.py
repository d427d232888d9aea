"""Where the values of a JSON text stand. Pure."""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping

from controller.servicefile.complaints import Place

Path = tuple[str | int, ...]
"""Names and numbers that lead to a value from the top: `("env", "API_KEY")`."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


def places_of(text: str, file: str) -> Mapping[Path, Place]:
    """Of every value of a text that is JSON: of what has a name the place of that, else its own."""
    starts = [0, *(each.end() for each in re.finditer("\n", text))]
    found, path, named = dict[Path, Place](), list[str | int](), list[bool]()
    expects_name = False
    for match in _TOKEN.finditer(text):
        word, line = match[0], bisect_right(starts, match.start())
        place = Place(file, line, match.start() - starts[line - 1] + 1)
        if word in "}]":
            path.pop()
            named.pop()
            expects_name = False
        elif word == ",":
            expects_name = named[-1]
            if isinstance(at := path[-1], int):
                path[-1] = at + 1
        elif word == ":":
            expects_name = False
        elif expects_name:
            path[-1] = json.loads(word)
            found[tuple(path)] = place
        else:
            found.setdefault(tuple(path), place)
            if word in "{[":
                named.append(word == "{")
                path.append("" if word == "{" else 0)
                expects_name = word == "{"
    return found
