"""`python -I -m controller.backends.keeper FOLDER GROUPS` starts the keeper of that folder in the background.

GROUPS is `yes` or `no`: whether it may use the kernel's control groups.

Exits with 0 once the keeper runs on its own (its socket may take a moment more), also when one was
running already.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import secrets
import signal
import sys
import time
from pathlib import Path

from supervisor import supervisord  # type: ignore[import-untyped]

from controller.backends.keeper import LOCK, SOCKET
from controller.backends.keeper.groups import Groups
from controller.backends.keeper.processes import Census, Family, end_all, send
from controller.backends.keeper.request import Files, remove_leftovers

CONFIGURATION = f"""\
; Written at every start of the keeper. What to run is in instances/.
[supervisord]
nodaemon=true
silent=true
nocleanup=true
minfds=256
minprocs=1
childlogdir=%(here)s
logfile=%(here)s/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile=%(here)s/supervisord.pid

[unix_http_server]
file=%(here)s/{SOCKET}
chmod=0600

[rpcinterface:mooring]
supervisor.rpcinterface_factory=controller.backends.keeper.door:make_door
groups=GROUPS
"""
ORPHAN_GRACE = 5.0
"""Seconds that instances of a keeper that was killed get to end, before they are started again."""
OPEN_FILES = 65536
"""Three for each instance, and what the apps may raise theirs to."""


def main() -> None:
    folder, groups = Path(sys.argv[1]), sys.argv[2]
    lock = take_lock(folder)
    if lock is None or os.fork():
        os._exit(0)
    become_a_keeper()
    prepare_folder(folder, groups)
    end_orphans(folder)
    # Also those of a keeper that was let use them, where we are not.
    left = Groups.find((folder / "realm").read_text())
    left.sweep()
    remove_leftovers(folder)
    try:
        supervisord.main(["-c", str(folder / "supervisord.conf")])
    finally:
        end_the_rest()
        left.sweep()
        left.close()


def take_lock(folder: Path) -> int | None:
    """Held until we are gone; None when somebody else has it."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    return None


def become_a_keeper() -> None:
    os.setsid()
    os.umask(0o077)
    set_subreaper()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def set_subreaper() -> None:
    """Orphans of our instances become our children, so that we find them."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def prepare_folder(folder: Path, groups: str) -> None:
    (folder / "instances").mkdir(mode=0o700, exist_ok=True)
    # Apps reach their own TMPDIR below it, and can't list their neighbours.
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "tmp").chmod(0o711)
    (folder / "supervisord.conf").write_text(CONFIGURATION.replace("GROUPS", groups))
    if not (folder / "realm").exists():
        (folder / "realm.new").write_text(secrets.token_hex(8))
        (folder / "realm.new").replace(folder / "realm")


def end_orphans(folder: Path) -> None:
    """What a keeper before us has left running: its pipes are broken, so it can't be kept."""
    names = {each.stem for each in (folder / "instances").iterdir() if each.suffix != ".new"}
    leaders = frozenset().union(*(Files(folder, each).leaders() for each in names))
    end_all(Family((folder / "realm").read_text() + "/", leaders), grace=ORPHAN_GRACE)
    for path in (folder / "instances").glob("*.stopping"):
        Files(folder, path.stem).forget()


def end_the_rest() -> None:
    """Whatever still runs below us when we go."""
    deadline = time.monotonic() + ORPHAN_GRACE
    while time.monotonic() < deadline:
        census = Census.take()
        living = census.living(census.below({os.getpid()}))
        if not living:
            return
        send(signal.SIGKILL, living)
        time.sleep(0.02)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main()
