"""Resources as records: made, seen to come up, attached, and gone; what their servers do is for the contract suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.deliveries import Mark
from controller.errors import Conflict, InvalidInput, NotFound, Refused, Unavailable
from controller.names import Address
from controller.reconcile.course import rollout_of
from controller.reconcile.desired import desired_service
from controller.state import put
from controller.types import Resource, ResourceStatus, Strategy
from tests.factories import instance
from tests.unit.controller.operations.test_rights import Everything
from tests.unit.controller.world import ADMIN, FOO, World, make_world

DB = Address("foo", "db")
URL = "postgres://me:secret@db.example.org/shop"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(tmp_path)
    await made.app()
    await made.push()
    await made.live()
    yield made
    await made.state.close()


async def examine(world: World) -> None:
    await world.operations.releaser.examine(["foo"])


async def test_its_server_is_a_service_and_it_is_ready_once_that_serves(world: World) -> None:
    made = await world.operations.resources.create(ADMIN, "foo", "postgres", "db")
    assert (made.status, made.plan) == (
        ResourceStatus.PENDING,
        {"version": "15", "port": made.values["PORT"]},
    )
    service = world.state.service("foo", "db")
    assert service and service.target == 1 and service.definition.volumes == {"data": "/data"}
    assert made.values["PASSWORD"] == service.definition.env["PASSWORD"]
    version = world.state.version("foo", "db", 1)
    assert version and version.artifact and list(version.artifact.process_types) == ["server"]
    assert made.values["PASSWORD"] not in version.artifact.process_types["server"]
    with pytest.raises(Conflict, match="has not come up yet"):
        await world.operations.resources.attach(ADMIN, FOO, "db")
    await examine(world)
    assert world.operations.resources.get(ADMIN, "foo", "db").status is ResourceStatus.PENDING
    await world.live(DB)
    await examine(world)
    assert world.operations.resources.get(ADMIN, "foo", "db").status is ResourceStatus.READY
    assert [each.text for each in world.state.events("foo") if each.kind == "resource.ready"]
    goal = desired_service(service, {1: version}, frozenset())
    assert rollout_of(goal).strategy is Strategy.ALL_AT_ONCE, "its first version waits for nothing"


async def test_a_server_that_is_given_up_fails_it_with_the_reason(world: World) -> None:
    await world.operations.resources.create(ADMIN, "foo", "postgres", "db")
    await world.failed(DB, "initdb said no")
    await examine(world)
    found = world.operations.resources.get(ADMIN, "foo", "db")
    assert (found.status, found.failure) == (ResourceStatus.FAILED, "initdb said no")
    with pytest.raises(Conflict, match="not ready: initdb said no"):
        await world.operations.resources.attach(ADMIN, FOO, "db")


async def test_ports_are_of_one_server_each(world: World) -> None:
    made = [await world.operations.resources.create(ADMIN, "foo", "postgres", name) for name in ("a", "b")]
    assert len({each.values["PORT"] for each in made}) == 2


async def test_attached_its_values_are_config_until_it_is_detached(world: World) -> None:
    operations = world.operations.resources
    await operations.create(ADMIN, "foo", "postgres", "db", url=URL)
    change = await operations.attach(ADMIN, FOO, "db")
    assert change.version and change.version.definition.env == {"DATABASE_URL": URL}
    assert operations.get(ADMIN, "foo", "db").attached == {"app": ""}
    assert (await operations.attach(ADMIN, FOO, "db")).version is None, "again: nothing changes"
    with pytest.raises(Conflict, match="under other names: detach it first"):
        await operations.attach(ADMIN, FOO, "db", prefix="REPORTS")
    with pytest.raises(Conflict, match="attached to app: detach it first"):
        await operations.destroy(ADMIN, "foo", "db")
    gone = await operations.detach(ADMIN, FOO, "db")
    assert gone.version and gone.version.definition.env == {}
    await operations.attach(ADMIN, FOO, "db", prefix="REPORTS")
    assert (world.operations.services.config(ADMIN, FOO))["REPORTS_HOST"] == "db.example.org"
    await operations.detach(ADMIN, FOO, "db")
    with pytest.raises(NotFound, match="not attached"):
        await operations.detach(ADMIN, FOO, "db")
    await operations.destroy(ADMIN, "foo", "db")
    assert operations.list(ADMIN, "foo") == []


async def test_variables_of_the_service_are_not_written_over(world: World) -> None:
    await world.operations.resources.create(ADMIN, "foo", "postgres", "db", url=URL)
    await world.operations.services.change_config(ADMIN, FOO, values={"DATABASE_URL": "mine"})
    with pytest.raises(Conflict, match=r"has DATABASE_URL already.*--as DB"):
        await world.operations.resources.attach(ADMIN, FOO, "db")
    assert world.operations.resources.get(ADMIN, "foo", "db").attached == {}


async def test_destroyed_its_server_and_its_volume_go(world: World) -> None:
    await world.operations.resources.create(ADMIN, "foo", "postgres", "db")
    volume = world.settings.folders.volumes / "foo" / "db" / "data"
    volume.mkdir(parents=True)
    await world.operations.resources.destroy(ADMIN, "foo", "db")
    await world.operations.removal.idle()
    assert world.state.service("foo", "db") is None and ("foo", "db") in world.cleaned
    assert (volume.parent / ".given-up").exists()


async def test_what_can_not_be(world: World) -> None:
    operations = world.operations.resources
    with pytest.raises(InvalidInput, match=r"no kind of resource 'mysql'\. Known are: postgres"):
        await operations.create(ADMIN, "foo", "mysql", "db")
    with pytest.raises(Conflict, match="a service or a resource app already"):
        await operations.create(ADMIN, "foo", "postgres", "app", url=URL)
    await operations.create(ADMIN, "foo", "postgres", "db", url=URL)
    with pytest.raises(Refused, match="kept elsewhere: back it up"):
        operations.backup(ADMIN, "foo", "db")
    with pytest.raises(InvalidInput, match="capital letters"):
        await operations.attach(ADMIN, FOO, "db", prefix="no good")
    run = Resource(deployment="foo", name="Init", kind="exec", status=ResourceStatus.READY)
    await world.state.commit(put(run))
    with pytest.raises(NotFound, match="no resource 'Init'"):
        operations.get(ADMIN, "foo", "Init")


async def test_backups_are_made_beside_its_server_one_at_a_time(world: World) -> None:
    operations = world.operations.resources
    await operations.create(ADMIN, "foo", "postgres", "db")
    world.runtime.backend = Everything()
    with pytest.raises(Unavailable, match="does not run now: `ps -a foo/db`"):
        operations.backup(ADMIN, "foo", "db")
    server = instance(1, process_type="server", service="db", id="foo-db-1-server-1")
    world.runtime.running = [server]
    first, second = operations.backup(ADMIN, "foo", "db"), operations.backup(ADMIN, "foo", "db")
    steps = [each async for each in first]
    assert [each.mark for each in steps] == [Mark.STEP, Mark.LINE, Mark.DONE]
    assert [each.id for each in await operations.backups(ADMIN, "foo", "db")] == [steps[-1].text]
    assert steps[-1].text in [each async for each in operations.restore(ADMIN, "foo", "db")][-1].text
    with pytest.raises(NotFound, match="no backup 'x'"):
        [each async for each in operations.restore(ADMIN, "foo", "db", "x")]
    export = operations.export(ADMIN, "foo", "db")
    assert [each async for each in export] == []
    assert len([each async for each in second]) == 3, "each in its turn"
