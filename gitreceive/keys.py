"""The server's own SSH keys: the one that it is known by, and the one that it fetches private source with."""

import os
from pathlib import Path

import asyncssh


def ensure_key(path: Path, *, comment: str = "mooring") -> asyncssh.SSHKey:
    """The ed25519 key in that file, made when missing. Raises OSError, or asyncssh.KeyImportError for a bad file."""
    if path.exists():
        return asyncssh.read_private_key(path)
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.export_private_key())
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    return key
