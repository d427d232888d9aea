"""What may be said of how a Dockerfile is built. Pure."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from controller.errors import InvalidInput
from controller.names import check_env_name

MAX_LENGTH = 500
MAX_ARGS, MAX_VALUE = 100, 16 * 1024
MAX_SECRETS = 50
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_dockerfile(text: str) -> str:
    """The file, from the top of what is built; empty: `Dockerfile`. Raises InvalidInput."""
    path = PurePosixPath(text)
    parts = [part for part in path.parts if part != "."]
    if (
        path.is_absolute()
        or len(text) > MAX_LENGTH
        or not text.isprintable()
        or "," in text
        or (text and not parts)
        or any(part in ("..", ".git") or part.startswith("-") for part in parts)
    ):
        raise InvalidInput(
            "dockerfile", "dockerfile must be a file inside what is built, such as deploy/Dockerfile."
        )
    return "/".join(parts)


def check_target(text: str) -> str:
    """A stage of a Dockerfile, by name or number; empty: the last one. Raises InvalidInput."""
    if text and not _TARGET.fullmatch(text):
        raise InvalidInput(
            "target", f"{text[:60]!a} is no stage of a Dockerfile: name one as in FROM … AS build."
        )
    return text


def changed_args(before: Mapping[str, str], changes: Mapping[str, str | None]) -> Mapping[str, str]:
    """With these set, and those of the value None taken away. Raises InvalidInput."""
    after = dict(before)
    for name, value in changes.items():
        check_env_name(name)
        if value is None:
            after.pop(name, None)
            continue
        if len(value) > MAX_VALUE or "\0" in value:
            raise InvalidInput(
                "args", f"The value of {name} is too long for a build argument, or has a NUL in it."
            )
        after[name] = value
    if len(after) > MAX_ARGS:
        raise InvalidInput(
            "args", f"There are {len(after)} build arguments; at most {MAX_ARGS} are possible."
        )
    return after


def check_secrets(names: Sequence[str]) -> tuple[str, ...]:
    """Names of config variables, each once. Raises InvalidInput."""
    if len(names) > MAX_SECRETS:
        raise InvalidInput("secrets", f"There are {len(names)} secrets; at most {MAX_SECRETS} are possible.")
    return tuple(dict.fromkeys(check_env_name(each) for each in names))
