"""Which server to ask, and the token for it.

In this order: `MOOR_URL` with `MOOR_TOKEN`; `MOOR_DATA`, on the server's own machine; what
`moor login` kept in `~/.config/mooring/credentials`; else the default address without a token.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.errors import InvalidInput, Unauthenticated, Unavailable

DEFAULT_URL = "http://127.0.0.1:5555"


@dataclass(frozen=True)
class Server:
    url: str
    token: str


@dataclass(frozen=True)
class Credentials:
    """What the credentials file holds."""

    default: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    """URL to token."""


def find_server(environ: Mapping[str, str], *, wanted: str | None = None) -> Server:
    """The server to ask. `wanted` is a URL or host of one logged in to.

    Raises Unavailable, Unauthenticated or InvalidInput with the way out.
    """
    if wanted is None and environ.get("MOOR_URL"):
        url = checked_url(environ["MOOR_URL"], "MOOR_URL")
        return _with_token(url, environ.get("MOOR_TOKEN") or read_credentials(environ).tokens.get(url))
    if wanted is None and environ.get("MOOR_DATA"):
        return _of_data_folder(Path(environ["MOOR_DATA"]), environ.get("MOOR_TOKEN"))
    kept = read_credentials(environ)
    url = _chosen(kept, wanted)
    return _with_token(url, environ.get("MOOR_TOKEN") or kept.tokens.get(url))


def _with_token(url: str, token: str | None) -> Server:
    if not token:
        raise Unauthenticated(
            f"No token for {url}: on the server's own machine set MOOR_DATA to its data folder, "
            "elsewhere use `moor login URL`, or set MOOR_TOKEN."
        )
    return Server(url, token)


def _chosen(kept: Credentials, wanted: str | None) -> str:
    if wanted is None:
        return kept.default or DEFAULT_URL
    matching = [url for url in kept.tokens if wanted in (url, url.partition("://")[2])]
    if matching:
        return matching[0]
    known = f" Known are: {', '.join(kept.tokens)}." if kept.tokens else ""
    raise InvalidInput("server", f"You are not logged in to {wanted}: use `moor login URL`.{known}")


def _of_data_folder(data: Path, token: str | None) -> Server:
    from controller.config import DataFolder

    folder = DataFolder(data)
    try:
        info = json.loads(folder.server_info.read_bytes())
        url = str(info["api"])
        token = token or folder.local_token.read_text().strip()
    except FileNotFoundError as error:
        raise Unavailable(
            f"No server runs on {data} (MOOR_DATA), or it is still starting: its log tells. Start one with "
            f"`moor server --data {data}`."
        ) from error
    except PermissionError as error:
        raise Unauthenticated(
            f"{error.filename} belongs to the server's user: run this as that user (sudo), "
            "or use `moor login URL` with a token of your own."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{folder.server_info} can't be read: {error}.") from error
    return Server(url, token)


def checked_url(text: str, name: str = "url") -> str:
    """The URL without a slash at its end; raises InvalidInput when it is none."""
    url = text.strip().rstrip("/")
    scheme, found, rest = url.partition("://")
    if scheme not in ("http", "https") or not found or not rest:
        raise InvalidInput(name, f"{name}: {text!r} is no address such as {DEFAULT_URL}.")
    return url


def credentials_path(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(base) / "mooring" / "credentials"


def read_credentials(environ: Mapping[str, str]) -> Credentials:
    path = credentials_path(environ)
    try:
        content: Any = json.loads(path.read_bytes())
        return Credentials(
            content["default"], {str(url): str(token) for url, token in content["tokens"].items()}
        )
    except FileNotFoundError:
        return Credentials()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            "credentials", f"{path} can't be read ({error}): use `moor login` again."
        ) from error


def keep_credentials(environ: Mapping[str, str], url: str, token: str) -> Path:
    """Remember the token and make that server the default one; the file's path.

    The file is written whole, readable by its owner only from the first byte on.
    """
    path = credentials_path(environ)
    kept = _kept_or_none(environ)
    content = {"default": url, "tokens": {**kept.tokens, url: token}}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _kept_or_none(environ: Mapping[str, str]) -> Credentials:
    try:
        return read_credentials(environ)
    except InvalidInput:
        return Credentials()  # a damaged file must not stop the login that mends it
