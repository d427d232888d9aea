"""Taking a data folder for one server, and finding out that one cannot be had."""

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controller.config import DataFolder, Listen
from controller.errors import Refused


@contextlib.contextmanager
def owned(folders: DataFolder) -> Iterator[None]:
    """Make the data folder and hold it for this process; raises Refused when it can't be had."""
    root = folders.root
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Apps run as users of their own and reach their slugs through this folder; they can't list it.
        root.chmod(0o711)
        lock = folders.lock.open("a+")
    except OSError as error:
        raise Refused(
            f"The data folder {root} can't be used: {error.strerror}. "
            "Choose another with --data, or give this user the right to write there."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            owner = folders.lock.read_text().strip() or "unknown"
            raise Refused(
                f"Another server (process {owner}) uses the data folder {root}. "
                "Stop it with `moor server:stop`, or choose another folder with --data."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def owner(folders: DataFolder) -> int | None:
    """The process id of the server that holds the data folder; None when none does."""
    try:
        with folders.lock.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read() or 0) or None
    except (FileNotFoundError, ValueError):
        return None
    return None


def listening_socket(listen: Listen, setting: str) -> socket.socket:
    """A socket that listens at that address; raises Refused naming the setting when there can be none."""
    try:
        listening = socket.create_server(
            (listen.host, listen.port),
            family=socket.AF_INET6 if ":" in listen.host else socket.AF_INET,
            backlog=512,
        )
    except OSError as error:
        raise Refused(
            f"--{setting} {listen}: {error.strerror or error}. "
            f"Choose another address with --{setting} or MOOR_{setting.upper()}."
        ) from error
    # Inherited by each connection: an answer's head and body go in two writes, and asyncio sets this
    # on sockets that it opened itself only. Without it every call takes 40 ms more.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def check_free(listen: Listen, setting: str) -> int:
    """The port that can be listened at (a free one for port 0); raises Refused when it is taken."""
    with listening_socket(listen, setting) as probe:
        port: int = probe.getsockname()[1]
        return port


def write_whole(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_server_info(folders: DataFolder) -> Mapping[str, Any]:
    """What the last server wrote of itself; empty when there was none."""
    try:
        content = json.loads(folders.server_info.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
