"""Config variables as text that goes out to a file and comes back the same.

Three forms: `env`, the lines of a .env file; `shell`, what bash, zsh and ksh can read; `json`, one
object. What a terminal could obey, and what an exchange of text may change (a carriage return, a byte
order mark), is written as an escape, so that every value survives both doors.

`read` takes all three. In the lines of `env` and `shell`, `#` begins a comment, `export` may stand
before a name, quoted values may go over several lines, and nothing is ever expanded: `$HOME` stays `$HOME`.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cli.output import CONTROL
from controller.errors import InvalidInput
from controller.names import check_env_name

_ODD = re.compile(CONTROL.pattern + "|[\ufeff\ufffd]")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*(?:#[^\n]*)?")
_NAME = re.compile(r"(?:export[ \t]+)?(?P<name>[^\s=#'\"]+)[ \t]*=")
_OPENING = re.compile(r"[ \t]*(?=\$?'|\")")
_COMMENT = re.compile(r"[ \t]#")
_QUOTED = re.compile(
    r"'(?P<literal>[^']*)'|\$'(?P<shell>(?:[^'\\]|\\.)*)'|\"(?P<escaped>(?:[^\"\\]|\\.)*)\"", re.DOTALL
)
_END = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(?:u(?P<code>[0-9a-f]{4})|(?P<sign>[nrt\\\"$`]))")
_SHELL_ESCAPE = re.compile(r"(?P<bytes>(?:\\x[0-9a-f]{2})+)|\\(?P<sign>[nrt\\'\"])")
_SIGNS: Mapping[str, str] = {"n": "\n", "r": "\r", "t": "\t"}


def write(variables: Mapping[str, str], form: str) -> str:
    """The variables, sorted by name, in one of `FORMS`; without a last newline."""
    return _WRITE[form](sorted(variables.items()))


def read(text: str) -> Mapping[str, str]:
    """The variables of a text in any of the forms.

    Raises InvalidInput with the line; the sentence never shows a value, which may be a secret.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if "\ufffd" in text:
        line = _line(text, text.index("\ufffd"))
        raise _off(line, "there are bytes that are no UTF-8: save it as UTF-8 (and write U+FFFD as \\ufffd)")
    variables = dict(_json_pairs(text) if text.lstrip().startswith("{") else _line_pairs(text))
    if not variables:
        raise InvalidInput("env", "There is no variable in it: write NAME=VALUE lines, or a JSON object.")
    return variables


def _env_lines(variables: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{name}={_env_quoted(value)}" for name, value in variables)


def _env_quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if "'" not in value and not _ODD.search(value):
        return f"'{value}'"
    escaped = re.sub(r'[\\"$`]', r"\\\g<0>", value)
    return '"' + _ODD.sub(_code, escaped) + '"'


def _shell_lines(variables: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"export {name}={_shell_quoted(value)}" for name, value in variables)


def _shell_quoted(value: str) -> str:
    if not _ODD.search(value):
        return shlex.quote(value)
    escaped = re.sub(r"[\\']", r"\\\g<0>", value)
    return "$'" + _ODD.sub(_shell_bytes, escaped) + "'"


def _shell_bytes(match: re.Match[str]) -> str:
    # Of UTF-8, as what \u gives depends on the locale of the shell that reads it.
    return "".join(f"\\x{byte:02x}" for byte in match[0].encode())


def _json_object(variables: Iterable[tuple[str, str]]) -> str:
    text = json.dumps(dict(variables), ensure_ascii=False, indent=2)
    # The object's own line ends are none of these; those in values are escaped already.
    return _ODD.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


_WRITE: Mapping[str, Callable[[Iterable[tuple[str, str]]], str]] = {
    "shell": _shell_lines,
    "env": _env_lines,
    "json": _json_object,
}
FORMS = tuple(_WRITE)


def _line_pairs(text: str) -> Iterator[tuple[str, str]]:
    seen: dict[str, int] = {}
    at, line = 0, 1
    while (begin := _next(text, at)) < len(text):
        line += text.count("\n", at, begin)
        found = _NAME.match(text, begin)
        if found is None:
            raise _off(line, "it is no NAME=VALUE (a value of several lines must stand in quotes)")
        name = _checked(found["name"], line)
        if name in seen:
            raise _off(line, f"{name} is set on line {seen[name]} already")
        seen[name] = line
        value, at = _value(text, found.end(), name, line)
        line += text.count("\n", begin, at)
        yield name, value


def _next(text: str, at: int) -> int:
    """Behind empty lines and comments."""
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _value(text: str, at: int, name: str, line: int) -> tuple[str, int]:
    """The value that begins there, and where it ends."""
    opening = _OPENING.match(text, at)
    if opening is None:
        end = text.find("\n", at)
        bare = text[at : end if end >= 0 else len(text)]
        comment = _COMMENT.search(bare)
        return bare[: comment.start() if comment else len(bare)].strip(" \t"), at + len(bare)
    value, at = "", opening.end()
    while part := _QUOTED.match(text, at):
        value += _unquoted(part)
        at = part.end()
    if text.startswith(("'", '"', "$'"), at):
        raise _off(line, f"the quote that the value of {name} begins with is never closed")
    ended = _END.match(text, at)
    if ended is None:
        raise _off(_line(text, at), f"something follows the closing quote of {name}")
    return value, ended.end()


def _unquoted(part: re.Match[str]) -> str:
    if part["literal"] is not None:
        return part["literal"]
    if part["shell"] is not None:
        return _SHELL_ESCAPE.sub(_shell_meant, part["shell"])
    return _ESCAPE.sub(_meant, part["escaped"])


def _meant(match: re.Match[str]) -> str:
    return chr(int(match["code"], 16)) if match["code"] else _SIGNS.get(match["sign"], match["sign"])


def _shell_meant(match: re.Match[str]) -> str:
    if match["bytes"]:
        return bytes.fromhex(match["bytes"].replace("\\x", "")).decode("utf-8", "replace")
    return _SIGNS.get(match["sign"], match["sign"])


def _json_pairs(text: str) -> Iterator[tuple[str, str]]:
    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict[str, Any]()
        for name, value in given:
            if name in found:
                raise InvalidInput("env", f"{check_env_name(name)} is in the JSON object twice.")
            found[name] = value
        return found

    try:
        # Numbers stay as they are written: 1.10 is no 1.1.
        found = json.loads(text, object_pairs_hook=pairs, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise _off(error.lineno, f"it is no valid JSON, {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise InvalidInput("env", "The JSON is nested too deep: one object of texts is wanted.") from None
    for name, value in found.items():
        check_env_name(name)
        if not isinstance(value, str | bool):
            raise InvalidInput("env", f"The value of {name} must be a text or a number.")
        yield name, str(value).lower() if isinstance(value, bool) else value


def _checked(name: str, line: int) -> str:
    try:
        return check_env_name(name)
    except InvalidInput as error:
        raise InvalidInput("env", f"Line {line}: {error}") from None


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _off(line: int, what: str) -> InvalidInput:
    return InvalidInput("env", f"Line {line}: {what}.")
