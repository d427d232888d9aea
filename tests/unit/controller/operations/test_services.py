"""What a change of a service leads to."""

import asyncio

import pytest

from controller.errors import Conflict, InvalidInput, NotFound, Refused
from controller.names import Address
from controller.plugins.app import NO_CODE
from controller.types import HealthCheck, Right, VersionStatus
from tests.factories import instance, slug
from tests.unit.controller.world import ADMIN, FOO, World, make_world

REDIS = Address("foo", "redis")


def nested(depth: int) -> list:
    return [nested(depth - 1)] if depth else []


async def test_a_first_push_makes_version_1_the_target(world: World):
    await world.app()
    assert await world.push() == 1
    service = world.state.service("foo", "app")
    assert (service.latest, service.target, service.current) == (1, 1, None)
    assert service.rollout_started_at is not None
    assert world.state.version("foo", "app", 1).status is VersionStatus.PENDING
    assert world.runtime.woken


async def test_the_same_code_again_makes_no_version(world: World):
    await world.app()
    await world.push()
    change = await world.operations.versions.release(ADMIN, FOO, slug(), commit="e" * 40, reason="push")
    assert change.version is None
    assert world.state.service("foo", "app").latest == 1


async def test_a_version_that_is_overtaken_is_superseded(world: World):
    await world.app()
    await world.push()
    await world.push(content="b")
    first = world.state.version("foo", "app", 1)
    assert (first.status, first.failure) == (VersionStatus.SUPERSEDED, "v2 was wanted before it was live")


async def test_config_before_the_first_push_goes_into_version_1(world: World):
    await world.app()
    change = await world.operations.services.change_config(ADMIN, FOO, values={"A": "1"})
    assert (change.version, change.held) == (None, NO_CODE)
    assert world.operations.services.get(ADMIN, FOO).held == NO_CODE
    await world.push()
    assert world.state.version("foo", "app", 1).definition.env == {"A": "1"}
    assert world.operations.services.get(ADMIN, FOO).held is None


async def test_several_variables_make_one_version_and_the_same_again_none(world: World):
    await world.app()
    await world.push()
    first = await world.operations.services.change_config(ADMIN, FOO, values={"A": "1", "B": "2"})
    again = await world.operations.services.change_config(ADMIN, FOO, values={"A": "1"}, drop=["C"])
    assert (first.version.number, first.version.reason) == (2, "config:set A B")
    assert (first.version.artifact, first.version.commit) == (slug(), "c" * 40)
    assert again.version is None


async def test_config_can_be_replaced_as_a_whole(world: World):
    await world.app()
    await world.push()
    await world.operations.services.change_config(ADMIN, FOO, values={"A": "1", "B": "2"})
    change = await world.operations.services.change_config(ADMIN, FOO, values={"B": "2"}, replace_all=True)
    assert (change.version.number, change.version.definition.env) == (3, {"B": "2"})
    assert change.version.reason == "config:set B, all others unset"


class TestStagedConfig:
    async def test_it_makes_no_version_until_it_is_applied(self, world: World):
        await world.app()
        await world.push()
        operations = world.operations.services
        change = await operations.change_config(ADMIN, FOO, values={"A": "1"}, stage=True)
        assert (change.version, change.staged) == (None, ("A",))
        await operations.change_config(ADMIN, FOO, values={"B": "2"}, stage=True)
        assert operations.get(ADMIN, FOO).staged == ("A", "B")
        applied = (await operations.apply_config(ADMIN, FOO)).version
        assert (applied.number, applied.definition.env) == (2, {"A": "1", "B": "2"})
        assert applied.staged == ("A", "B")
        assert applied.reason == "config:apply, with staged config A B"
        assert operations.get(ADMIN, FOO).staged == ()
        assert (await operations.apply_config(ADMIN, FOO)).version is None

    async def test_a_push_of_the_same_code_releases_it(self, world: World):
        await world.app()
        await world.push()
        await world.operations.services.change_config(ADMIN, FOO, values={"A": "1"}, stage=True)
        change = await world.operations.versions.release(ADMIN, FOO, slug(), commit="e" * 40, reason="push")
        assert (change.version.staged, change.version.reason) == (("A",), "push, with staged config A")

    async def test_setting_a_variable_releases_it_too(self, world: World):
        await world.app()
        await world.push()
        await world.operations.services.change_config(ADMIN, FOO, values={"A": "1", "B": "1"}, stage=True)
        change = await world.operations.services.change_config(ADMIN, FOO, values={"A": "2"})
        assert change.version.definition.env == {"A": "2", "B": "1"}
        assert change.version.reason == "config:set A, with staged config B"

    async def test_a_rollback_drops_it_and_says_so(self, world: World):
        await world.app()
        for content in "ab":
            await world.push(content=content)
            await world.live()
        await world.operations.services.change_config(ADMIN, FOO, values={"A": "1"}, stage=True)
        version = await world.operations.versions.rollback(ADMIN, FOO)
        assert version.reason == "rollback to v1, dropping staged config A"
        assert (version.definition.env, version.staged) == ({}, ())
        assert world.operations.services.get(ADMIN, FOO).staged == ()

    async def test_staging_what_is_in_effect_leaves_nothing_staged(self, world: World):
        await world.app()
        await world.push()
        await world.operations.services.change_config(ADMIN, FOO, values={"A": "1"}, stage=True)
        change = await world.operations.services.change_config(ADMIN, FOO, values={}, drop=["A"], stage=True)
        assert (change.version, change.staged) == (None, ())
        assert (await world.operations.services.apply_config(ADMIN, FOO)).version is None

    async def test_before_the_first_version_it_is_just_config(self, world: World):
        await world.app()
        change = await world.operations.services.change_config(ADMIN, FOO, values={"A": "1"}, stage=True)
        assert (change.version, change.held, change.staged) == (None, NO_CODE, ())


async def test_config_that_failed_can_be_taken_back(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.operations.services.change_config(ADMIN, FOO, values={"BAD": "1"})
    await world.failed()
    change = await world.operations.services.change_config(ADMIN, FOO, values={}, drop=["BAD"])
    assert change.version is None
    assert world.state.service("foo", "app").definition.env == {}
    assert world.state.service("foo", "app").target == 1


async def test_config_mends_a_first_version_that_failed(world: World):
    await world.app()
    await world.push()
    await world.failed(why="KEY is missing")
    change = await world.operations.services.change_config(ADMIN, FOO, values={"KEY": "1"})
    assert (change.version.number, change.version.artifact) == (2, slug())


async def test_an_image_service_runs_at_once(world: World):
    await world.operations.deployments.create(ADMIN, "foo")
    given = {"image": "redis:7", "env": {"PORTS": 3}, "health": {"timeout": 5}, "volumes": {"data": "/srv"}}
    change = await world.operations.services.define(ADMIN, REDIS, given)
    definition = change.version.definition
    assert (change.version.number, change.version.artifact.reference) == (1, "redis:7")
    assert (definition.env, definition.health) == ({"PORTS": "3"}, HealthCheck(timeout=5))
    assert definition.volumes == {"data": "/srv"}


async def test_defining_again_changes_the_given_keys_only(world: World):
    await world.operations.deployments.create(ADMIN, "foo")
    await world.operations.services.define(ADMIN, REDIS, {"image": "redis:7", "volumes": {"data": "/srv"}})
    change = await world.operations.services.define(ADMIN, REDIS, {"env": {"A": "1"}, "volumes": None})
    definition = change.version.definition
    assert (definition.image, definition.env, definition.extra) == ("redis:7", {"A": "1"}, {})


async def test_defining_the_same_again_makes_no_version_unless_forced(world: World):
    await world.operations.deployments.create(ADMIN, "foo")
    for force, number in ((False, 1), (False, None), (True, 2)):
        change = await world.operations.services.define(ADMIN, REDIS, {"image": "redis:7"}, force=force)
        assert (change.version.number if change.version else None) == number


async def test_an_image_service_takes_no_code_until_its_image_is_taken_away(world: World):
    await world.operations.deployments.create(ADMIN, "foo")
    await world.operations.services.define(ADMIN, REDIS, {"image": "redis:7"})
    with pytest.raises(Refused, match="runs the image redis:7"):
        await world.push(REDIS)
    with pytest.raises(Refused, match="runs the image redis:7"):
        await world.operations.builds.open(ADMIN, REDIS, commit=None)
    change = await world.operations.services.define(ADMIN, REDIS, {"image": None})
    assert (change.version, change.held) == (None, NO_CODE)
    assert await world.push(REDIS) == 2


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"image": ""}, "image"),
        ({"image": 3}, "image"),
        ({"command": "a\0b"}, "command"),
        ({"env": ["A"]}, "env"),
        ({"env": {"A": {}}}, "env"),
        ({"env": {"1A": "x"}}, "env"),
        ({"env": {"PORT": "80"}}, "env"),
        ({"env": {"MOORING_APP": "x"}}, "env"),
        ({"env": {"A": "x" * 100_000}}, "env"),
        ({"env": {f"A{n}": "x" * 60_000 for n in range(5)}}, "env"),
        ({"env": {"A": "a\0b"}}, "env"),
        ({"env": {"A": "\ud800"}}, "env"),
        ({"health": 3}, "health"),
        ({"health": {"path": "health"}}, "health"),
        ({"health": {"path": "/a b"}}, "health"),
        ({"health": {"path": "/\r\nX: y"}}, "health"),
        ({"health": {"timeout": 0}}, "health"),
        ({"health": {"timeout": True}}, "health"),
        ({"health": {"timeout": float("nan")}}, "health"),
        ({"health": {"retries": 1}}, "health"),
        ({"health": {"\ud800": 1}}, "health"),
        ({"health": {"path": "/up", "command": "true"}}, "health"),
        ({"health": {"command": " "}}, "health"),
        ({"health": {"command": "x\0"}}, "health"),
        ({"health": {"uptime": 5, "timeout": 5}}, "health"),
        ({"checks": "/health"}, "checks"),
        ({"checks": {"worker": {"uptime": 0}}}, "checks"),
        ({"checks": {"no type": {"uptime": 1}}}, "process type"),
        ({"rollout": 3}, "rollout"),
        ({"rollout": "blue-green"}, "rollout"),
        ({"rollout": {"size": 2}}, "rollout"),
        ({"rollout": {"strategy": []}}, "rollout"),
        ({"rollout": {"strategy": "one-by-one", "size": 2}}, "rollout"),
        ({"rollout": {"strategy": "batch", "size": 0}}, "rollout"),
        ({"rollout": {"strategy": "canary", "share": 101}}, "rollout"),
        ({"rollout": {"strategy": "canary", "timeout": float("inf")}}, "rollout"),
        ({"command": "\ud800"}, "command"),
        ({"labels": {"a": ["\ud800"]}}, "definition"),
        ({"\ud800": 1}, "definition"),
        ({"labels": nested(17)}, "definition"),
        ({"labels": "x" * 70_000}, "definition"),
    ],
)
async def test_off_definitions_name_their_field(world: World, given: dict, field: str):
    await world.app()
    with pytest.raises(InvalidInput) as caught:
        await world.operations.services.define(ADMIN, FOO, given)
    assert caught.value.field == field
    assert str(caught.value).endswith(".")


async def test_ensure_makes_a_service_once(world: World):
    await world.app()
    before = world.state.last_event
    await world.operations.services.ensure(ADMIN, FOO)
    assert world.state.last_event == before


async def test_each_service_has_a_user_id_of_its_own_where_the_server_is_root(world: World):
    await world.app()
    await world.app("bar")
    assert [each.uid for each in world.state.services()] == [42001, 42000]


async def test_services_of_an_unprivileged_server_have_no_user_id(tmp_path):
    world = await make_world(tmp_path, privileged=False)
    await world.app()
    assert world.state.service("foo", "app").uid is None


async def test_services_made_at_once_get_different_user_ids(world: World):
    await world.operations.deployments.create(ADMIN, "foo")
    names = [f"s{number}" for number in range(10)]
    await asyncio.gather(*(world.operations.services.ensure(ADMIN, Address("foo", name)) for name in names))
    assert len({each.uid for each in world.state.services()}) == 10


async def test_urls_go_through_the_router(world: World):
    await world.app()
    await world.operations.services.ensure(ADMIN, Address("foo", "api"))
    await world.operations.domains.change(ADMIN, FOO, add=["*.example.org"])
    assert world.operations.services.get(ADMIN, FOO).urls == ("http://foo.localhost:8080",)
    api = world.operations.services.get(ADMIN, Address("foo", "api"))
    assert api.urls == ("http://api-foo.localhost:8080",)


@pytest.mark.parametrize("branch", ["", "-x", "a b", "a..b", "x.lock", "a\nb", "refs@{1}", "x" * 300])
async def test_no_branch_name_is_refused(world: World, branch: str):
    await world.app()
    with pytest.raises(InvalidInput):
        await world.operations.services.set_branches(ADMIN, FOO, ["main", branch])


class TestDestroying:
    async def test_everything_is_forgotten_at_once(self, world: World):
        await world.app()
        await world.push()
        await world.operations.builds.open(ADMIN, FOO, commit=None)
        robin = await world.user("robin", foo=Right.MANAGE)
        await world.operations.deployments.destroy(robin, "foo")
        assert world.state.deployment("foo") is None
        assert (
            not world.state.services() and not world.state.versions("foo", "app") and not world.state.builds()
        )
        assert world.state.user("robin").rights == {}

    async def test_files_go_once_the_last_instance_is_gone(self, world: World):
        await world.app()
        world.runtime.running = [instance()]
        await world.operations.services.destroy(ADMIN, FOO)
        await asyncio.sleep(0)
        assert world.cleaned == []
        with pytest.raises(Conflict, match="its instances still stop"):
            await world.operations.services.ensure(ADMIN, FOO)
        world.runtime.running = []
        await world.operations.removal.idle()
        assert world.cleaned == [("foo", "app")]
        await world.operations.services.ensure(ADMIN, FOO)

    async def test_the_user_id_is_free_again_only_then(self, world: World):
        await world.app()
        world.runtime.running = [instance()]
        await world.operations.deployments.destroy(ADMIN, "foo")
        await world.app("bar")
        assert world.state.service("bar", "app").uid == 42001
        world.runtime.running = []
        await world.operations.removal.idle()
        await world.app("baz")
        assert world.state.service("baz", "app").uid == 42000

    async def test_nothing_is_removed_while_what_runs_is_not_known(self, world: World):
        await world.app()
        world.runtime.troubles = ["the backend does not answer"]
        await world.operations.services.destroy(ADMIN, FOO)
        await asyncio.sleep(0)
        assert world.cleaned == []
        world.runtime.troubles = []
        await world.operations.removal.idle()
        assert world.cleaned == [("foo", "app")]

    async def test_files_that_a_killed_server_left_go_at_the_next_start(self, world: World):
        await world.app()
        await world.operations.removal.sweep([("foo", "app"), ("gone", "app")])
        with pytest.raises(Conflict, match="has just started"):  # whose user id is free is not known yet
            await world.operations.services.ensure(ADMIN, REDIS)
        await world.operations.removal.idle()
        assert world.cleaned == [("gone", "app")]


class TestRollback:
    async def live_versions(self, world: World, *contents: str) -> None:
        await world.app()
        for content in contents:
            await world.push(content=content)
            await world.live()

    async def test_it_brings_back_code_and_config_as_a_new_version(self, world: World):
        await self.live_versions(world, "a")
        await world.operations.services.change_config(ADMIN, FOO, values={"A": "1"})
        await world.live()
        version = await world.operations.versions.rollback(ADMIN, FOO, 1)
        assert (version.number, version.reason, version.artifact) == (3, "rollback to v1", slug())
        assert version.definition.env == {}
        assert world.state.service("foo", "app").definition.env == {}

    async def test_without_a_number_it_takes_the_last_that_was_live_before(self, world: World):
        await self.live_versions(world, "a", "b")
        await world.push(content="d")
        await world.failed()
        assert (await world.operations.versions.rollback(ADMIN, FOO)).artifact == slug()

    async def test_a_rollout_under_way_is_undone_by_it(self, world: World):
        await self.live_versions(world, "a", "b")
        await world.push(content="d")
        assert (await world.operations.versions.rollback(ADMIN, FOO)).reason == "rollback to v2"

    async def test_versions_that_never_served_are_passed_over(self, world: World):
        await self.live_versions(world, "a")
        await world.push(content="b")
        await world.push(content="d")
        await world.live()
        assert (await world.operations.versions.rollback(ADMIN, FOO)).reason == "rollback to v1"
        with pytest.raises(Refused, match="never was live"):
            await world.operations.versions.rollback(ADMIN, FOO, 2)

    async def test_where_there_is_nothing_to_go_back_to_it_says_so(self, world: World):
        await self.live_versions(world, "a")
        with pytest.raises(NotFound, match="no earlier version"):
            await world.operations.versions.rollback(ADMIN, FOO)
        with pytest.raises(NotFound, match="no version 7"):
            await world.operations.versions.rollback(ADMIN, FOO, 7)
        with pytest.raises(Refused, match="already"):
            await world.operations.versions.rollback(ADMIN, FOO, 1)


async def test_a_process_type_that_the_code_does_not_have_is_refused(world: World):
    await world.app()
    await world.push()
    with pytest.raises(
        InvalidInput, match=r"run the process type worker, which its code does not have. It has: web\."
    ):
        await world.operations.services.define(ADMIN, FOO, {"process": "worker"})
    await world.operations.services.define(ADMIN, FOO, {"process": "web"})
    with pytest.raises(InvalidInput, match="It has: api"):
        await world.push(content="b", process_types={"api": "serve"})
