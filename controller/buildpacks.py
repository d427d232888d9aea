"""How a buildpack is named: a bundled one, a folder of the server, or a git repository. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, urlsplit

from controller.errors import InvalidInput

MAX_BUILDPACKS = 20
MAX_LENGTH = 500
INLINE = "inline"
"""Names the app itself, where it has the programs of a buildpack in its own `bin/`."""
FIELD = "buildpacks"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,200}")
_SHORT = "heroku/"
"""What app.json files of other hosts say before the name of an official one; ours of that name stands in."""


@dataclass(frozen=True)
class Bundled:
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Folder:
    """A folder of the server's own machine."""

    path: PurePosixPath

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Repository:
    url: str
    ref: str = ""
    """Branch, tag or whole commit id; empty: the repository's default branch."""

    def __str__(self) -> str:
        return f"{self.url}#{self.ref}" if self.ref else self.url


Source = Bundled | Folder | Repository


def parse_buildpack(text: str) -> Source:
    """Raises InvalidInput, saying what there is to write."""
    text = text.strip()
    if len(text) > MAX_LENGTH or not text.isprintable():
        raise InvalidInput(FIELD, "A buildpack's name must be a line of at most 500 printable characters.")
    if "://" in text:
        return _repository(text)
    if text.startswith("/"):
        return _folder(text)
    if _NAME.fullmatch(text.removeprefix(_SHORT)):
        return Bundled(text.removeprefix(_SHORT))
    raise InvalidInput(
        FIELD,
        f"{text[:60]!a} names no buildpack: write the name of a bundled one (such as nodejs), the https URL of a "
        "git repository (with #BRANCH, #TAG or #COMMIT behind it), or a folder of the server.",
    )


def parse_buildpacks(texts: Sequence[str]) -> tuple[Source, ...]:
    """In their order. Raises InvalidInput."""
    if len(texts) > MAX_BUILDPACKS:
        raise InvalidInput(
            FIELD, f"There are {len(texts)} buildpacks; at most {MAX_BUILDPACKS} are possible."
        )
    found = tuple(parse_buildpack(each) for each in texts)
    for number, each in enumerate(found):
        if each in found[:number]:
            raise InvalidInput(FIELD, f"The buildpack {each} is there twice.")
    return found


def parse_build_dir(text: str) -> str:
    """The folder of a repository that is built, from its top; empty: all of it. Raises InvalidInput."""
    path = PurePosixPath(text)
    parts = [part for part in path.parts if part != "."]
    if (
        path.is_absolute()
        or len(text) > MAX_LENGTH
        or not text.isprintable()
        or any(part in ("..", ".git") for part in parts)
    ):
        raise InvalidInput(
            "build-dir", "build-dir must be a folder inside the repository, such as services/api."
        )
    return "/".join(parts)


def _repository(text: str) -> Repository:
    url, _, ref = text.partition("#")
    parts = _split(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or not parts.path.strip("/"):
        raise InvalidInput(
            FIELD, f"{text[:100]!a}: a buildpack is fetched by https, as in https://example.org/pack.git#v2."
        )
    if parts.username is not None or parts.password is not None or parts.query:
        raise InvalidInput(
            FIELD, "A buildpack's URL can't have a user, a password or a query in it: everybody may see it."
        )
    if ref and (not _REF.fullmatch(ref) or ".." in ref):
        raise InvalidInput(FIELD, f"{ref[:60]!a} is no name of a branch or a tag, nor a commit.")
    return Repository(url, ref)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidInput(FIELD, f"{url[:100]!a} is no valid URL.") from error
    return parts


def _folder(text: str) -> Folder:
    path = PurePosixPath(text)
    if ".." in path.parts:
        raise InvalidInput(FIELD, f"{text[:100]!a}: a folder is named by its whole path, without `..`.")
    return Folder(path)
