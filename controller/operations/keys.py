"""SSH keys: who is let in at the SSH endpoint."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncssh

from controller.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused
from controller.names import check_title
from controller.operations.access import Actor
from controller.operations.users import get_subject, user_created
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import SshKey, User

MIN_RSA_BITS = 2048
MAX_KEYS = 200
"""Of one user."""


@dataclass(frozen=True)
class PublicKey:
    line: str
    """`<type> <base64> [comment]`."""
    fingerprint: str


def parse_public_key(text: str) -> PublicKey:
    """Read one public key as in `id_ed25519.pub`; raises InvalidInput."""
    line = text.strip()
    if "PRIVATE KEY" in line:
        raise InvalidInput("public_key", "This is a private key: keep it to yourself and give the .pub file.")
    if not line or "\n" in line or len(line) > 16 * 1024:
        raise InvalidInput(
            "public_key", "Give one public key, the single line of a file such as id_ed25519.pub."
        )
    try:
        key = asyncssh.import_public_key(line)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise InvalidInput(
            "public_key", "This is no public key in OpenSSH form, such as 'ssh-ed25519 AAAA… name'."
        ) from error
    if key.get_algorithm() == "ssh-dss":
        raise InvalidInput(
            "public_key", "DSA keys are no longer safe: make a new one with ssh-keygen -t ed25519."
        )
    if key.get_algorithm() == "ssh-rsa" and getattr(key.pyca_key, "key_size", 0) < MIN_RSA_BITS:
        raise InvalidInput(
            "public_key", f"RSA keys need {MIN_RSA_BITS} bits: make a new one with ssh-keygen -t ed25519."
        )
    return PublicKey(key.export_public_key().decode().strip(), key.get_fingerprint())


class KeyOperations:
    def __init__(self, state: State, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock

    def list(self, asker: Actor) -> Sequence[SshKey]:
        """All for an admin, else the asker's own."""
        return self._state.keys(None if asker.user.admin else asker.name)

    async def add(self, asker: Actor, name: str, public_key: str, *, user: str | None = None) -> SshKey:
        """For the asker, or for anybody by an admin; a user of that name is made when there is none.

        A key and its name are unique over the server. Raises InvalidInput, Forbidden, Conflict, Refused.
        """
        owner = get_subject(asker, user, "add keys")
        if owner == asker.name and asker.token is not None and asker.token.expires_at is not None:
            raise Forbidden(
                "A key lets you in for good, and your token expires: use your SSH key, or a token that does not."
            )
        parsed = parse_public_key(public_key)
        now = self._clock()
        made = SshKey(
            name=check_title(name, "key name"),
            user=check_title(owner, "user name"),
            fingerprint=parsed.fingerprint,
            public_key=parsed.line,
            created_at=now,
        )

        def decide() -> Iterator[Put | EventDraft]:
            self._check_is_new(asker, made)
            if self._state.user(owner) is None:
                newcomer = User(name=owner, created_at=now)
                yield put(newcomer)
                yield user_created(newcomer, asker.name)
            yield put(made)
            text = f"key {name} of {owner} was added: {made.fingerprint}"
            yield EventDraft(kind="key.added", actor=asker.name, text=text)

        await self._state.transact(decide)
        return made

    async def remove(self, asker: Actor, name: str) -> None:
        """Raises NotFound, also for somebody else's key unless the asker is an admin."""

        asker.require_all_rights("remove keys")

        def decide() -> Iterator[Delete | EventDraft]:
            for key in self.list(asker):
                if key.name == name:
                    yield delete(key)
                    text = f"key {name} of {key.user} was removed"
                    yield EventDraft(kind="key.removed", actor=asker.name, text=text)
                    return
            raise NotFound(f"There is no key {name[:80]!a}.")

        await self._state.transact(decide)

    def _check_is_new(self, asker: Actor, key: SshKey) -> None:
        same = self._state.key(key.fingerprint)
        if same is not None:
            mine = asker.user.admin or same.user == asker.name
            whose = f"as {same.name} of {same.user}" if mine else "for another user"
            raise Conflict(f"This key ({key.fingerprint}) is here already, {whose}.")
        if key.name in {each.name for each in self._state.keys(None)}:
            raise Conflict(f"There is a key of the name {key.name} already: choose another name.")
        if len(self._state.keys(key.user)) >= MAX_KEYS:
            raise Refused(f"{key.user} has {MAX_KEYS} keys already: remove some first.")
