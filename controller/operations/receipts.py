"""Requests that say by a key that they are the same one: carried out once, answered alike.

A receipt goes into the store with the first change that a request makes, in the same transaction: so a server that
is killed at any moment never carries it out twice. The answer is added behind it. It may hold what is shown only
once (a token's secret) or what not everybody may read (config), and so it is sealed with the request's own key, of
which the store knows no more than a hash: only whoever has the key can have the answer again.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller import wire
from controller.errors import AnswerLost, InvalidInput, KeyReused
from controller.operations.access import Actor
from controller.state import Delete, Put, State, delete, put
from controller.types import Receipt

KEPT = timedelta(hours=24)
MAX_OF_ONE, MAX = 500, 2000
"""Receipts of one user and of all; the oldest go first."""
MAX_ANSWER = 64 * 1024
"""Bytes of an answer that is kept; of a larger one it is only known that it was given."""
SHORTEST_KEY, LONGEST_KEY = 16, 255
AT_ONCE = 50
"""That are removed in one transaction."""
_NONCE = 12


@dataclass(frozen=True)
class Answer:
    """What was answered, as far as it can be given again."""

    status: int
    media: str
    body: bytes


@dataclass(frozen=True)
class Request:
    """One request with a key. Whoever sends the same again is the same user, with a token that gives as much."""

    asker: Actor
    key: str
    content: bytes
    """All that makes it what it is: method, path, query, body."""

    @property
    def id(self) -> str:
        """Of its receipt."""
        token = self.asker.token
        scope = f"{token.right} {token.deployments}" if token is not None and token.narrowed else ""
        return hashlib.sha256(f"{self.asker.name}\0{scope}\0{self.key}".encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Of its content; tells nothing to those who don't have the key."""
        return hmac.new(self._derived("content"), self.content, hashlib.sha256).hexdigest()

    def seal(self, answer: Answer) -> str:
        nonce = secrets.token_bytes(_NONCE)
        sealed = AESGCM(self._derived("answer")).encrypt(nonce, wire.encode(answer), self.id.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str) -> Answer:
        data = base64.b64decode(sealed)
        text = AESGCM(self._derived("answer")).decrypt(data[:_NONCE], data[_NONCE:], self.id.encode())
        return wire.decode(Answer, text)

    def _derived(self, purpose: str) -> bytes:
        # The key is long and random, or its owner's own loss: no slow derivation is called for.
        return hmac.new(self.key.encode(), f"mooring {purpose}".encode(), hashlib.sha256).digest()


class Receipts:
    def __init__(self, state: State, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting = Counter[str]()

    @asynccontextmanager
    async def turn(self, request: Request) -> AsyncIterator[None]:
        """One request of a key at a time: the next one finds what became of it."""
        _check_key(request.key)
        self._waiting[request.id] += 1
        try:
            async with self._turns.setdefault(request.id, asyncio.Lock()):
                yield
        finally:
            self._waiting[request.id] -= 1
            if not self._waiting[request.id]:
                del self._waiting[request.id], self._turns[request.id]

    def find(self, request: Request) -> Answer | None:
        """What was answered to it; None: it was not carried out yet. Raises KeyReused, AnswerLost."""
        kept = self._state.receipt(request.id)
        if kept is None or kept.created_at <= self._clock() - KEPT:
            return None
        if not hmac.compare_digest(kept.fingerprint, request.fingerprint):
            raise KeyReused("This Idempotency-Key was given with another request before: give a new one.")
        if not kept.answer:
            raise AnswerLost(
                "This request was begun before, and what became of it is not known any more: "
                "look how things stand before you ask again with a new key."
            )
        return request.open(kept.answer)

    @contextmanager
    def noted(self, request: Request) -> Iterator[None]:
        """Within the block the first change in the store takes the request's receipt along."""
        with self._state.along(self._receipt(request)):
            yield

    async def keep(self, request: Request, answer: Answer) -> None:
        """Add what was answered, and make room for it."""
        receipt = self._receipt(request)
        if len(answer.body) <= MAX_ANSWER:
            receipt = replace(receipt, answer=request.seal(answer))

        def decide() -> Iterator[Put | Delete]:
            yield put(receipt)
            others = [each for each in self._state.receipts() if each.id != receipt.id]
            own = [each for each in others if each.user == receipt.user]
            surplus = own[: max(0, len(own) + 1 - MAX_OF_ONE)] or others[: max(0, len(others) + 1 - MAX)]
            yield from map(delete, surplus[:AT_ONCE])

        await self._state.transact(decide)

    async def tidy(self) -> None:
        """Forget those that are too old. To be called now and then."""
        end = self._clock() - KEPT

        def decide() -> Iterator[Delete]:
            old = (each for each in self._state.receipts() if each.created_at <= end)
            return map(delete, islice(old, AT_ONCE))

        await self._state.transact(decide)

    def _receipt(self, request: Request) -> Receipt:
        return Receipt(
            id=request.id,
            user=request.asker.name,
            fingerprint=request.fingerprint,
            created_at=self._clock(),
        )


def _check_key(key: str) -> None:
    if not (SHORTEST_KEY <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise InvalidInput(
            "Idempotency-Key",
            f"An Idempotency-Key has {SHORTEST_KEY} to {LONGEST_KEY} printable ASCII characters, "
            "and is made at random: a UUID, say.",
        )
