"""Secrets that say who asks: API tokens, and the short-lived ones of the server's own doors."""

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from controller.errors import NotFound, Refused, Unauthenticated
from controller.operations.access import Actor
from controller.operations.text import one_line
from controller.operations.users import get_subject, user_created
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Token, User

MAX_TOKENS = 200
"""Of one user."""

FIRST_ADMIN = "admin"
LOCAL = "commands on the server's own machine"
"""Description of the token in the data folder."""


class Sessions:
    """Secrets of in-process doors (an SSH command, a push), in memory only: each ends with its door."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}

    def mint(self, user: str) -> str:
        """A secret that acts as `user` until it is revoked."""
        secret = _new_secret()
        self._users[_digest(secret)] = user
        return secret

    def revoke(self, secret: str) -> None:
        """Harmless when it is revoked already."""
        self._users.pop(_digest(secret), None)

    @contextmanager
    def open(self, user: str) -> Iterator[str]:
        """`mint` on entering, `revoke` on leaving."""
        secret = self.mint(user)
        try:
            yield secret
        finally:
            self.revoke(secret)

    def find(self, secret: str) -> str | None:
        """The user's name; None for a secret that is not ours."""
        return self._users.get(_digest(secret))


class CredentialOperations:
    def __init__(self, state: State, sessions: Sessions, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._sessions = sessions
        self._clock = clock

    def authenticate(self, secret: str | None) -> Actor:
        """Whose secret it is; None: none was given. Raises Unauthenticated.

        Secrets are looked up by their hash, so how long that takes tells nothing about them.
        """
        if secret is None:
            raise Unauthenticated("Say who you are: send the header 'Authorization: Bearer TOKEN'.")
        name = self._sessions.find(secret)
        if name is None:
            digest = _digest(secret)
            token = self._state.token(digest)
            name = token.user if token and hmac.compare_digest(token.sha256, digest) else None
        user = self._state.user(name) if name is not None else None
        if user is None:
            raise Unauthenticated(
                "This token is not known here: it was removed, or belongs to another server."
            )
        return Actor(user)

    def list(self, asker: Actor) -> Sequence[Token]:
        """All for an admin, else the asker's own."""
        return self._state.tokens(None if asker.user.admin else asker.name)

    async def create(self, asker: Actor, *, user: str | None = None, description: str = "") -> str:
        """The secret, which is kept nowhere. Raises Forbidden, NotFound, Refused."""
        owner = get_subject(asker, user, "make tokens")
        secret = _new_secret()
        token = self._token(secret, owner, one_line(description, 200))

        def decide() -> Iterator[Put | EventDraft]:
            if self._state.user(owner) is None:
                raise NotFound(f"There is no user {owner[:80]!a}.")
            if len(self._state.tokens(owner)) >= MAX_TOKENS:
                raise Refused(f"{owner} has {MAX_TOKENS} tokens already: remove some first.")
            yield put(token)
            yield EventDraft(
                kind="token.created", actor=asker.name, text=f"token {token.id} of {owner} was made"
            )

        await self._state.transact(decide)
        return secret

    async def remove(self, asker: Actor, token_id: str) -> None:
        """Raises NotFound, also for somebody else's token unless the asker is an admin."""

        def decide() -> Iterator[Delete | EventDraft]:
            for token in self.list(asker):
                if token.id == token_id:
                    yield delete(token)
                    text = f"token {token.id} of {token.user} was removed"
                    yield EventDraft(kind="token.removed", actor=asker.name, text=text)
                    return
            raise NotFound(f"There is no token {token_id[:40]!a}.")

        await self._state.transact(decide)

    async def bootstrap(self, local_token: Path) -> str | None:
        """Make sure that somebody can get in; at every start, before the doors open.

        On the first start: makes the user `admin` and returns the secret of a token, to be shown this
        once. Later: None. `local_token` is written anew whenever its content no longer lets anybody in.
        """
        secret = None
        if not any(each.admin for each in self._state.users()):
            secret = _new_secret()
            admin = User(name=FIRST_ADMIN, admin=True, created_at=self._clock())
            token = self._token(secret, FIRST_ADMIN, "first start")
            await self._state.commit(put(admin), put(token), events=[user_created(admin, FIRST_ADMIN)])
        await self._ensure_local_token(local_token)
        return secret

    async def _ensure_local_token(self, path: Path) -> None:
        held = path.read_text().strip() if path.exists() else ""
        known = self._state.token(_digest(held)) if held else None
        admins = [each.name for each in self._state.users() if each.admin]
        if known is not None and known.user in admins:
            return
        owner = FIRST_ADMIN if FIRST_ADMIN in admins else admins[0]
        secret = _new_secret()
        stale = [delete(each) for each in self._state.tokens() if each.description == LOCAL]
        await self._state.commit(*stale, put(self._token(secret, owner, LOCAL)))
        _write_secret(path, secret)

    def _token(self, secret: str, user: str, description: str) -> Token:
        return Token(
            id=secrets.token_hex(4),
            user=user,
            sha256=_digest(secret),
            description=description,
            created_at=self._clock(),
        )


def _new_secret() -> str:
    """256 random bits; the prefix lets scanners find one that leaked into a repository."""
    return f"moor_{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _write_secret(path: Path, secret: str) -> None:
    """Whole and for the owner only, from its first moment on (mkstemp makes files of mode 0600)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
