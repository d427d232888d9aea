"""Values of config at rest: sealed in the store, plain in memory.

The keys lie in a file of their own, outside of the store, so that a copy of the store alone tells no
secret. Each line of it is a key; the first one seals, all of them open. Rotation adds one in front,
seals everything anew and then forgets the others, so that it may be killed at any moment.

    AES-256-GCM; what is sealed is bound to its store key, so that it can't be moved to another one.
"""

import asyncio
import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.store.base import Json, Store, StoreConflict, StoreUnusable
from controller.wire import WireError

SEALED = "$sealed"
"""Stands in place of a mapping's names; no variable can have this one."""
CHECK_KEY = "meta/vault"
"""Something sealed, by which a start sees whether the keys fit."""
_KEY, _NONCE = 32, 12
"""Bytes."""


class Codec(Protocol):
    """What becomes of a record's JSON on its way to the store and back; neither changes what it is given."""

    def seal(self, key: str, value: Json, /) -> Json: ...
    def open(self, key: str, value: Json, /) -> Json:
        """Raises WireError."""

    def stale(self, key: str, value: Json, /) -> bool:
        """Whether it should be sealed anew."""


class Plain:
    """Nothing is sealed; what was is refused, rather than taken for something else."""

    def seal(self, _key: str, value: Json, /) -> Json:
        return value

    def open(self, key: str, value: Json, /) -> Json:
        return _mapped(key, value, _refuse_sealed)

    def stale(self, _key: str, _value: Json, /) -> bool:
        return False


def _refuse_sealed(names: Json) -> Json:
    if SEALED in names:
        raise WireError("it is sealed, and no key is at hand")
    return names


class Vault:
    """Seals under the first of its keys, opens under any. Made by `open_vault`."""

    def __init__(self, path: Path, keys: Sequence[bytes]) -> None:
        self._path = path
        self._use(keys)

    def _use(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)
        self._ciphers = {_id(each): AESGCM(each) for each in keys}
        self._first = _id(keys[0])

    def seal(self, key: str, value: Json, /) -> Json:
        return _mapped(key, value, lambda names: {SEALED: self._sealed(key, names)} if names else names)

    def open(self, key: str, value: Json, /) -> Json:
        return _mapped(
            key, value, lambda names: self._opened(key, names[SEALED]) if SEALED in names else names
        )

    def stale(self, key: str, value: Json, /) -> bool:
        found = list[bool]()

        def look(names: Json) -> Json:
            found.append(bool(names) and not str(names.get(SEALED, "")).startswith(self._first))
            return names

        _mapped(key, value, look)
        return any(found)

    def begin_rotation(self) -> None:
        """A new key, written down before it seals anything; the older ones go on to open. Blocks on the disk."""
        keys = (secrets.token_bytes(_KEY), *self._keys)
        _write(self._path, keys)
        self._use(keys)

    def end_rotation(self) -> None:
        """Forget the older keys: nothing is sealed with them any more. Blocks on the disk."""
        _write(self._path, self._keys[:1])
        self._use(self._keys[:1])

    def _sealed(self, key: str, names: Json) -> str:
        nonce = secrets.token_bytes(_NONCE)
        text = self._ciphers[self._first].encrypt(nonce, msgspec.json.encode(names), key.encode())
        return f"{self._first}:{base64.b64encode(nonce + text).decode()}"

    def _opened(self, key: str, token: Json) -> Json:
        named, _, text = str(token).partition(":")
        cipher = self._ciphers.get(named)
        if cipher is None:
            raise WireError(f"it is sealed with a key that is not in {self._path}")
        try:
            sealed = base64.b64decode(text)
            return msgspec.json.decode(cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], key.encode()))
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise WireError("what is sealed in it was changed, or belongs elsewhere") from error

    def fits(self, check: Json) -> bool:
        """Whether that can be opened which `open_vault` put into the store."""
        try:
            self.open(CHECK_KEY, check)
        except WireError:
            return False
        return True


async def open_vault(store: Store, path: Path) -> Vault:
    """The vault with the keys of that file, which is made for a store in which nothing is sealed yet.

    Raises StoreUnusable where the file is missing, can't be read, or does not fit what the store holds.
    """
    kept = await store.get(CHECK_KEY)
    try:
        if not await asyncio.to_thread(path.exists):
            if kept is not None:
                raise StoreUnusable(f"The key file {path} is missing. {_LOST}")
            await asyncio.to_thread(_write, path, (secrets.token_bytes(_KEY),))
        vault = Vault(path, await asyncio.to_thread(_read, path))
    except OSError as error:
        raise StoreUnusable(f"The key file {path} can't be used: {error.strerror}.") from error
    if kept is None:
        try:
            await store.put(CHECK_KEY, vault.seal(CHECK_KEY, {"check": {"fits": "yes"}}), expect=0)
        except StoreConflict:
            return await open_vault(store, path)
    elif not vault.fits(kept.value):
        raise StoreUnusable(f"The key file {path} is not the one of this store. {_LOST}")
    return vault


_LOST = (
    "Without it the values of all config variables are lost, and nothing else. Put the file back from your "
    "backup, or let the setting secret_key name the place where it is. If it is gone for good, begin with a new "
    "data folder: push the apps and set their config again."
)


def _mapped(key: str, value: Json, change: Callable[[Json], Json]) -> Json:
    """The record with its mappings of secrets changed. What has another form is left to its reader."""
    if not isinstance(value, dict):
        return value
    mapped = dict(value)
    kind = key.partition("/")[0]
    definition = value.get("definition")
    if (
        kind in ("services", "versions")
        and isinstance(definition, dict)
        and isinstance(definition.get("env"), dict)
    ):
        mapped["definition"] = {**definition, "env": change(definition["env"])}
    if kind == "services" and isinstance(value.get("guards"), dict):
        mapped["guards"] = change(value["guards"])
    if kind == "deployments" and isinstance(value.get("generated"), dict):
        mapped["generated"] = change(value["generated"])
    provided = value.get("provided")
    if kind == "versions" and isinstance(provided, dict):
        mapped["provided"] = _mapped_provided(provided, change)
    if kind in ("deployments", "versions") and isinstance(value.get("globals"), dict):
        mapped["globals"] = change(value["globals"])
    if kind == "deployments" and isinstance(value.get("vars"), dict):
        mapped["vars"] = change(value["vars"])
    if kind == "resources" and isinstance(value.get("values"), dict):
        mapped["values"] = change(value["values"])
    if kind == "runs" and isinstance(value.get("env"), dict):
        mapped["env"] = change(value["env"])
    if key == CHECK_KEY and isinstance(value.get("check"), dict):
        mapped["check"] = change(value["check"])
    return mapped


def _mapped_provided(provided: Json, change: Callable[[Json], Json]) -> Json:
    mapped = dict(provided)
    for name in ("vars", "env"):
        if isinstance(provided.get(name), dict):
            mapped[name] = change(provided[name])
    definition = provided.get("definition")
    if isinstance(definition, dict) and isinstance(definition.get("env"), dict):
        mapped["definition"] = {**definition, "env": change(definition["env"])}
    return mapped


def _id(key: bytes) -> str:
    return hashlib.sha256(b"mooring key " + key).hexdigest()[:12]


def _read(path: Path) -> Sequence[bytes]:
    try:
        keys = [base64.b64decode(line, validate=True) for line in path.read_text().split()]
    except ValueError:
        keys = []
    if not keys or any(len(each) != _KEY for each in keys):
        raise StoreUnusable(f"The key file {path} holds no keys of ours. {_LOST}")
    return keys


def _write(path: Path, keys: Sequence[bytes]) -> None:
    """Whole or not at all, on the disk before it returns, readable by its owner only."""
    text = "".join(f"{base64.b64encode(each).decode()}\n" for each in keys)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
