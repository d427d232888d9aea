"""The base that the run variant is made from: Debian's own image, else the same made here."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import docker.errors
import requests
from docker import APIClient

from contrib.stack.engine import engine_url
from contrib.stack.errors import StackError
from contrib.stack.host import SUITE, Host, mirror
from contrib.stack.inputs import VERSION
from contrib.stack.transcript import line, step

PUBLISHED = f"debian:{SUITE}-slim"
MADE = f"mooring/stack:{VERSION}-base"
SILENCE = 10
"""Seconds without an answer after which a registry counts as not there."""
NEEDLESS = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/cache",
    "var/log",
    "var/lib/apt/lists",
)


def ensure_base(client: APIClient, host: Host, asked: str) -> str:
    """The name of an image that the engine has. `asked`: one by name, or "". Raises StackError."""
    if asked:
        if not _is_there(client, asked) and not _can_pull(client, asked):
            raise StackError(f"The base image {asked} is not on the engine and can't be pulled.")
        return asked
    for name in (PUBLISHED, MADE):
        if _is_there(client, name):
            return name
    step(f"Pulling {PUBLISHED}")
    if _can_pull(client, PUBLISHED):
        return PUBLISHED
    line("no registry answers")
    step(f"Making a base of Debian {SUITE} with debootstrap")
    _make(client, host)
    return MADE


def _is_there(client: APIClient, name: str) -> bool:
    try:
        client.inspect_image(name)  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        return False
    return True


def _can_pull(client: APIClient, name: str) -> bool:
    """Whether it is on the engine now. A pull itself has no limit: its registry has answered before."""
    brief = APIClient(base_url=engine_url(), version=client.api_version, timeout=SILENCE)
    try:
        brief.inspect_distribution(name)  # type: ignore[no-untyped-call]
        repository, _, tag = name.partition(":")
        client.pull(repository, tag=tag or "latest")
        return _is_there(client, name)
    except (docker.errors.APIError, requests.exceptions.RequestException):
        return False
    finally:
        brief.close()


def _make(client: APIClient, host: Host) -> None:
    if not shutil.which("debootstrap", path=_path()):
        raise StackError(
            f"{PUBLISHED} can't be pulled, and debootstrap, which could make such an image, is not installed."
        )
    if os.geteuid() != 0:
        raise StackError(
            f"{PUBLISHED} can't be pulled, and only root can make such an image: run this as root."
        )
    with tempfile.TemporaryDirectory(prefix="moor-stack-") as folder:
        root = Path(folder) / "root"
        _debootstrap(root, host)
        archive = Path(folder) / "base.tar"
        _run(
            [
                "tar",
                "--create",
                "--file",
                str(archive),
                "--directory",
                str(root),
                "--one-file-system",
                "--sort=name",
                ".",
            ]
        )
        client.import_image(src=str(archive), repository=MADE.partition(":")[0], tag=MADE.partition(":")[2])


def _debootstrap(root: Path, host: Host) -> None:
    command = ["debootstrap", "--variant=minbase", "--force-check-gpg", SUITE, str(root)]
    found = mirror(host)
    _run([*command, found] if found else command)
    for each in NEEDLESS:
        for path in sorted((root / each).glob("*")):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (root / "etc/apt/sources.list").write_text(_sources())


def _sources() -> str:
    """Debian's own address, which debootstrap knows: a mirror of this machine is nobody else's."""
    script = shutil.which("debootstrap", path=_path())
    assert script
    known = re.search(r"^DEF_MIRROR=\"?([^\"\s]+)", Path(script).read_text(), re.MULTILINE)
    if known is None:
        raise StackError("This debootstrap does not say which mirror it takes by default; use --base IMAGE.")
    main = known[1]
    security = re.sub(r"/debian/?$", "/debian-security", main)
    return f"deb {main} {SUITE} main\ndeb {main} {SUITE}-updates main\ndeb {security} {SUITE}-security main\n"


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "PATH": _path()},
    )
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise StackError(f"{command[0]} ended with status {done.returncode}:\n{said}")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
