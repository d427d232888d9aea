"""How the forked child of the keeper becomes the app, with nothing of ours left in it."""

import os
import pwd
import resource
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from controller.backends.keeper.processes import MARKER, boot_id, read_process
from controller.backends.keeper.request import Files, Request, write_whole

OPEN_FILES = 8192
"""Soft limit of open files of an app without a limit of its own; its hard limit is the keeper's."""
RESTORED_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2),
    *(signal.SIGPIPE, signal.SIGXFSZ),
)
"""Those that supervisord or Python handle or ignore."""


def join(groups: Iterable[str]) -> None:
    """Move into control groups, before anything of the app runs."""
    for each in groups:
        with open(each, "w") as file:  # noqa: PTH123 - no more imports in a forked child than need be
            file.write("0")


def become_app(request: Request, files: Files, *, port: int | None, marker: str, output: int) -> NoReturn:
    """Everything that needs our rights first, then the app's rights, then the app."""
    os.setsid()
    restore_signals()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    me = read_process(os.getpid())
    assert me is not None
    write_whole(files.process, f"{boot_id()} {me.pid} {me.started}\n", durable=False)
    turn_into_app(request, files, port=port, marker=marker)


def turn_into_app(
    request: Request,
    files: Files,
    *,
    port: int | None,
    marker: str,
    before_exec: Callable[[], None] = lambda: None,
) -> NoReturn:
    """From our rights to the app's, and to the app. `before_exec` is called with the app's rights."""
    files.temporary.mkdir(mode=0o700, exist_ok=True)
    set_limits(request.limits.get("nofile"))
    os.umask(0o022)
    env = environment(request, files, port=port, marker=marker)
    program, arguments = shell_command(request.command)
    if request.uid is not None and os.geteuid() == 0:
        os.chown(files.temporary, request.uid, request.uid)
        os.setgroups([])
        os.setgid(request.uid)
        os.setuid(request.uid)
    before_exec()
    os.chdir(request.folder)
    os.execve(program, arguments, env)  # noqa: S606 - a list on purpose


def environment(request: Request, files: Files, *, port: int | None, marker: str) -> dict[str, str]:
    """All of it: the defaults, what was asked for, and what the keeper alone decides."""
    env = default_environment(request) | {"TMPDIR": str(files.temporary)} | dict(request.env)
    if port is not None:
        env["PORT"] = str(port)
    return env | {MARKER: marker}


def shell_command(command: str) -> tuple[str, list[str]]:
    """Program and arguments that source `.profile.d` and end up as the command itself.

    The second shell is given nothing but the command, so that it replaces itself with a simple one
    (bash and dash both do): SIGTERM then reaches the app and not a shell that doesn't pass it on.
    """
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    script = (
        'for file in .profile.d/*.sh; do if [ -r "$file" ]; then . "./$file"; fi; done; unset file; '
        f'exec {shell} -c "$1"'
    )
    return shell, [shell, "-c", script, "moor", command]


def default_environment(request: Request) -> dict[str, str]:
    """What a program may expect to be set; the request's own wins."""
    uid = os.geteuid() if request.uid is None else request.uid
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = "app"
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": request.folder,
        "LANG": "C.UTF-8",
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
    }


def set_limits(open_files: float | None) -> None:
    """`open_files` None: as many as the keeper itself may have, with `OPEN_FILES` to begin with."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if open_files is not None:
        hard = int(open_files) if hard == resource.RLIM_INFINITY else min(int(open_files), hard)
    soft = (
        hard
        if open_files is not None
        else OPEN_FILES
        if hard == resource.RLIM_INFINITY
        else min(OPEN_FILES, hard)
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def restore_signals() -> None:
    """What was ignored stays so over an exec: Python ignores SIGPIPE, nohup SIGHUP."""
    for each in RESTORED_SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
