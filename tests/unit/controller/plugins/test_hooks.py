"""Every hook, called by what calls it in the product; and that each one is documented and has a test here."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contrib.installation import ROOT
from controller.environment import environment
from controller.names import Address
from controller.operations import promotion
from controller.operations.notices import KEY, Notifier
from controller.operations.servicefiles import Request
from controller.plugins import hooks
from controller.plugins.extensions import Command, Panel, Route, ServerFacts
from controller.plugins.hooks import hookimpl
from controller.plugins.manager import Plugins
from controller.plugins.preparing import Preparing
from controller.plugins.record import Record, Standing
from controller.provided import effective
from controller.servicefile.document import ServiceFile
from controller.state import EventDraft
from controller.store.memory import MemoryStore
from controller.types import BuildStatus, Limits, Manifest, RunKind, Wish
from controller.views import FileOutcome
from tests.factories import run, service, slug, version
from tests.unit.controller.world import ADMIN, World, make_world

SERVER = ServerFacts(data=Path("/data"), api="127.0.0.1:5555", domain="localhost")
WEB = Address("foo", "web")
Made = Callable[..., Any]


def plugin(name: str = "mine", *, priority: int = 100, keys: Sequence[str] = (), **functions: Any) -> Record:
    """A plugin of these hooks."""
    made = SimpleNamespace(priority=priority)
    for hook, function in functions.items():
        setattr(made, hook, hookimpl(function))
    return Record(name, "a test", Standing.ON, plugin=made, keys=frozenset(keys))


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Makes a world with these plugins."""
    worlds = list[World]()

    async def make(*records: Record, store: MemoryStore | None = None, timeout: float = 0.5) -> World:
        world = await make_world(tmp_path, plugins=Plugins(records, timeout=timeout), store=store)
        worlds.append(world)
        if world.state.deployment("foo") is None:
            await world.operations.deployments.create(ADMIN, "foo")
        return world

    yield make
    for each in worlds:
        await each.operations.close()
        await each.state.close()


async def deploy(
    world: World, services: Mapping[str, Any], shared: Mapping[str, Any] | None = None
) -> FileOutcome:
    file = ServiceFile(services=dict(services), globals=dict(shared or {}))
    return await world.operations.servicefiles.apply(ADMIN, Request(deployment="foo", file=file))


def runs_with(world: World, number: int = 1) -> Mapping[str, str]:
    made = world.state.version("foo", "web", number)
    assert made is not None
    return environment(effective(made))


def held(world: World) -> str | None:
    return world.operations.services.get(ADMIN, WEB).held


# Opinions


async def test_setup(opened: Made) -> None:
    open_ = asyncio.Event()
    world = await opened(
        plugin(setup=lambda deployment, service: None if open_.is_set() else f"{service.name} is to wait")
    )
    outcome = await deploy(world, {"web": {"image": "web"}})
    assert [(each.held, each.version) for each in outcome.changes] == [("web is to wait", None)]
    assert world.state.service("foo", "web").holds == {"mine": "web is to wait"}
    open_.set()
    await world.operations.releaser.examine({"foo"})
    assert (held(world), world.state.version("foo", "web", 1) is not None) == (None, True)


async def test_needs_app_code(opened: Made) -> None:
    words = "no code yet: the build server brings it"
    world = await opened(plugin(needs_app_code=lambda service: words))
    outcome = await deploy(world, {"web": {"git": "."}})
    assert (outcome.changes[0].held, held(world)) == (words, words)


async def test_rewrite_service(opened: Made) -> None:
    first = plugin("first", priority=1, rewrite_service=lambda: {"cmd": "wrapped", "env": {"A": "2"}})
    seen = list[str | None]()
    second = plugin("second", rewrite_service=lambda service: seen.append(service.definition.command))
    world = await opened(second, first)
    await deploy(world, {"web": {"image": "web", "cmd": "serve", "env": {"A": "1"}}})
    made = world.state.version("foo", "web", 1)
    assert made.definition.command == "serve", "what people wrote stays"
    assert (effective(made).definition.command, runs_with(world)["A"]) == ("wrapped", "2")
    assert set(seen) == {"wrapped"}, "it is told of what those before it made"
    assert (await deploy(world, {"web": {"image": "web", "cmd": "serve", "env": {"A": "1"}}})).changes == ()


async def test_provide_vars(opened: Made) -> None:
    first = plugin("first", priority=1, provide_vars=lambda: {"REGION": "north"})
    world = await opened(plugin("second", provide_vars=lambda: {"REGION": "south", "ZONE": "b"}), first)
    await deploy(world, {"web": {"image": "web", "env": {"WHERE": "{REGION}-{ZONE}"}}})
    assert runs_with(world)["WHERE"] == "north-b", "the first one that knows it has it"


async def test_provide_environment(opened: Made) -> None:
    world = await opened(
        plugin(provide_environment=lambda service: {"DISCOVERY": "10.0.0.1", "OWN": "theirs"})
    )
    await deploy(world, {"web": {"image": "web", "env": {"OWN": "ours"}}}, {"Env": {"DISCOVERY": "shared"}})
    assert (runs_with(world)["DISCOVERY"], runs_with(world)["OWN"]) == ("10.0.0.1", "ours")
    change = await world.operations.shared.change(ADMIN, "foo", values={"MORE": "1"})
    assert [each.number for each in change.versions] == [2]
    assert runs_with(world, 2)["DISCOVERY"] == "10.0.0.1"


async def test_provide_domains(opened: Made) -> None:
    answers = [{"Shop.example.org": "web", "two.example.org": {"http": "foo:web"}}]
    asked = list[Any]()

    def provide_domains(deployment: Any) -> Any:
        asked.append(deployment)
        return answers[-1]

    world = await opened(plugin(provide_domains=provide_domains))
    shared = {"Domains": {"said.example.org": "web"}, "Names": {"short": "shop"}}
    await deploy(world, {"web": {"image": "busybox"}}, shared)
    assert asked[0].deployment.globals["Names"] == {"short": "shop"}
    assert "web" in asked[0].services
    assert kept_domains(world) == {"shop.example.org", "two.example.org", "said.example.org"}
    assert not (await deploy(world, {"web": {"image": "busybox"}}, shared)).changes
    answers.append({"two.example.org": "web"})
    await deploy(world, {"web": {"image": "busybox"}}, shared)
    assert kept_domains(world) == {"two.example.org", "said.example.org"}


async def test_a_domain_that_is_taken_keeps_no_file_back(opened: Made) -> None:
    given = {"taken.example.org": "web", "free.example.org": "web", "no.example.org": "nobody"}
    mine = plugin(provide_domains=lambda: given)
    bad = plugin("bad", provide_domains=lambda: {"x.example.org": "bar:app"})
    world = await opened(mine, bad)
    other = await world.app("bar")
    await world.operations.domains.change(ADMIN, other, add=["taken.example.org"])
    outcome = await deploy(world, {"web": {"image": "busybox"}})
    assert kept_domains(world) == {"free.example.org"}
    assert sum("which a plugin gives, is left out" in each for each in outcome.notes) == 2
    assert "does not lead to a service of foo" in bad.last_error


async def test_one_that_fails_takes_no_domain_away(opened: Made) -> None:
    guarded = {"http": "web", "auth": {"joe": "correct horse"}, "key": "of a certificate"}
    answers: list[Any] = [{"a.example.org": "web", "b.example.org": guarded}]

    def provide_domains() -> Any:
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        return answers[-1]

    world = await opened(plugin(provide_domains=provide_domains))
    await deploy(world, {"web": {"image": "busybox"}})
    guards = world.state.service("foo", "web").guards
    assert set(guards) == {"b.example.org"}
    for bad in (OSError("its registry is away"), {"a.example.org": 5}):
        answers.append(bad)
        outcome = await deploy(world, {"web": {"image": "busybox"}})
        assert "what they gave before stays" in outcome.notes[0]
        assert not outcome.changes
        assert kept_domains(world) == {"a.example.org", "b.example.org"}
        assert world.state.service("foo", "web").guards == guards
    answers.append({})
    await deploy(world, {"web": {"image": "busybox"}})
    assert kept_domains(world) == set()
    assert "horse" not in str(world.state.deployment("foo"))


async def test_no_key_of_a_certificate_is_kept(opened: Made) -> None:
    given = {"a.example.org": {"http": "web", "cert": "C", "key": "PRIVATE"}}
    world = await opened(plugin(provide_domains=lambda: given))
    await deploy(world, {"web": {"image": "busybox"}})
    assert world.state.deployment("foo").given_domains == {"a.example.org": {"http": "web"}}


async def test_what_a_plugin_gives_keeps_no_file_back(opened: Made) -> None:
    many = {f"d{number}.example.org": "web" for number in range(150)}
    world = await opened(plugin(provide_domains=lambda: {**many, "old.example.org": "old"}))
    images = {"web": {"image": "busybox"}, "old": {"image": "busybox"}}
    outcome = await deploy(world, images)
    assert len(kept_domains(world)) == 100
    assert sum("a service can have 100 domains" in each for each in outcome.notes) == 50
    file = ServiceFile(services={"web": {"image": "busybox"}}, globals={})
    request = Request(deployment="foo", file=file, prune=True)
    outcome = await world.operations.servicefiles.apply(ADMIN, request)
    assert "old.example.org, which a plugin gives, is left out: there is no service old." in outcome.notes


async def test_the_file_has_the_first_word_on_a_domain(opened: Made) -> None:
    world = await opened(plugin(provide_domains=lambda: {"a.example.org": "web"}))
    images = {"web": {"image": "busybox"}, "api": {"image": "busybox"}}
    await deploy(world, images, {"Domains": {"a.example.org": "api"}})
    assert kept_domains(world) == set()
    assert kept_domains(world, "api") == {"a.example.org"}


def kept_domains(world: World, name: str = "web") -> set[str]:
    found = world.state.service("foo", name)
    assert found is not None
    return set(found.domains)


async def test_setup_resource(opened: Made) -> None:
    reasons = ["the disk is not there yet"]
    world = await opened(plugin(setup_resource=lambda name: reasons[0] if reasons else None))
    await deploy(world, {"web": {"image": "web"}}, {"Exec": {"Init": {"service": "web", "cmd": "a"}}})
    await world.operations.releaser.examine({"foo"})
    assert world.operations.execs.list(ADMIN, "foo")[0].waits == "the disk is not there yet"
    reasons.clear()
    await world.operations.releaser.examine({"foo"})
    assert world.operations.execs.list(ADMIN, "foo")[0].run == "exec.1"


# Starts


def spec_of(kind: str = "web", *, once: bool = False) -> Any:
    from controller.reconcile.plan_runs import run_spec

    made = version(1, definition=version().definition)
    spec = run_spec(service(), made, run(1, RunKind.RUN), Limits())
    return spec if once else type(spec)(**{**vars_of(spec), "once": False, "process_type": kind})


class Nowhere:
    """No service is reached."""

    async def places(self, deployment: str, wanted: Iterable[str]) -> Mapping[str, str]:
        raise AssertionError("nobody asked")


async def prepared_by(world: World, mine: Record, spec: Any) -> Any:
    return await Preparing(Plugins([mine]), world.state, Nowhere()).prepared(spec)


def vars_of(spec: Any) -> Mapping[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


async def test_before_start(opened: Made) -> None:
    world = await opened()
    mine = plugin(before_start=lambda start: {"ID": start.id, "MOORING_APP": "no"})
    prepared = await prepared_by(world, mine, spec_of())
    assert prepared.env["ID"] == prepared.id
    assert prepared.env["MOORING_APP"] == "foo", "the server's own stay"
    assert (await prepared_by(world, mine, spec_of(once=True))).env.get("ID") is None


async def test_before_once(opened: Made) -> None:
    world = await opened()
    mine = plugin(before_once=lambda start: {"TYPE": start.process_type})
    prepared = await prepared_by(world, mine, spec_of(once=True))
    assert prepared.env["TYPE"] == "run"
    assert (await prepared_by(world, mine, spec_of())).env.get("TYPE") is None


# Extensions


async def test_system_init() -> None:
    told = list[tuple[str, bool]]()
    mine = plugin(system_init=lambda server, first: told.append((server.domain, first)))
    await Plugins([mine]).start(SERVER, known=())
    await Plugins([mine]).start(SERVER, known=("mine",))
    assert told == [("localhost", True), ("localhost", False)]


async def test_register_commands() -> None:
    commands = [Command(verb="mine:say", run=lambda call: "a\nb"), Command(verb="ps", run=lambda call: "no")]
    plugins = Plugins([mine := plugin(register_commands=lambda: commands)])
    await plugins.start(SERVER, known=())
    assert list(plugins.commands) == ["mine:say"]
    assert mine.last_error == "register_commands: the verb ps must begin with mine"


async def test_register_api_routes() -> None:
    route = Route(path="/report", handle=lambda call: {"ok": True})
    plugins = Plugins([plugin(register_api_routes=lambda: [route])])
    await plugins.start(SERVER, known=())
    assert plugins.routes == {("mine", "GET", "report"): route}


async def test_web_panels(opened: Made) -> None:
    panel, route = Panel(title="Mine", path="/panel"), Route(path="panel", handle=lambda call: "")
    mine = plugin(web_panels=lambda: [panel], register_api_routes=lambda: [route])
    world = await opened(mine)
    plugins = Plugins([mine])
    await plugins.start(SERVER, known=())
    assert plugins.panels == [(mine, panel)]
    assert world.operations.plugins.list(ADMIN).panels == (), "before the server has asked"


# Notices


async def told_after(opened: Made, hook: str, function: Any, happens: Callable[[World], Any]) -> list[Any]:
    """What the hook is told of what happens."""
    store = MemoryStore()
    told = list[Any]()

    record = plugin(**{hook: function(told)})
    world = await opened(record, store=store)
    notifier = Notifier(world.state, store, world.operations.plugins._plugins)
    task = asyncio.create_task(notifier.run())
    await asyncio.sleep(0.01)
    try:
        await happens(world)
        async with asyncio.timeout(5):
            while not told:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert record.errors == 0, record.last_error
    return told


async def test_deployment_created(opened: Made) -> None:
    def hook(told: list[Any]) -> Any:
        return lambda deployment: told.append(deployment.deployment.name)

    assert await told_after(
        opened,
        "deployment_created",
        hook,
        lambda world: world.operations.deployments.create(ADMIN, "bar"),
    ) == ["bar"]


async def test_globals_changed(opened: Made) -> None:
    def hook(told: list[Any]) -> Any:
        return lambda deployment: told.append(deployment.deployment.globals["Env"])

    assert await told_after(
        opened,
        "globals_changed",
        hook,
        lambda world: world.operations.shared.change(ADMIN, "foo", values={"A": "1"}),
    ) == [{"A": "1"}]


async def test_post_setup(opened: Made) -> None:
    def hook(told: list[Any]) -> Any:
        return lambda service, version: told.append((service.name, version))

    for keys, number in (({"image": "web"}, 1), ({"image": "web", "require": "db"}, None)):
        told = await told_after(
            opened, "post_setup", hook, lambda world, keys=keys: deploy(world, {"web": keys})
        )
        assert told == [("web", number)]


async def test_data_provided(opened: Made) -> None:
    def hook(told: list[Any]) -> Any:
        return lambda service, build: told.append((service.name, build != ""))

    async def brought(world: World) -> None:
        await world.operations.services.ensure(ADMIN, WEB)
        build = await world.operations.builds.open(ADMIN, WEB, commit=None)
        await world.operations.builds.close(ADMIN, build.id, BuildStatus.SUCCEEDED, artifact=slug())

    assert await told_after(opened, "data_provided", hook, brought) == [("web", True)]


async def test_resource_changed(opened: Made) -> None:
    def hook(told: list[Any]) -> Any:
        return lambda deployment, name, resource: told.append((name, resource))

    async def changed(world: World) -> None:
        event = EventDraft(kind="resource.removed", deployment="foo", text="gone", data={"resource": "db"})
        await world.state.commit(events=[event])

    assert await told_after(opened, "resource_changed", hook, changed) == [("db", None)]


async def instance_event(world: World, kind: str) -> None:
    await world.operations.services.ensure(ADMIN, WEB)
    event = EventDraft(kind=kind, deployment="foo", service="web", text="x", data={"instance": "foo-web-1-1"})
    await world.state.commit(events=[event])


async def test_post_start(opened: Made) -> None:
    def hook(told: list[Any]) -> Any:
        return lambda service, instance: told.append((service.name, instance))

    happens = lambda world: instance_event(world, "instance.healthy")  # noqa: E731
    assert await told_after(opened, "post_start", hook, happens) == [("web", "foo-web-1-1")]


async def test_post_stop(opened: Made) -> None:
    def hook(told: list[Any]) -> Any:
        return lambda service, instance: told.append((service.name, instance))

    happens = lambda world: instance_event(world, "instance.stopped")  # noqa: E731
    assert await told_after(opened, "post_stop", hook, happens) == [("web", "foo-web-1-1")]


async def test_what_happened_while_no_server_ran_is_told_by_the_next_one(opened: Made) -> None:
    store, told = MemoryStore(), list[str]()
    record = plugin(deployment_created=lambda deployment: told.append(deployment.deployment.name))
    world = await opened(record, store=store)
    await store.put(KEY, {"mine": world.state.last_event})
    await world.operations.deployments.create(ADMIN, "bar")  # and the server is killed here
    for _ in range(2):
        task = asyncio.create_task(Notifier(world.state, store, Plugins([record])).run())
        await asyncio.sleep(1.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert told == ["bar"], "once, as how far it came was kept"


# All of them


def names() -> list[str]:
    return sorted(each for each in vars(hooks) if hasattr(getattr(hooks, each), "mooring_spec"))


def test_every_hook_is_one_of_these() -> None:
    assert len(names()) == 20
    assert set(hooks.OPINIONS) | set(hooks.NOTICES) < set(names())


@pytest.mark.parametrize("name", names())
def test_every_hook_is_documented_and_tested(name: str) -> None:
    spec = getattr(hooks, name)
    assert spec.__doc__ and len(spec.__doc__) > 20, f"{name} says nothing of when it is called"
    page = (ROOT / "contrib" / "plugins.md").read_text()
    assert re.search(rf"^\| `{name}` \|", page, re.MULTILINE), f"contrib/plugins.md has no row for {name}"
    assert f"test_{name}" in globals(), f"no test here is about {name}"
    arguments = spec.__code__.co_varnames[: spec.__code__.co_argcount]
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    for each in arguments:
        assert f"`{each}`" in row, f"the row for {name} does not name {each}"


async def test_a_promotion_asks_them_as_a_deploy_does(opened: Made) -> None:
    calm = plugin(
        "calm", setup=lambda deployment: "not tonight" if deployment.deployment.name == "foo" else None
    )
    world = await opened(calm)
    await world.operations.deployments.create(ADMIN, "staging")
    for name in ("staging", "foo"):
        file = ServiceFile(services={"web": {"image": "web:2" if name == "staging" else "web:1"}}, globals={})
        await world.operations.servicefiles.apply(ADMIN, Request(deployment=name, file=file))
    await world.live(Address("staging", "web"))
    request = promotion.Request(source="staging", target="foo")
    for outcome in (
        await world.operations.promotion.plan(ADMIN, request),
        await world.operations.promotion.apply(ADMIN, request),
    ):
        (change,) = outcome.changes
        assert (change.makes_version, change.held) == (False, "not tonight")


async def test_a_promotion_that_makes_secrets_asks_each_plugin_once(opened: Made) -> None:
    world = await opened(plugin("named", provide_vars=lambda: {"NAME": "x"}))
    for name in ("staging", "shop"):
        await world.app(name)
    asked = Manifest(env={"KEY": Wish(secret=True)})
    await world.operations.versions.release(
        ADMIN, Address("staging"), replace(slug(), manifest=asked), reason="push"
    )
    await world.live(Address("staging"))
    async with asyncio.timeout(10):
        outcome = await world.operations.promotion.apply(
            ADMIN, promotion.Request(source="staging", target="shop")
        )
    assert [each.version for each in outcome.changes] == [1]
    made = world.state.version("shop", "app", 1)
    assert made and len(made.definition.env["KEY"]) == 64
