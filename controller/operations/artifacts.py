"""What a caller says that a build made: checked before it gets to paths, units and command lines. Pure."""

import re

from controller.errors import InvalidInput
from controller.image_names import ID
from controller.names import check_env_name, check_process_type
from controller.operations.text import is_passable
from controller.schedules import check_schedule
from controller.types import Artifact, ArtifactKind, Manifest

MAX_COMMAND = 16 * 1024
MAX_VALUE = 64 * 1024
"""Bytes of one variable's value: the kernel takes 128 KiB for one string of a process's environment."""
MAX_ENV = 256 * 1024
"""Bytes of all variables together."""

MAX_FOLDER = 500
"""Characters of the folder that an archive was made of."""

MAX_JOBS = 100
"""Of each kind in an app.json."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_OURS = re.compile(r"mooring-[0-9a-z]+/[^/]+/[^/]+")
_COMMIT = re.compile(r"[0-9a-f]{4,64}")


def check_image(reference: str) -> str:
    """Return it when it can be the reference of an image; raise InvalidInput otherwise."""
    if not _IMAGE.fullmatch(reference) or ".." in reference:
        raise InvalidInput("image", f"{reference[:80]!a} is no image: use a reference such as redis:7.")
    if _OURS.match(reference):
        raise InvalidInput(
            "image", f"{reference[:80]!a} is how the server keeps images of apps: name another one."
        )
    if reference.startswith("sha256:") and not ID.fullmatch(reference):
        raise InvalidInput(
            "image", f"{reference[:80]!a} is a part of an image's id: write all of its 64 digits."
        )
    return reference


def check_artifact(artifact: Artifact) -> Artifact:
    """Return it when all of it is well formed; raise InvalidInput otherwise."""
    if artifact.kind is ArtifactKind.IMAGE:
        check_image(artifact.reference)
    elif not _DIGEST.fullmatch(artifact.reference):
        raise InvalidInput("artifact", "A slug's reference is the SHA-256 of its content, in 64 hex digits.")
    for kind, command in artifact.process_types.items():
        if kind:
            check_process_type(kind)
        if not command.strip() or not is_passable(command) or len(command) > MAX_COMMAND:
            raise InvalidInput(
                "artifact", f"The command of the process type {kind or 'web'} is no command line."
            )
    for name, value in artifact.env.items():
        check_env_name(name)
        if not is_passable(value) or len(value) > MAX_VALUE:
            raise InvalidInput("artifact", f"The value of {name} can't be given to a process.")
    if sum(map(len, (*artifact.env, *artifact.env.values()))) > MAX_ENV:
        raise InvalidInput("artifact", f"Its variables are larger than {MAX_ENV // 1024} KiB together.")
    _check_manifest(artifact.manifest)
    return artifact


def _check_manifest(manifest: Manifest) -> None:
    commands = (manifest.predeploy, manifest.postdeploy, manifest.first_postdeploy)
    jobs = [each.command for each in manifest.cron]
    checked = [each.command for each in manifest.checks.values()]
    for command in filter(None, (*commands, *jobs, *checked)):
        if not command.strip() or not is_passable(command) or len(command) > MAX_COMMAND:
            raise InvalidInput("artifact", "A command of its app.json is no command line.")
    for name, wish in manifest.env.items():
        check_env_name(name)
        if not is_passable(wish.value or "") or len(wish.value or "") > MAX_VALUE:
            raise InvalidInput("artifact", f"The value of {name} can't be given to a process.")
    for kind in manifest.checks:
        check_process_type(kind)
    for job in manifest.cron:
        check_schedule(job.schedule, "artifact.manifest.cron.schedule")
    if len(manifest.cron) > MAX_JOBS or len(manifest.checks) > MAX_JOBS:
        raise InvalidInput("artifact", f"Its app.json has more than {MAX_JOBS} jobs or checks.")


def check_commit(commit: str | None) -> str | None:
    """Return it when it is None or can be a commit id; raise InvalidInput otherwise."""
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise InvalidInput("commit", f"{commit[:80]!a} is no commit id: use its hex digits.")
    return commit


def check_origin(origin: str) -> str:
    """Return it when it is empty, a commit id, or one with `:FOLDER`; raise InvalidInput otherwise."""
    commit, _, folder = origin.partition(":")
    if origin and (not _COMMIT.fullmatch(commit) or len(folder) > MAX_FOLDER or not folder.isprintable()):
        raise InvalidInput(
            "origin", f"{origin[:80]!a} is no commit of an archive: write COMMIT or COMMIT:FOLDER."
        )
    return origin
