"""Secrets that say who asks: API tokens, and the short-lived ones of the server's own doors."""

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from controller.errors import InvalidInput, NotFound, Refused, Unauthenticated
from controller.operations.access import Actor, narrowed
from controller.operations.lookup import get_deployment
from controller.operations.text import one_line
from controller.operations.users import get_subject, user_created
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Right, Token, User

MAX_TOKENS = 200
"""Of one user."""
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=3650)
"""Of how long a token may be good."""
MAX_DEPLOYMENTS = 100
"""That one token can be narrowed to."""
USE_NOTED = timedelta(hours=1)
"""How far the last use that is written down may be behind: reading must not write each time."""
EXPIRED_KEPT = timedelta(days=7)
"""So long after its end a token is told to have expired; then it is forgotten."""
AT_ONCE = 30
"""Of each kind, in one transaction: etcd takes 128 changes."""

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

    def find(self, digest: str) -> str | None:
        """The user's name by the secret's hash; None for a secret that is not ours."""
        return self._users.get(digest)


class CredentialOperations:
    def __init__(self, state: State, sessions: Sessions, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._sessions = sessions
        self._clock = clock
        self._used: dict[str, datetime] = {}
        """When tokens were last used, by hash, as far as it is not written down."""

    def authenticate(self, secret: str | None) -> Actor:
        """Whose secret it is; None: none was given. Raises Unauthenticated.

        Secrets are looked up by their hash, so how long that takes tells nothing about them.
        """
        if secret is None:
            raise Unauthenticated("Say who you are: send the header 'Authorization: Bearer TOKEN'.")
        return self._let_in(_digest(secret))

    def renew(self, asker: Actor) -> Actor:
        """The same asker with the rights of this moment, for what goes on for long. Raises Unauthenticated."""
        if asker.digest:
            return self._let_in(asker.digest)
        user = self._state.user(asker.name)
        if user is None:
            raise Unauthenticated(f"The user {asker.name} was removed.")
        return Actor(user)

    def _let_in(self, digest: str) -> Actor:
        name, token = self._sessions.find(digest), None
        if name is None:
            token = self._state.token(digest)
            name = token.user if token and hmac.compare_digest(token.sha256, digest) else None
        user = self._state.user(name) if name is not None else None
        if user is None:
            raise Unauthenticated(
                "This token is not known here: it was removed, or belongs to another server."
            )
        if token is None:
            return Actor(user, digest=digest)
        now = self._clock()
        if token.expires_at is not None and token.expires_at <= now:
            raise Unauthenticated(
                f"This token expired at {token.expires_at:%Y-%m-%dT%H:%M:%SZ}: make a new one (tokens:create)."
            )
        self._used[digest] = now
        every = self._state.deployments() if user.admin and token.right and not token.deployments else ()
        names = token.deployments or tuple(each.name for each in every)
        return Actor(narrowed(user, token, names), token, digest)

    def list(self, asker: Actor) -> Sequence[Token]:
        """All for an admin, else the asker's own."""
        found = self._state.tokens(None if asker.user.admin else asker.name)
        return [replace(each, last_used_at=self._used.get(each.sha256, each.last_used_at)) for each in found]

    async def create(
        self,
        asker: Actor,
        *,
        user: str | None = None,
        description: str = "",
        expires_in: timedelta | None = None,
        right: Right | None = None,
        deployments: Sequence[str] = (),
    ) -> tuple[str, Token]:
        """The secret, which is kept nowhere, and the token. Raises Forbidden, NotFound, Refused, InvalidInput.

        `right` and `deployments` narrow it (see `Token`): it never gives more than its user has when it is used.
        Whoever asks with a token that expires gets none for themselves that is good for longer.
        """
        owner = get_subject(asker, user, "make tokens")
        if expires_in is not None and not SHORTEST <= expires_in <= LONGEST:
            raise InvalidInput("expires_in", "A token is good for one minute to ten years.")
        if len(set(deployments)) > MAX_DEPLOYMENTS:
            raise InvalidInput("deployments", f"A token can be narrowed to {MAX_DEPLOYMENTS} apps at most.")
        secret = _new_secret()
        token = replace(
            self._token(secret, owner, one_line(description, 200)),
            expires_at=self._end(asker, owner, expires_in),
            right=right,
            deployments=tuple(sorted(set(deployments))),
        )

        def decide() -> Iterator[Put | EventDraft]:
            if self._state.user(owner) is None:
                raise NotFound(f"There is no user {owner[:80]!a}.")
            for each in token.deployments:
                get_deployment(self._state, asker, each, Right.VIEW)
            if len(self._state.tokens(owner)) >= MAX_TOKENS:
                raise Refused(f"{owner} has {MAX_TOKENS} tokens already: remove some first.")
            yield put(token)
            yield EventDraft(
                kind="token.created", actor=asker.name, text=f"token {token.id} of {owner} was made"
            )

        await self._state.transact(decide)
        return secret, token

    def _end(self, asker: Actor, owner: str, expires_in: timedelta | None) -> datetime | None:
        end = None if expires_in is None else self._clock() + expires_in
        own = asker.token.expires_at if asker.token is not None and owner == asker.name else None
        return min((each for each in (end, own) if each is not None), default=None)

    async def remove(self, asker: Actor, token_id: str) -> None:
        """Raises NotFound, also for somebody else's token unless the asker is an admin.

        A narrowed token can end itself, and no other.
        """

        def decide() -> Iterator[Delete | EventDraft]:
            if asker.token is None or asker.token.id != token_id:
                asker.require_all_rights("remove tokens")
            for token in self._state.tokens(None if asker.user.admin else asker.name):
                if token.id == token_id:
                    yield delete(token)
                    text = f"token {token.id} of {token.user} was removed"
                    yield EventDraft(kind="token.removed", actor=asker.name, text=text)
                    return
            raise NotFound(f"There is no token {token_id[:40]!a}.")

        await self._state.transact(decide)

    async def tidy(self) -> None:
        """Write down which tokens were used, and forget those that expired long ago. To be called now and then."""
        now = self._clock()

        def decide() -> Iterator[Put | Delete | EventDraft]:
            gone, used = list[Token](), list[Token]()
            for each in self._state.tokens():
                seen = self._used.get(each.sha256)
                if each.expires_at is not None and each.expires_at < now - EXPIRED_KEPT:
                    gone.append(each)
                elif seen and (each.last_used_at is None or seen - each.last_used_at >= USE_NOTED):
                    used.append(replace(each, last_used_at=seen))
            yield from map(put, used[:AT_ONCE])
            for each in gone[:AT_ONCE]:
                yield delete(each)
                text = f"token {each.id} of {each.user} had expired, and is forgotten now"
                yield EventDraft(kind="token.removed", text=text)

        await self._state.transact(decide)
        known = {each.sha256 for each in self._state.tokens()}
        self._used = {digest: seen for digest, seen in self._used.items() if digest in known}

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
