"""Tokens that expire, and tokens that give less than their user has."""

from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from controller.operations.credentials import EXPIRED_KEPT, CredentialOperations
from controller.types import Right, Token
from controller.wire import decode
from tests.unit.controller.world import ADMIN, World

DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def credentials(world: World, clock: Clock) -> CredentialOperations:
    return CredentialOperations(world.state, world.sessions, clock=clock)


async def test_a_token_lets_in_until_it_expires_and_then_says_so(
    credentials: CredentialOperations, clock: Clock
):
    secret, token = await credentials.create(ADMIN, expires_in=DAY)
    assert token.expires_at == clock.now + DAY
    asker = credentials.authenticate(secret)
    clock.now += DAY
    for ask in (lambda: credentials.authenticate(secret), lambda: credentials.renew(asker)):
        with pytest.raises(Unauthenticated, match=r"expired at 2026-01-02T00:00:00Z: make a new one"):
            ask()


async def test_an_expired_token_is_forgotten_in_the_end(
    world: World, credentials: CredentialOperations, clock: Clock
):
    secret, _ = await credentials.create(ADMIN, expires_in=DAY)
    kept, _ = await credentials.create(ADMIN)
    clock.now += DAY + EXPIRED_KEPT
    await credentials.tidy()
    assert len(world.state.tokens()) == 2
    clock.now += timedelta(seconds=1)
    await credentials.tidy()
    assert len(world.state.tokens()) == 1
    assert "had expired" in world.state.events()[-1].text
    credentials.authenticate(kept)
    with pytest.raises(Unauthenticated, match="not known"):
        credentials.authenticate(secret)


async def test_the_last_use_is_shown_at_once_and_written_down_once_an_hour(
    world: World, credentials: CredentialOperations, clock: Clock
):
    secret, _ = await credentials.create(ADMIN)
    assert credentials.list(ADMIN)[0].last_used_at is None
    first = clock.now
    credentials.authenticate(secret)
    await credentials.tidy()
    clock.now += timedelta(minutes=59)
    credentials.authenticate(secret)
    await credentials.tidy()
    assert credentials.list(ADMIN)[0].last_used_at == clock.now
    assert world.state.tokens()[0].last_used_at == first
    clock.now += timedelta(minutes=1)
    credentials.authenticate(secret)
    await credentials.tidy()
    assert world.state.tokens()[0].last_used_at == clock.now
    events = world.state.last_event
    await credentials.tidy()
    assert world.state.last_event == events


async def test_a_token_never_gives_more_than_its_user_has(world: World, credentials: CredentialOperations):
    await world.app()
    robin = await world.user("robin", foo=Right.DEPLOY)
    secret, _ = await credentials.create(robin, right=Right.MANAGE, deployments=["foo"])
    assert credentials.authenticate(secret).user.rights == {"foo": Right.DEPLOY}
    await world.operations.users.grant(ADMIN, "robin", "foo", None)
    assert credentials.authenticate(secret).user.rights == {}


async def test_an_admins_narrowed_token_is_good_for_apps_made_later_too(
    world: World, credentials: CredentialOperations
):
    secret, _ = await credentials.create(ADMIN, right=Right.DEPLOY)
    await world.app("later")
    asker = credentials.authenticate(secret)
    assert asker.user.rights == {"later": Right.DEPLOY}
    assert not asker.user.admin


async def test_a_narrowed_token_gets_nobody_more(world: World, credentials: CredentialOperations):
    robin = await world.user("robin")
    secret, token = await credentials.create(robin, right=Right.VIEW)
    _, other = await credentials.create(robin)
    asker = credentials.authenticate(secret)
    with pytest.raises(Forbidden, match="narrowed token may not make tokens"):
        await credentials.create(asker)
    with pytest.raises(Forbidden, match="narrowed token may not add keys"):
        await world.operations.keys.add(asker, "k", "ssh-ed25519 x")
    with pytest.raises(Forbidden, match="narrowed token may not remove keys"):
        await world.operations.keys.remove(asker, "k")
    with pytest.raises(Forbidden, match="narrowed token may not remove tokens"):
        await credentials.remove(asker, other.id)
    await credentials.remove(asker, token.id)
    with pytest.raises(Unauthenticated):
        credentials.authenticate(secret)


async def test_nobody_gets_longer_than_the_token_they_ask_with(
    world: World, credentials: CredentialOperations
):
    robin = await world.user("robin")
    secret, token = await credentials.create(robin, expires_in=DAY)
    asker = credentials.authenticate(secret)
    for wanted in (None, 2 * DAY):
        _, made = await credentials.create(asker, expires_in=wanted)
        assert made.expires_at == token.expires_at
    with pytest.raises(Forbidden, match="your token expires"):
        await world.operations.keys.add(asker, "k", "ssh-ed25519 x")


@pytest.mark.parametrize("wanted", [timedelta(seconds=59), timedelta(days=3651), timedelta(days=-1)])
async def test_a_token_is_good_for_a_minute_to_ten_years(credentials: CredentialOperations, wanted):
    with pytest.raises(InvalidInput, match="one minute to ten years"):
        await credentials.create(ADMIN, expires_in=wanted)


async def test_a_token_is_not_narrowed_to_what_the_asker_may_not_see(
    world: World, credentials: CredentialOperations
):
    await world.app()
    robin = await world.user("robin")
    for name in ("foo", "nothing"):
        with pytest.raises(NotFound, match=f"There is no app {name}"):
            await credentials.create(robin, deployments=[name])
    with pytest.raises(NotFound, match="There is no app nothing"):
        await credentials.create(ADMIN, deployments=["nothing"])


def test_a_token_as_an_older_release_wrote_it_gives_all_that_its_user_has():
    old = decode(Token, b'{"id":"1","user":"ann","sha256":"0","description":"","created_at":null}')
    assert not old.narrowed
    assert (old.expires_at, old.last_used_at) == (None, None)
