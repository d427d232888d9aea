"""A commit of our own making: files of a folder, written as git objects into a push's quarantine."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builder.base import BuilderUnavailable
from builder.threads import Check, run_blocking
from builder.tree import Node, walk
from gitreceive.git import Git, environment
from gitreceive.quarantine import Quarantine

_CHUNK = 256 * 1024
_REF = "refs/heads/made"
_GIT_FOLDER = ".git"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What is to be a commit."""

    tree: Path | str
    """The folder with the files, or the id of a tree that is there already."""
    parent: str | None
    author: str
    """`NAME <ADDRESS>`, as git writes it."""
    message: str


def author_of(user: str, domain: str) -> str:
    """A user of the server as an author."""
    plain = "".join(each for each in user if each.isprintable() and each not in "<>") or "unknown"
    return f"{plain} <{plain.replace(' ', '.')}@{domain}>"


async def make_commit(git: Git, place: Quarantine, made: Made) -> str:
    """Write it; its id. Files are kept byte by byte, and what is named `.git` is left out.

    Raises BuilderUnavailable when git fails, BuildFailed for folders that are nested too deep.
    """
    return await run_blocking(lambda check: _make_commit(git, place, made, check))


async def tree_of(git: Git, place: Quarantine, commit: str) -> str:
    """The id of a commit's tree."""
    status, output, errors = await git.ask(
        place.repository, "rev-parse", "--verify", f"{commit}^{{tree}}", env=place.environment
    )
    if status:
        raise BuilderUnavailable(f"git could not read {commit[:7]}: {errors.decode(errors='replace')[-200:]}")
    return output.decode().strip()


def _make_commit(git: Git, place: Quarantine, made: Made, check: Check) -> str:
    # git's fast-import moves a ref, which is none of the repository's business: it gets one of its own.
    scratch = Path(tempfile.mkdtemp(prefix="commit-", dir=place.environment["GIT_OBJECT_DIRECTORY"]))
    try:
        for each in ("objects", "refs"):
            (scratch / each).mkdir()
        (scratch / "HEAD").write_text(f"ref: {_REF}\n")
        _import(git, place, scratch, made, check)
        return (scratch / _REF).read_text().strip()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _import(git: Git, place: Quarantine, scratch: Path, made: Made, check: Check) -> None:
    objects = {"GIT_OBJECT_DIRECTORY": place.environment["GIT_OBJECT_DIRECTORY"]}
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            # A pack also of a single object: what lies loose in a quarantine is not kept.
            [
                *(git.program, "-c", "safe.directory=*", "-c", "fastimport.unpackLimit=0"),
                # Speed before size: git packs anew when there are many packs.
                *("-c", "pack.compression=1"),
                *("fast-import", "--quiet", "--depth=0", "--done", "--date-format=raw"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment(scratch) | objects,
            cwd="/",
            start_new_session=True,
        ) as process:
            assert process.stdin is not None
            try:
                for piece in _stream(made, check):
                    process.stdin.write(piece)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended, and its status tells
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            errors.seek(0)
            said = errors.read(4096).decode(errors="replace").strip().splitlines()
            raise BuilderUnavailable(
                f"git could not keep the files: {said[0] if said else 'no reason given'}"
            )


def _stream(made: Made, check: Check) -> Iterator[bytes]:
    stamp = f"{made.author} {int(time.time())} +0000\n"
    yield f"commit {_REF}\nauthor {stamp}committer {stamp}".encode()
    yield _data(made.message.encode())
    if made.parent is not None:
        yield f"from {made.parent}\n".encode()
    if isinstance(made.tree, str):
        yield f'M 040000 {made.tree} ""\n'.encode()
    else:
        yield b"deleteall\n"
        for node in walk(made.tree):
            check()
            if _GIT_FOLDER not in node.path.lower().split("/"):
                yield from _file(node)
    yield b"done\n"


def _file(node: Node) -> Iterator[bytes]:
    if node.is_link:
        target = os.readlink(node.name, dir_fd=node.parent)
        yield b"M 120000 inline " + _quoted(node.path) + b"\n" + _data(os.fsencode(target))
    elif node.is_file:
        mode = "100755" if node.info.st_mode & 0o100 else "100644"
        yield f"M {mode} inline ".encode() + _quoted(node.path) + b"\n"
        yield f"data {node.info.st_size}\n".encode()
        opened = os.open(node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=node.parent)
        with os.fdopen(opened, "rb") as file:
            yield from _pieces(file)
        yield b"\n"


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _quoted(path: str) -> bytes:
    """As git's own C style: whatever is in a name, it ends where it should."""
    raw = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + raw + b'"'
