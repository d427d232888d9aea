"""Users, rights, keys and tokens."""

import stat

import asyncssh
import pytest

from controller.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused, Unauthenticated
from controller.operations.access import Actor
from controller.operations.keys import parse_public_key
from controller.state import delete
from controller.types import Right, User
from tests.unit.controller.world import ADMIN, World


def new_key(kind: str = "ssh-ed25519", comment: str = "robin@laptop", **options) -> str:
    key = asyncssh.generate_private_key(kind, comment=comment, **options)
    return key.export_public_key().decode()


async def test_the_last_admin_stays(world: World):
    with pytest.raises(Refused, match="last admin"):
        await world.operations.users.remove(ADMIN, "ann")
    await world.operations.users.create(ADMIN, "bob", admin=True)
    await world.operations.users.remove(ADMIN, "ann")


async def test_keys_and_tokens_go_with_their_user(world: World):
    await world.operations.keys.add(ADMIN, "laptop", new_key(), user="robin")
    secret, _ = await world.operations.credentials.create(ADMIN, user="robin")
    session = world.sessions.mint("robin")
    await world.operations.users.remove(ADMIN, "robin")
    assert not world.state.keys() and not world.state.tokens("robin")
    for each in (secret, session):
        with pytest.raises(Unauthenticated):
            world.operations.credentials.authenticate(each)


async def test_keys_and_tokens_of_one_user_are_bounded(world: World, monkeypatch):
    monkeypatch.setattr("controller.operations.keys.MAX_KEYS", 1)
    monkeypatch.setattr("controller.operations.credentials.MAX_TOKENS", 1)
    await world.operations.keys.add(ADMIN, "laptop", new_key(), user="robin")
    await world.operations.credentials.create(ADMIN, user="robin")
    with pytest.raises(Refused, match="robin has 1 keys"):
        await world.operations.keys.add(ADMIN, "phone", new_key(), user="robin")
    with pytest.raises(Refused, match="robin has 1 tokens"):
        await world.operations.credentials.create(ADMIN, user="robin")


async def test_a_user_made_twice_is_a_conflict(world: World):
    await world.operations.users.create(ADMIN, "robin")
    with pytest.raises(Conflict):
        await world.operations.users.create(ADMIN, "robin")
    with pytest.raises(InvalidInput):
        await world.operations.users.create(ADMIN, "../robin")


async def test_who_manages_an_app_says_who_else_may(world: World):
    await world.app()
    await world.app("bar")
    robin = await world.user("robin", foo=Right.MANAGE)
    await world.user("sam", bar=Right.DEPLOY)
    assert (await world.operations.users.grant(robin, "sam", "foo", Right.OPERATE)).rights == {
        "foo": Right.OPERATE
    }
    assert [each.name for each in world.operations.users.list(robin)] == ["robin", "sam"]
    assert (await world.operations.users.grant(robin, "sam", "foo", None)).rights == {}
    assert world.state.user("sam").rights == {"bar": Right.DEPLOY}
    assert [each.name for each in world.operations.users.list(robin)] == ["robin"]
    with pytest.raises(NotFound):
        await world.operations.users.grant(robin, "sam", "bar", Right.VIEW)
    with pytest.raises(NotFound):
        await world.operations.users.grant(robin, "nobody", "foo", Right.VIEW)


class TestKeys:
    async def test_a_key_is_kept_in_one_line_with_its_fingerprint(self, world: World):
        line = new_key()
        key = await world.operations.keys.add(ADMIN, "laptop", line)
        assert key.public_key == line.strip()
        assert key.fingerprint == asyncssh.import_public_key(line).get_fingerprint()
        assert world.state.key(key.fingerprint) == key

    async def test_a_key_used_twice_names_whose_it_is(self, world: World):
        line = new_key()
        await world.operations.keys.add(ADMIN, "laptop", line, user="robin")
        with pytest.raises(Conflict, match="as laptop of robin"):
            await world.operations.keys.add(ADMIN, "other", line.replace("robin@laptop", "x"))
        sam = await world.user("sam")
        with pytest.raises(Conflict, match="for another user"):
            await world.operations.keys.add(sam, "mine", line)

    async def test_a_name_is_given_once(self, world: World):
        await world.operations.keys.add(ADMIN, "laptop", new_key())
        with pytest.raises(Conflict, match="of the name laptop"):
            await world.operations.keys.add(ADMIN, "laptop", new_key())

    async def test_everybody_handles_their_own_keys_only(self, world: World):
        robin = await world.user("robin")
        await world.operations.keys.add(robin, "mine", new_key())
        await world.operations.keys.add(ADMIN, "hers", new_key())
        assert [each.name for each in world.operations.keys.list(robin)] == ["mine"]
        with pytest.raises(NotFound):
            await world.operations.keys.remove(robin, "hers")
        with pytest.raises(Forbidden):
            await world.operations.keys.add(robin, "x", new_key(), user="ann")
        await world.operations.keys.remove(robin, "mine")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nonsense",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            'command="sh" ssh-ed25519 AAAA',
            pytest.param(new_key().replace("ssh-ed25519 ", "ssh-rsa ", 1), id="another kind"),
            new_key() + new_key(),
            new_key("ssh-rsa", key_size=1024),
            new_key("ssh-dss"),
        ],
    )
    def test_what_is_no_safe_public_key_is_refused(self, text: str):
        with pytest.raises(InvalidInput) as caught:
            parse_public_key(text)
        assert caught.value.field == "public_key"

    def test_a_private_key_is_not_taken(self):
        key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
        with pytest.raises(InvalidInput, match="private key"):
            parse_public_key(key)

    @pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
    def test_usual_kinds_are_taken(self, kind: str):
        assert parse_public_key(new_key(kind)).fingerprint.startswith("SHA256:")


class TestCredentials:
    async def test_a_token_lets_in_until_it_is_removed(self, world: World):
        secret, _ = await world.operations.credentials.create(ADMIN, description="laptop")
        assert world.operations.credentials.authenticate(secret).name == "ann"
        assert secret not in repr(world.state.tokens())
        await world.operations.credentials.remove(ADMIN, world.state.tokens()[0].id)
        with pytest.raises(Unauthenticated):
            world.operations.credentials.authenticate(secret)

    @pytest.mark.parametrize("secret", [None, "", "moor_", "\ud800", "x" * 10_000])
    def test_what_is_no_token_lets_nobody_in(self, world: World, secret: str | None):
        with pytest.raises(Unauthenticated):
            world.operations.credentials.authenticate(secret)

    def test_a_session_ends_with_its_door(self, world: World):
        with world.sessions.open("ann") as secret:
            assert world.operations.credentials.authenticate(secret).user.admin
        with pytest.raises(Unauthenticated):
            world.operations.credentials.authenticate(secret)

    async def test_rights_are_those_of_the_moment(self, world: World):
        await world.app()
        await world.user("robin")
        secret = world.sessions.mint("robin")
        await world.operations.users.grant(ADMIN, "robin", "foo", Right.VIEW)
        assert world.operations.credentials.authenticate(secret).may("foo", Right.VIEW)

    async def test_others_tokens_are_not_there(self, world: World):
        robin = await world.user("robin")
        await world.operations.credentials.create(ADMIN)
        assert not world.operations.credentials.list(robin)
        with pytest.raises(NotFound):
            await world.operations.credentials.remove(robin, world.state.tokens()[0].id)


class TestBootstrap:
    async def start(self, world: World) -> str | None:
        return await world.operations.credentials.bootstrap(world.settings.folders.local_token)

    def local(self, world: World) -> Actor:
        text = world.settings.folders.local_token.read_text()
        return world.operations.credentials.authenticate(text.strip())

    async def test_the_first_start_makes_an_admin_and_shows_the_token_once(self, world: World):
        await world.state.commit(delete(ADMIN.user))
        secret = await self.start(world)
        assert world.operations.credentials.authenticate(secret).user.admin
        assert self.local(world).name == "admin"
        assert await self.start(world) is None
        assert len(world.state.tokens()) == 2

    async def test_the_local_token_is_for_the_servers_user_only(self, world: World):
        await self.start(world)
        mode = world.settings.folders.local_token.stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        assert [path.name for path in world.settings.data.iterdir()] == ["local-token"]

    async def test_a_lost_or_dead_local_token_is_made_anew(self, world: World):
        await self.start(world)
        world.settings.folders.local_token.unlink()
        await self.start(world)
        assert self.local(world).user.admin
        await world.operations.users.create(ADMIN, "bob", admin=True)
        await world.operations.users.remove(Actor(User(name="bob", admin=True)), "ann")
        await self.start(world)
        assert self.local(world).name == "bob"
        assert len(world.state.tokens()) == 1
