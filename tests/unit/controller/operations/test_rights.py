"""Every operation on a deployment, asked by everybody."""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from controller.backends.base import Terminal
from controller.backends.echo import Echo
from controller.backends.memory import MemoryBackend
from controller.difference import HIDDEN
from controller.errors import Forbidden, NotFound
from controller.logs.query import LogQuery
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.journal import Wanted
from controller.operations.operations import Operations
from controller.operations.runs import Order
from controller.operations.servicefiles import Request as FileRequest
from controller.plugins.resources import Wanted as WantedResource
from controller.servicefile.document import ServiceFile
from controller.state import put
from controller.types import (
    BuildStatus,
    Deployment,
    LogLine,
    LogSource,
    Resource,
    ResourceStatus,
    Right,
    RunKind,
    User,
)
from tests.factories import instance, log_line, slug
from tests.unit.controller.world import ADMIN, FOO, World

OF_FOO = Wanted(deployment="foo")
FILE = FileRequest(deployment="foo", file=ServiceFile(services={"redis": {"image": "redis"}}))
Call = Callable[[Operations, Actor, str], Any]

STORE = Address("foo", "store")
"""A service that waits for its code, with a volume."""

NEEDS: dict[str, tuple[Right, Call]] = {
    "deployments.get": (Right.VIEW, lambda ops, who, _: ops.deployments.get(who, "foo")),
    "deployments.destroy": (Right.MANAGE, lambda ops, who, _: ops.deployments.destroy(who, "foo")),
    "services.list": (Right.VIEW, lambda ops, who, _: ops.services.list(who, "foo")),
    "services.get": (Right.VIEW, lambda ops, who, _: ops.services.get(who, FOO)),
    "services.ensure": (Right.DEPLOY, lambda ops, who, _: ops.services.ensure(who, Address("foo", "new"))),
    "services.define": (Right.OPERATE, lambda ops, who, _: ops.services.define(who, FOO, {"command": "x"})),
    "services.define new": (
        Right.OPERATE,
        lambda ops, who, _: ops.services.define(who, Address("foo", "redis"), {"image": "redis"}),
    ),
    "servicefiles.plan": (Right.DEPLOY, lambda ops, who, _: ops.servicefiles.plan(who, FILE)),
    "servicefiles.apply": (Right.OPERATE, lambda ops, who, _: ops.servicefiles.apply(who, FILE)),
    "services.config": (Right.DEPLOY, lambda ops, who, _: ops.services.config(who, FOO)),
    "services.environment": (Right.VIEW, lambda ops, who, _: ops.services.environment(who, FOO)),
    "shared.get": (Right.DEPLOY, lambda ops, who, _: ops.shared.get(who, "foo")),
    "cron.list": (Right.VIEW, lambda ops, who, _: ops.cron.list(who, FOO)),
    "execs.list": (Right.VIEW, lambda ops, who, _: ops.execs.list(who, "foo")),
    "execs.retry": (Right.OPERATE, lambda ops, who, _: ops.execs.retry(who, "foo", "Init")),
    "resources.list": (Right.VIEW, lambda ops, who, _: ops.resources.list(who, "foo")),
    "resources.get": (Right.VIEW, lambda ops, who, _: ops.resources.get(who, "foo", "db")),
    "resources.create": (
        Right.OPERATE,
        lambda ops, who, _: ops.resources.create(who, "foo", "postgres", "new", url="postgres://h/x"),
    ),
    "resources.create server": (
        Right.OPERATE,
        lambda ops, who, _: ops.resources.create(who, "foo", "postgres", "new"),
    ),
    "resources.attach": (Right.OPERATE, lambda ops, who, _: ops.resources.attach(who, FOO, "db")),
    "resources.detach": (Right.OPERATE, lambda ops, who, _: ops.resources.detach(who, FOO, "db")),
    "resources.destroy": (Right.MANAGE, lambda ops, who, _: ops.resources.destroy(who, "foo", "own")),
    "resources.fail": (
        Right.OPERATE,
        lambda ops, who, _: ops.resources.fail(who, "foo", "wanted", WantedResource(kind="redis"), "no"),
    ),
    "resources.fail_attachment": (
        Right.OPERATE,
        lambda ops, who, _: ops.resources.fail_attachment(who, FOO, "db", "no"),
    ),
    "resources.backups": (Right.VIEW, lambda ops, who, _: ops.resources.backups(who, "foo", "own")),
    "resources.backup": (Right.OPERATE, lambda ops, who, _: ops.resources.backup(who, "foo", "own")),
    "resources.schedule_backups": (
        Right.OPERATE,
        lambda ops, who, _: ops.resources.schedule_backups(who, "foo", "own", "0 3 * * *"),
    ),
    "resources.restore": (Right.OPERATE, lambda ops, who, _: ops.resources.restore(who, "foo", "own")),
    "resources.export": (Right.OPERATE, lambda ops, who, _: ops.resources.export(who, "foo", "own")),
    "resources.import_": (
        Right.OPERATE,
        lambda ops, who, _: ops.resources.import_(who, "foo", "own", nothing()),
    ),
    "volumes.list": (Right.VIEW, lambda ops, who, _: ops.volumes.list(who, "foo")),
    "volume_backups.list": (Right.VIEW, lambda ops, who, _: ops.volume_backups.list(who, STORE, "data")),
    "volume_backups.backup": (
        Right.OPERATE,
        lambda ops, who, _: ops.volume_backups.backup(who, STORE, "data"),
    ),
    "volume_backups.restore": (
        Right.OPERATE,
        lambda ops, who, _: ops.volume_backups.restore(who, STORE, "data"),
    ),
    "volume_backups.export": (
        Right.OPERATE,
        lambda ops, who, _: ops.volume_backups.export(who, STORE, "data"),
    ),
    "volume_backups.import_": (
        Right.OPERATE,
        lambda ops, who, _: ops.volume_backups.import_(who, STORE, "data", empty_tar()),
    ),
    "volume_backups.scheduled": (
        Right.VIEW,
        lambda ops, who, _: ops.volume_backups.scheduled(who, STORE, "data"),
    ),
    "volume_backups.schedule": (
        Right.OPERATE,
        lambda ops, who, _: ops.volume_backups.schedule(who, STORE, "data", "0 3 * * *"),
    ),
    "volumes.destroy": (Right.MANAGE, lambda ops, who, _: ops.volumes.destroy(who, FOO, "old")),
    "shared.generated": (Right.DEPLOY, lambda ops, who, _: ops.shared.generated(who, "foo")),
    "shared.renew": (Right.OPERATE, lambda ops, who, _: ops.shared.renew(who, "foo", "Secret")),
    "shared.change": (
        Right.OPERATE,
        lambda ops, who, _: ops.shared.change(who, "foo", values={"A": "2"}),
    ),
    "vars.get": (Right.DEPLOY, lambda ops, who, _: ops.vars.get(who, "foo")),
    "vars.change": (Right.OPERATE, lambda ops, who, _: ops.vars.change(who, "foo", values={"A": "2"})),
    "services.change_config": (
        Right.OPERATE,
        lambda ops, who, _: ops.services.change_config(who, FOO, values={"A": "2"}),
    ),
    "services.apply_config": (Right.OPERATE, lambda ops, who, _: ops.services.apply_config(who, FOO)),
    "services.limits": (Right.VIEW, lambda ops, who, _: ops.services.limits(who, FOO)),
    "services.change_limits": (
        Right.OPERATE,
        lambda ops, who, _: ops.services.change_limits(who, FOO, values={"memory": "1G"}),
    ),
    "services.set_branches": (Right.OPERATE, lambda ops, who, _: ops.services.set_branches(who, FOO, ["x"])),
    "sources.change_buildpacks": (
        Right.OPERATE,
        lambda ops, who, _: ops.sources.change_buildpacks(who, FOO, only=["nodejs"]),
    ),
    "sources.set_build_dir": (Right.OPERATE, lambda ops, who, _: ops.sources.set_build_dir(who, FOO, "api")),
    "sources.set_builder": (
        Right.OPERATE,
        lambda ops, who, _: ops.sources.set_builder(who, FOO, target="web"),
    ),
    "sources.detect": (Right.DEPLOY, lambda ops, who, _: ops.sources.detect(who, FOO)),
    "services.destroy": (Right.MANAGE, lambda ops, who, _: ops.services.destroy(who, FOO)),
    "processes.scale": (Right.OPERATE, lambda ops, who, _: ops.processes.scale(who, FOO, {"web": "2"})),
    "processes.restart": (Right.OPERATE, lambda ops, who, _: ops.processes.restart(who, FOO)),
    "services.retry": (Right.OPERATE, lambda ops, who, _: ops.services.retry(who, FOO)),
    "processes.stop": (Right.OPERATE, lambda ops, who, _: ops.processes.stop(who, FOO)),
    "processes.start": (Right.OPERATE, lambda ops, who, _: ops.processes.start(who, FOO)),
    "processes.stop type": (Right.OPERATE, lambda ops, who, _: ops.processes.stop(who, FOO, "web")),
    "processes.start type": (Right.OPERATE, lambda ops, who, _: ops.processes.start(who, FOO, "web")),
    "processes.set_maintenance": (
        Right.OPERATE,
        lambda ops, who, _: ops.processes.set_maintenance(who, FOO, True),
    ),
    "instances.list": (Right.VIEW, lambda ops, who, _: ops.instances.list(who, FOO)),
    "logs.read": (Right.VIEW, lambda ops, who, _: ops.logs.read(who, FOO)),
    "domains.list": (Right.VIEW, lambda ops, who, _: ops.domains.list(who, FOO)),
    "domains.change": (Right.OPERATE, lambda ops, who, _: ops.domains.change(who, FOO, add=["www.x.org"])),
    "versions.list": (Right.VIEW, lambda ops, who, _: ops.versions.list(who, FOO)),
    "versions.get": (Right.VIEW, lambda ops, who, _: ops.versions.get(who, FOO, 1)),
    "versions.diff": (Right.VIEW, lambda ops, who, _: ops.versions.diff(who, FOO, 1)),
    "versions.diff revealed": (
        Right.DEPLOY,
        lambda ops, who, _: ops.versions.diff(who, FOO, 1, reveal=True),
    ),
    "versions.release": (
        Right.DEPLOY,
        lambda ops, who, _: ops.versions.release(who, FOO, slug("b" * 64), reason="push"),
    ),
    "versions.rollback": (Right.DEPLOY, lambda ops, who, _: ops.versions.rollback(who, FOO)),
    "rollouts.follow": (Right.VIEW, lambda ops, who, _: ops.rollouts.follow(who, FOO)),
    "rollouts.promote": (Right.DEPLOY, lambda ops, who, _: ops.rollouts.promote(who, FOO)),
    "rollouts.abort": (Right.DEPLOY, lambda ops, who, _: ops.rollouts.abort(who, FOO)),
    "rollouts.cancel": (Right.DEPLOY, lambda ops, who, _: ops.rollouts.cancel(who, FOO)),
    "rollouts.pause": (Right.DEPLOY, lambda ops, who, _: ops.rollouts.pause(who, FOO)),
    "rollouts.resume": (Right.DEPLOY, lambda ops, who, _: ops.rollouts.resume(who, FOO)),
    "runs.list": (Right.VIEW, lambda ops, who, _: ops.runs.list(who, FOO)),
    "runs.get": (Right.VIEW, lambda ops, who, _: ops.runs.get(who, FOO, "run.1")),
    "runs.logs": (Right.VIEW, lambda ops, who, _: ops.runs.logs(who, FOO, "run.1")),
    "runs.detach": (Right.OPERATE, lambda ops, who, _: ops.runs.detach(who, FOO, Order(command=["x"]))),
    "runs.new_run": (
        Right.OPERATE,
        lambda ops, who, _: ops.runs.new_run(who, FOO, Order(command=["x"]), RunKind.RUN),
    ),
    "attaching.run": (
        Right.OPERATE,
        lambda ops, who, _: entered(ops.attaching.run(who, FOO, Order(command=["x"]), None)),
    ),
    "attaching.enter": (
        Right.OPERATE,
        lambda ops, who, _: entered(ops.attaching.enter(who, FOO, "web.1", Order(command=["x"]), None)),
    ),
    "runs.stop": (Right.OPERATE, lambda ops, who, _: ops.runs.stop(who, FOO, "run.1")),
    "builds.list": (Right.VIEW, lambda ops, who, _: ops.builds.list(who, FOO)),
    "builds.get": (Right.VIEW, lambda ops, who, build: ops.builds.get(who, build)),
    "builds.log": (Right.VIEW, lambda ops, who, build: ops.builds.log(who, build)),
    "builds.open": (Right.DEPLOY, lambda ops, who, _: ops.builds.open(who, FOO, commit=None)),
    "builds.touch": (Right.DEPLOY, lambda ops, who, build: ops.builds.touch(who, build)),
    "builds.append_log": (Right.DEPLOY, lambda ops, who, build: ops.builds.append_log(who, build, ["x"])),
    "builds.close": (Right.DEPLOY, lambda ops, who, build: ops.builds.close(who, build, BuildStatus.FAILED)),
    "disk.usage": (Right.VIEW, lambda ops, who, _: ops.disk.usage(who, FOO)),
    "disk.purge_cache": (Right.DEPLOY, lambda ops, who, _: ops.disk.purge_cache(who, FOO)),
    "deploys.list": (Right.VIEW, lambda ops, who, _: ops.deploys.list(who, deployment="foo")),
    "deploys.cancel": (Right.DEPLOY, lambda ops, who, _: ops.deploys.cancel(who, FOO)),
    "builds.cancel": (Right.DEPLOY, lambda ops, who, build: ops.builds.cancel(who, build)),
    "users.grant": (Right.MANAGE, lambda ops, who, _: ops.users.grant(who, "sam", "foo", Right.VIEW)),
    "plugins.panels": (Right.VIEW, lambda ops, who, _: ops.plugins.panels(who, "foo")),
    "journal.list": (Right.VIEW, lambda ops, who, _: ops.journal.list(who, OF_FOO)),
    "journal.since": (Right.VIEW, lambda ops, who, _: ops.journal.since(who, OF_FOO, after=0)),
    "journal.follow": (Right.VIEW, lambda ops, who, _: ops.journal.follow(who, OF_FOO)),
}
FOR_ADMINS: dict[str, Call] = {
    "plugins.list": lambda ops, who, _: ops.plugins.list(who),
    "plugins.resume": lambda ops, who, _: ops.plugins.resume(who, "notify"),
    "plugins.trace": lambda ops, who, _: ops.plugins.trace(who, True),
    "deployments.create": lambda ops, who, _: ops.deployments.create(who, "new"),
    "users.create": lambda ops, who, _: ops.users.create(who, "new"),
    "users.remove": lambda ops, who, _: ops.users.remove(who, "sam"),
    "keys.add": lambda ops, who, _: ops.keys.add(who, "k", "no key", user="sam"),
    "secrets.rotate": lambda ops, who, _: ops.secrets.rotate(who),
    "disk.report": lambda ops, who, _: ops.disk.report(who),
    "disk.collect": lambda ops, who, _: ops.disk.collect(who),
    "credentials.create": lambda ops, who, _: ops.credentials.create(who, user="sam"),
}
ABOUT_TWO = {"promotion.plan", "promotion.apply"}
"""They need rights on two deployments: asked in test_promotion."""
FOR_EVERYBODY = {
    "execs.advance",  # the server itself
    "execs.consult",
    "resources.check_kind",  # says what the server has
    "resources.back_up_by_plan",
    "volume_backups.back_up_by_plan",
    "cron.look",
    "plugins.commands",
    "plugins.run",  # as the verb and the route say
    "plugins.request",
    "deployments.list",
    "users.list",
    "keys.list",
    "keys.remove",
    "credentials.list",
    "credentials.remove",
    "credentials.authenticate",
    "credentials.renew",
    "credentials.tidy",
    "logs.tidy",
    "credentials.bootstrap",
    "server.status",
    "builds.abandon",
    "rollouts.give_up",
    "builds.trim",
    "builds.ask_to_end",
    "builds.abandon_one",
    "builds.heard",
    "builds.sweep_logs",
    "attaching.sweep",
}
"""What looks at the asker's own things only, or is no door's."""


class Everything(MemoryBackend):
    """Says that whatever is asked about runs."""

    async def enter(
        self, instance: str, command: str, *, env: Mapping[str, str], terminal: Terminal | None
    ) -> Echo:
        return Echo(0, terminal)


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def empty_tar() -> AsyncIterator[bytes]:
    yield bytes(1024)


async def entered(attached: AbstractAsyncContextManager[object]) -> None:
    async with attached:
        pass


async def prepare(world: World) -> str:
    """Two versions that were live, and a canary under way."""
    await world.app()
    await world.push()
    await world.live()
    await world.push(content="d")
    await world.live()
    canary = {"rollout": {"strategy": "canary"}}
    await world.operations.services.define(ADMIN, FOO, canary)
    await world.operations.services.define(ADMIN, STORE, {"git": ".", "volumes": {"data": "/srv"}})
    await world.user("sam")
    deployment = world.state.deployment("foo")
    assert deployment
    shared = {"Generate": {"Secret": 1}, "Exec": {"Init": {"service": "app", "cmd": "./init"}}}
    failed = Resource(deployment="foo", name="Init", kind="exec", status=ResourceStatus.FAILED)
    await world.state.commit(
        put(replace(deployment, globals=shared, generated={"Secret": "00"})), put(failed)
    )
    elsewhere = replace(failed, name="db", kind="postgres", status=ResourceStatus.READY)
    elsewhere = replace(elsewhere, values={"URL": "postgres://h/x"}, settings={"external": True})
    own = replace(elsewhere, name="own", settings={"backups": "00"})
    await world.state.commit(put(replace(elsewhere, attached={"app": ""})), put(own))
    await world.operations.runs.detach(ADMIN, FOO, Order(command=["x"]))
    (world.settings.folders.volumes / "foo" / "app" / "old").mkdir(parents=True)
    world.runtime.backend = Everything()
    server = instance(1, process_type="server", service="own", id="foo-own-1-server-1")
    world.runtime.running = [instance(2), server]
    return (await world.operations.builds.open(ADMIN, FOO, commit=None)).id


async def ask(call: Call, world: World, who: Actor, build: str) -> None:
    result = call(world.operations, who, build)
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("held", [None, *Right, "admin"])
async def test_who_may_do_what(world: World, name: str, held: str | None):
    right, call = NEEDS[name]
    build = await prepare(world)
    rights = {"foo": Right(held)} if held in list(Right) else {"bar": Right.MANAGE}
    who = await world.user("robin", admin=held == "admin", **rights)
    if held is None:
        with pytest.raises(NotFound):
            await ask(call, world, who, build)
    elif held != "admin" and not Right(held).includes(right):
        with pytest.raises(Forbidden, match=f"needs {right}"):
            await ask(call, world, who, build)
    else:
        await ask(call, world, who, build)


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("right", Right)
async def test_a_narrowed_token_of_an_admin_gives_so_much_and_no_more(world: World, name: str, right: Right):
    needed, call = NEEDS[name]
    build = await prepare(world)
    create = world.operations.credentials.create
    secret, _ = await create(ADMIN, right=right, deployments=["foo"])
    who = world.operations.credentials.authenticate(secret)
    if right.includes(needed):
        await ask(call, world, who, build)
    else:
        with pytest.raises(Forbidden, match=f"With this token ann may {right} foo, but this needs {needed}"):
            await ask(call, world, who, build)


@pytest.mark.parametrize("name", NEEDS)
async def test_a_token_for_another_app_sees_nothing_of_this_one(world: World, name: str):
    build = await prepare(world)
    await world.app("bar")
    secret, _ = await world.operations.credentials.create(ADMIN, deployments=["bar"])
    with pytest.raises(NotFound):
        await ask(NEEDS[name][1], world, world.operations.credentials.authenticate(secret), build)


@pytest.mark.parametrize("name", FOR_ADMINS)
async def test_a_narrowed_token_is_no_admins(world: World, name: str):
    build = await prepare(world)
    secret, _ = await world.operations.credentials.create(ADMIN, right=Right.MANAGE)
    with pytest.raises(Forbidden, match="narrowed token"):
        await ask(FOR_ADMINS[name], world, world.operations.credentials.authenticate(secret), build)


@pytest.mark.parametrize("name", FOR_ADMINS)
async def test_what_only_admins_may(world: World, name: str):
    build = await prepare(world)
    who = await world.user("robin", foo=Right.MANAGE)
    with pytest.raises(Forbidden, match="Only an admin may"):
        await ask(FOR_ADMINS[name], world, who, build)


def test_no_operation_is_left_out(world: World):
    known = {name.split()[0] for name in (*NEEDS, *FOR_ADMINS)} | FOR_EVERYBODY | ABOUT_TWO
    for noun, operations in vars(world.operations).items():
        for verb, _ in inspect.getmembers(operations, inspect.ismethod):
            if not verb.startswith("_") and noun not in (
                "removal",
                "receipts",
                "releaser",
                "provision",
                "upkeep",
            ):
                assert f"{noun}.{verb}" in known


async def test_an_operation_without_rights_changes_nothing(world: World):
    build = await prepare(world)
    who = await world.user("robin", foo=Right.VIEW)
    before = (world.state.services(), world.state.versions("foo", "app"), world.state.last_event)
    for right, call in NEEDS.values():
        if right is not Right.VIEW:
            with pytest.raises(Forbidden):
                await ask(call, world, who, build)
    assert (world.state.services(), world.state.versions("foo", "app"), world.state.last_event) == before


async def test_what_does_not_exist_and_what_may_not_be_seen_read_the_same(world: World):
    await world.app()
    who = await world.user("robin")
    with pytest.raises(NotFound) as hidden:
        world.operations.services.get(who, FOO)
    with pytest.raises(NotFound) as missing:
        world.operations.services.get(who, Address("bar"))
    assert str(hidden.value).replace("foo", "bar") == str(missing.value)


async def test_lists_leave_out_what_may_not_be_seen(world: World):
    await world.app()
    await world.app("bar")
    who = await world.user("robin", bar=Right.VIEW)
    assert [each.name for each in world.operations.deployments.list(who)] == ["bar"]
    assert [each.service.deployment for each in world.operations.services.list(who)] == ["bar"]
    assert {each.deployment for each in world.operations.journal.list(who)} == {"bar"}


async def test_values_of_config_are_hidden_from_those_who_may_only_view(world: World):
    await world.state.commit(put(Deployment(name="foo", globals={"Env": {"SHARED": "secret"}})))
    await world.operations.services.ensure(ADMIN, FOO)
    await world.operations.services.change_config(ADMIN, FOO, values={"KEY": "secret"})
    await world.push()
    viewer = await world.user("robin", foo=Right.VIEW)
    version = world.operations.versions.get(viewer, FOO, 1)
    assert world.operations.services.get(viewer, FOO).service.definition.env == {"KEY": HIDDEN}
    assert (version.definition.env, version.globals) == ({"KEY": HIDDEN}, {"Env": {"SHARED": HIDDEN}})
    assert "secret" not in repr(world.operations.journal.list(viewer, OF_FOO))
    assert {each.value for each in world.operations.services.environment(viewer, FOO)} == {HIDDEN}
    deployer = await world.user("sam", foo=Right.DEPLOY)
    assert world.operations.services.config(deployer, FOO) == {"KEY": "secret"}


async def test_globals_are_hidden_in_the_deployment_too(world: World):
    await world.state.commit(put(Deployment(name="foo", globals={"Env": {"SHARED": "secret"}})))
    viewer = await world.user("robin", foo=Right.VIEW)
    assert "secret" not in repr(world.operations.deployments.get(viewer, "foo"))
    assert "secret" not in repr(world.operations.deployments.list(viewer))


def test_an_admin_needs_no_rights():
    assert Actor(User(name="ann", admin=True)).may("anything", Right.MANAGE)


async def test_following_logs_ends_with_the_right_to(world: World):
    class Endless:
        closed = False

        def logs(self, query: LogQuery) -> "Endless":
            return self

        async def past(self) -> AsyncIterator[LogLine]:
            for each in ():
                yield each

        async def following(self) -> AsyncIterator[LogLine]:
            try:
                while True:
                    yield log_line("line")
            finally:
                Endless.closed = True

    await world.app()
    world.runtime.backend = Endless()
    robin = await world.user("robin", foo=Right.VIEW)
    lines = world.operations.logs.read(robin, FOO, sources=[LogSource.APP], follow=True)
    assert (await anext(lines)).text == "line"
    await world.operations.users.grant(ADMIN, "robin", "foo", None)
    with pytest.raises(NotFound):
        while True:
            await anext(lines)
    assert Endless.closed
