"""Folders of services that outlive their versions, on this machine."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from controller.backends.base import BackendError, InstanceSpec


def volume_folders(root: Path, spec: InstanceSpec) -> Mapping[str, Path]:
    """Where its volumes are, or would be: name to folder."""
    return {name: root / spec.deployment / spec.service / name for name in spec.volumes}


async def ensure_volumes(root: Path, spec: InstanceSpec) -> None:
    """Make those that are not there, and give them to the service's user. Raises BackendError."""
    folders = volume_folders(root, spec)
    if not folders:
        return
    try:
        await asyncio.to_thread(_ensure, root, folders, spec.uid)
    except OSError as error:
        raise BackendError(f"The volumes of {spec.id} can't be made: {error.strerror or error}.") from error


def _ensure(root: Path, folders: Mapping[str, Path], uid: int | None) -> None:
    for folder in folders.values():
        for outer in (root, folder.parent.parent, folder.parent):
            outer.mkdir(mode=0o711, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        # What an instance has given to somebody else (images with users of their own do) stays theirs.
        if uid is not None and os.geteuid() == 0 and folder.stat().st_uid == 0 and not any(folder.iterdir()):
            os.chown(folder, uid, uid)
