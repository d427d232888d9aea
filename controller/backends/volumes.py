"""Folders of services that outlive their versions, on this machine."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from controller.backends.base import BackendError, InstanceSpec
from controller.backends.owners import Owner

PASSABLE, CLOSED = 0o711, 0o700
"""Modes of the folders above them: where their users come in from here, and where engines alone do."""


def volume_folders(root: Path, spec: InstanceSpec) -> Mapping[str, Path]:
    """Where its volumes are, or would be: name to folder."""
    return {name: root / spec.deployment / spec.service / name for name in spec.volumes}


async def ensure_volumes(
    root: Path, spec: InstanceSpec, *, owner: Owner | None = None, above: int = PASSABLE
) -> None:
    """Make those that are not there, and give them to `owner` (None: the service's user). `above`: the mode of the
    folders that they are in. Raises BackendError."""
    folders = volume_folders(root, spec)
    if not folders:
        return
    if owner is None and spec.uid is not None:
        owner = Owner(spec.uid, spec.uid)
    try:
        await asyncio.to_thread(_ensure, root, folders, owner, above)
    except OSError as error:
        raise BackendError(f"The volumes of {spec.id} can't be made: {error.strerror or error}.") from error


def _ensure(root: Path, folders: Mapping[str, Path], owner: Owner | None, above: int) -> None:
    for folder in folders.values():
        for outer in (root, folder.parent.parent, folder.parent):
            outer.mkdir(mode=above, exist_ok=True)
            if outer.stat().st_mode & 0o777 != above:
                outer.chmod(above)
        folder.mkdir(mode=0o700, exist_ok=True)
        # What an instance has given to somebody else (images with users of their own do) stays theirs.
        if (
            owner is not None
            and os.geteuid() == 0
            and folder.stat().st_uid == 0
            and not any(folder.iterdir())
        ):
            os.chown(folder, owner.uid, owner.gid)
