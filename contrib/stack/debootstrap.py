"""A small Debian made on this machine, for where no registry has one."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from docker import APIClient

from contrib.stack.errors import StackError
from contrib.stack.host import SUITE, Host, mirror
from contrib.stack.inputs import source_date

NEEDLESS = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale"),
    *("var/cache", "var/log", "var/lib/apt/lists"),
)
"""Folders without whose files Debian's own slim image does as well. What packages are licensed by stays."""
OF_THIS_MACHINE = ("etc/resolv.conf", "etc/hostname", "etc/machine-id")
"""What debootstrap copies from here, or makes for one machine."""


def make_image(client: APIClient, host: Host, repository: str, tag: str) -> None:
    """Raises StackError."""
    program = _find_program()
    with tempfile.TemporaryDirectory(prefix="moor-stack-") as folder:
        root, archive = Path(folder) / "root", Path(folder) / "base.tar"
        command = [program, "--variant=minbase", "--force-check-gpg", SUITE, str(root)]
        _run([*command, found] if (found := mirror(host)) else command)
        for each in _needless_files(root):
            each.unlink()
        (root / "etc/apt/sources.list").write_text(_sources(Path(program).read_text()))
        _run(archive_command(root, archive, source_date()))
        client.import_image(src=str(archive), repository=repository, tag=tag)


def archive_command(root: Path, archive: Path, date: int) -> Sequence[str]:
    """The same archive of the same files, whenever it is made."""
    return [
        *("tar", "--create", "--file", str(archive), "--directory", str(root)),
        *("--one-file-system", "--numeric-owner", "--sort=name", f"--mtime=@{date}", "--clamp-mtime", "."),
    ]


def _find_program() -> str:
    program = shutil.which("debootstrap", path=_path())
    if program is None:
        raise StackError(
            "No registry has a Debian for us, and debootstrap, which could make one, is not installed: "
            "install it, or name an image with --base."
        )
    if os.geteuid() != 0:
        raise StackError(
            "No registry has a Debian for us, and only root can make one: run this as root, "
            "or name an image with --base."
        )
    return program


def _needless_files(root: Path) -> Iterator[Path]:
    yield from (path for each in OF_THIS_MACHINE if (path := root / each).exists())
    yield from (root / "var/lib/dpkg").glob("*-old")
    for each in NEEDLESS:
        for folder, _, names in os.walk(root / each):
            yield from (Path(folder) / name for name in names if name != "copyright")


def _sources(script: str) -> str:
    """At Debian's own address, which debootstrap knows: a mirror of this machine is nobody else's."""
    known = re.search(r"^DEF_MIRROR=\"?([^\"\s]+)", script, re.MULTILINE)
    if known is None:
        raise StackError("This debootstrap does not say which mirror it takes by default: use --base IMAGE.")
    main = known[1]
    security = re.sub(r"/debian/?$", "/debian-security", main)
    return f"deb {main} {SUITE} main\ndeb {main} {SUITE}-updates main\ndeb {security} {SUITE}-security main\n"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "PATH": _path()},
    )
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[-20:])
        raise StackError(f"{command[0]} ended with status {done.returncode}:\n{said}")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
