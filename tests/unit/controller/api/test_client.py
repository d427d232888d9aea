"""The client against the real API over loopback: every call, there and back."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import pytest

from controller.backends.base import Terminal
from controller.backends.echo import Echo
from controller.backends.memory import MemoryBackend
from controller.client import Client
from controller.deliveries import Mark
from controller.errors import Conflict, InvalidInput, NotFound, Refused, Unauthenticated, Unavailable
from controller.names import Address
from controller.types import BuildStatus, InstanceState, Right, VersionStatus
from tests.factories import instance, slug
from tests.unit.controller.world import FOO, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJwhJ+UsrG3H0hVfLPfKZZ9oLnyEZkmFt8N4VxVNqGLH robin@laptop"


async def test_status_and_me(client: Client):
    status = await client.status()
    assert (status.ssh, status.domain, status.problems) == ("127.0.0.1:2222", "localhost", ())
    assert (await client.me()).admin


async def test_a_service_from_its_first_push_to_its_end(client: Client, world: World):
    await client.create_deployment("foo")
    info = await client.ensure_service(FOO)
    assert info.held == "no code yet: git push deploy master"
    assert info.urls == ("http://foo.localhost:8080",)
    assert (await client.change_config(FOO, put={"A": "1"})).version is None
    build = await client.open_build(FOO, commit="c" * 40)
    await client.append_build_log(build.id, ["-----> Python", "été"])
    assert await client.build_log(build.id) == "-----> Python\nété\n"
    await client.close_build(build.id, BuildStatus.SUCCEEDED, artifact=slug())
    change = await client.release(FOO, slug(), commit="c" * 40, build=build.id, reason="push")
    assert change.version is not None
    assert (change.version.number, change.version.definition.env) == (1, {"A": "1"})
    await world.live()
    world.runtime.running = [instance()]
    assert (await client.service(FOO)).running == 1
    assert (await client.instances(FOO))[0].state is InstanceState.RUNNING
    assert (await client.change_config(FOO, put={"A": "3"}, stage=True)).staged == ("A",)
    assert (await client.service(FOO)).staged == ("A",)
    assert (await client.change_config(FOO, put={"A": "1"}, stage=True)).staged == ()
    assert (await client.apply_config(FOO)).version is None
    assert (await client.change_shared_config("foo", put={"A": "9"})).versions == ()
    assert await client.shared_config("foo") == {"A": "9"}
    assert [(each.value, each.source) for each in await client.environment(FOO)] == [("1", "service")]
    assert (await client.change_config(FOO, put={"A": "2"}, drop=["B"])).version.number == 2
    await world.live()
    assert (await client.rollback(FOO)).definition.env == {"A": "1"}
    assert [each.number for each in await client.versions(FOO)] == [3, 2, 1]
    assert (await client.version(FOO, 2)).reason == "config:set A, config:unset B"
    assert (await client.scale(FOO, {"web": "+2"})).process_types == {"web": 3}
    assert (await client.restart(FOO)).number == 3
    assert (await client.stop(FOO)).service.stopped
    assert not (await client.start(FOO)).service.stopped
    assert (await client.change_buildpacks(FOO, only=["python"])).buildpacks == ("python",)
    assert (await client.change_buildpacks(FOO, add=["nodejs"], at=1, remove=["python"])).buildpacks == (
        "nodejs",
    )
    assert (await client.set_build_dir(FOO, "api")).build_dir == "api"
    assert [each.buildpack for each in await client.detect_buildpacks(FOO, branch="next")] == ["null"]
    assert (await client.set_branches(FOO, ["release"])).branches == ("release",)
    assert await client.add_domains(FOO, ["www.example.org"]) == ["foo.localhost", "www.example.org"]
    assert await client.remove_domains(FOO, ["www.example.org"]) == await client.domains(FOO)
    assert [each.id for each in await client.builds(FOO)] == [build.id]
    assert any(each.kind == "version.created" for each in await client.events(deployment="foo"))
    assert [each.service.name for each in await client.services()] == ["app"]
    world.runtime.running = []
    await client.destroy_service(FOO)
    await client.destroy_deployment("foo")
    assert await client.deployments() == []


async def test_image_services(client: Client, world: World):
    await client.create_deployment("foo")
    redis = Address("foo", "redis")
    change = await client.set_service(redis, {"image": "redis:7", "volumes": {"data": "/srv"}})
    assert change.version is not None
    assert change.version.definition.volumes == {"data": "/srv"}
    assert (await client.set_service(redis, {"image": "redis:7"})).version is None
    assert (await client.set_service(redis, {"image": "redis:7"}, force=True)).version.number == 2
    (world.settings.folders.volumes / "foo" / "redis" / "old").mkdir(parents=True)
    with pytest.raises(Refused, match="data of foo/redis is in use"):
        await client.destroy_volume(redis, "data")
    await client.destroy_volume(redis, "old")
    folder = world.settings.folders.volumes / "foo/redis/data"
    folder.mkdir()
    (folder / "dump").write_text("kept")
    steps = [each async for each in client.back_up_volume(redis, "data")]
    assert "foo/redis runs" in steps[1].text
    (backup,) = await client.volume_backups(redis, "data")
    content = [each async for each in client.export_volume(redis, "data")]
    with pytest.raises(Refused, match="`ps:stop -a foo/redis` first"):
        [each async for each in client.restore_volume(redis, "data")]
    await client.stop(redis)
    (folder / "dump").write_text("changed")
    assert [each.mark async for each in client.restore_volume(redis, "data", backup.id)][-1] is Mark.DONE
    assert (folder / "dump").read_text() == "kept"

    async def half() -> AsyncIterator[bytes]:
        yield b"".join(content)[:-10]

    async def whole() -> AsyncIterator[bytes]:
        for each in content:
            yield each

    with pytest.raises(InvalidInput, match="Nothing was changed"):
        await client.import_volume(redis, "data", half())
    (folder / "later").touch()
    await client.import_volume(redis, "data", whole())
    assert [each.name for each in folder.iterdir()] == ["dump"]
    assert [each.name for each in await client.volumes("foo")] == ["data"]

    planned = await client.schedule_volume_backups(redis, "data", "0 3 * * *", keep=3, days=30)
    assert planned.backup and (planned.backup.schedule, planned.backup.keep) == ("0 3 * * *", 3)
    assert await client.volume_schedule(redis, "data") == planned
    assert (await client.volumes("foo"))[0].backup == planned.backup
    assert (await client.unschedule_volume_backups(redis, "data")).backup is None
    with pytest.raises(InvalidInput, match="five parts"):
        await client.schedule_volume_backups(redis, "data", "at night")


async def test_resources(client: Client, world: World):
    await client.create_deployment("foo")
    made = await client.create_resource("foo", "postgres", "db")
    assert await client.resource("foo", "db") == made == (await client.resources("foo"))[0]
    world.runtime.backend = Echoing()
    with pytest.raises(Unavailable, match="does not run now"):
        [each async for each in client.back_up("foo", "db")]
    world.runtime.running = [instance(1, process_type="server", service="db", id="foo-db-1-server-1")]
    steps = [each async for each in client.back_up("foo", "db")]
    (backup,) = await client.backups("foo", "db")
    assert (steps[-1].mark, steps[-1].text) == (Mark.DONE, backup.id)
    assert [each.mark async for each in client.restore("foo", "db", backup.id)][-1] is Mark.DONE
    with pytest.raises(NotFound, match="no backup 'other'"):
        [each async for each in client.restore("foo", "db", "other")]
    assert b"".join([each async for each in client.export_data("foo", "db")]) == b""

    async def data() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000  # more than the body of any other request may have

    assert (await client.import_data("foo", "db", data())).name == "db"
    await client.destroy_resource("foo", "db")
    elsewhere = await client.create_resource("foo", "postgres", "other", url="postgres://h/x")
    assert elsewhere.external
    await client.set_service(Address("foo", "redis"), {"image": "redis:7"})
    attached = await client.attach_resource(Address("foo", "redis"), "other", prefix="MAIN")
    assert attached.version and attached.version.definition.env["MAIN_URL"] == "postgres://h/x"
    assert (await client.detach_resource(Address("foo", "redis"), "other")).version
    assert await client.volumes("foo") == []


class Echoing(MemoryBackend):
    async def enter(
        self, instance: str, command: str, *, env: Mapping[str, str], terminal: Terminal | None
    ) -> Echo:
        return Echo(0, terminal)


async def test_people(client: Client, url: str):
    await client.create_deployment("foo")
    key = await client.add_key("laptop", KEY, user="robin")
    assert key.user == "robin"
    assert [each.name for each in await client.keys()] == ["laptop"]
    assert (await client.grant("robin", "foo", Right.DEPLOY)).rights == {"foo": Right.DEPLOY}
    secret = await client.create_token(user="robin", description="laptop")
    async with Client(url, secret) as robin:
        assert (await robin.me()).rights == {"foo": Right.DEPLOY}
        assert [each.description for each in await robin.tokens()] == ["laptop"]
        await robin.remove_token((await robin.tokens())[0].id)
        with pytest.raises(Unauthenticated):
            await robin.me()
    assert (await client.grant("robin", "foo", None)).rights == {}
    await client.create_user("sam", admin=True)
    await client.remove_key("laptop")
    await client.remove_user("robin")
    assert [each.name for each in await client.users()] == ["ann", "sam"]


async def test_errors_come_back_as_they_were_raised(client: Client):
    await client.create_deployment("foo")
    with pytest.raises(Conflict, match="There is an app foo already"):
        await client.create_deployment("foo")
    with pytest.raises(NotFound, match="no app bar"):
        await client.service(Address("bar"))
    with pytest.raises(InvalidInput) as caught:
        await client.create_deployment("Nope")
    assert caught.value.field == "app name"


async def test_cancelling_a_build(client: Client, world: World):
    await world.app()
    build = await client.open_build(FOO, commit=None)
    assert (await client.cancel_build(build.id)).cancel_requested_by == "ann"
    assert (await client.build(build.id)).status is BuildStatus.RUNNING


async def test_following_a_version_tells_every_step_and_ends_at_once(client: Client, world: World):
    await world.app()
    number = await world.push()
    steps, ended = [], 0.0

    async def follow() -> None:
        nonlocal ended
        async for step in client.follow(FOO, number):
            steps.append(step)
        ended = time.monotonic()

    following = asyncio.create_task(follow())
    async with asyncio.timeout(5):
        while not steps:
            await asyncio.sleep(0.005)
        await world.live()
        committed = time.monotonic()
        await following
    assert [each.text for each in steps] == ["v1: push", "v1 serves", ""]
    assert steps[-1].done and steps[-1].version.status is VersionStatus.LIVE
    assert ended - committed < 0.05


async def test_following_a_failed_version_tells_why(client: Client, world: World):
    await world.app()
    number = await world.push()
    await world.failed(why="no PORT was opened")
    steps = [each async for each in client.follow(FOO, number)]
    assert steps[-1].failure == "no PORT was opened"
    assert steps[-1].version.status is VersionStatus.FAILED


async def test_a_server_that_is_not_there_is_said_to_be(unused_tcp_port: int):
    async with Client(f"http://127.0.0.1:{unused_tcp_port}", "moor_x") as client:
        with pytest.raises(Unavailable, match="Is `moor server` running"):
            await client.me()


@pytest.mark.parametrize("address", ["nonsense", "ftp://x", "http://x:y"])
def test_no_url_is_refused_in_words(address: str):
    with pytest.raises(InvalidInput, match="no URL"):
        Client(address, "moor_x")


async def test_a_flood_of_log_lines_is_sent_in_parts(client: Client, world: World):
    await world.app()
    build = await client.open_build(FOO, commit=None)
    lines = ["\x01" * 200_000, "y" * 300_000, *["z" * 100] * 20_000]
    await client.append_build_log(build.id, lines)
    log = await client.build_log(build.id)
    assert [len(each) for each in log.splitlines()] == [200_000, 262_144, *[100] * 20_000]
