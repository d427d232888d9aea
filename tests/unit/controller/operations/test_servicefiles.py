"""Service files: what they change of a deployment, in one step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from controller.environment import environment
from controller.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.servicefiles import Request
from controller.servicefile.document import Infra, ServiceFile
from controller.state import put
from controller.store.base import StoreUnavailable, TooLarge
from controller.types import Deployment, Right
from controller.views import FileChangeKind, FileOutcome
from tests.unit.controller.world import ADMIN, World

SHOP: dict[str, Any] = {
    "redis": {"image": "redis:7"},
    "web": {"image": "web", "env": {"COLOR": "blue"}},
}
ENV = {"Env": {"BRAND": "Company Ltd."}}


async def deploy(
    world: World,
    services: dict[str, Any] | None = None,
    shared: dict[str, Any] | None = None,
    *,
    asker: Actor = ADMIN,
    deployment: str = "foo",
    infra: Infra | None = None,
    **options: Any,
) -> FileOutcome:
    file = ServiceFile(
        services=SHOP if services is None else services,
        globals=ENV if shared is None else shared,
        infra=infra,
    )
    request = Request(deployment=deployment, file=file, **options)
    outcome = await world.operations.servicefiles.apply(asker, request)
    again = await world.operations.servicefiles.plan(asker, replace(request, force=False))
    assert (again.changes, again.globals) == ((), ()), "the same again changes nothing"
    return outcome


def told(outcome: FileOutcome) -> list[tuple[str, str, int | None]]:
    return [(each.service, each.kind.value, each.version) for each in outcome.changes]


@pytest.fixture
async def shop(world: World) -> World:
    await world.operations.deployments.create(ADMIN, "foo")
    return world


async def test_a_file_makes_what_it_says_and_the_same_again_nothing(shop: World) -> None:
    outcome = await deploy(shop)
    assert told(outcome) == [("redis", "create", 1), ("web", "create", 1)]
    version = shop.state.version("foo", "web", 1)
    assert version and version.reason == "deploy of Servicefile"
    assert {"BRAND": "Company Ltd.", "COLOR": "blue"}.items() <= environment(version).items()
    revision = shop.state.last_event
    again = await deploy(shop)
    assert (again.changes, again.globals, again.unchanged) == ((), (), 2)
    assert shop.state.last_event == revision


async def test_services_get_user_ids_of_their_own(shop: World) -> None:
    await deploy(shop)
    uids = [each.uid for each in shop.state.services("foo")]
    assert len(set(uids)) == 2


async def test_what_is_required_comes_first(shop: World) -> None:
    outcome = await deploy(shop, {"web": {"image": "web", "require": ["db"]}, "db": {"image": "db"}})
    assert [each.service for each in outcome.changes] == ["db", "web"]


async def test_one_changed_value_makes_one_version(shop: World) -> None:
    await deploy(shop)
    outcome = await deploy(shop, {**SHOP, "web": {**SHOP["web"], "env": {"COLOR": "red"}}})
    assert told(outcome) == [("web", "change", 2)]
    (difference,) = outcome.changes[0].differences
    assert (difference.sign, difference.name, difference.after) == ("~", "COLOR", "(hidden)")
    assert outcome.unchanged == 1


async def test_a_changed_shared_variable_makes_a_version_of_each_service_that_sees_it(shop: World) -> None:
    await deploy(shop, {**SHOP, "own": {"image": "own", "env": {"BRAND": "its own"}}})
    await shop.operations.services.define(ADMIN, Address("foo", "other"), {"image": "other"})
    services = {**SHOP, "own": {"image": "own", "env": {"BRAND": "its own"}}}
    outcome = await deploy(shop, services, {"Env": {"BRAND": "New"}})
    assert sorted(told(outcome)) == [("other", "change", 2), ("redis", "change", 2), ("web", "change", 2)]
    assert [(each.sign, each.name) for each in outcome.globals] == [("~", "BRAND")]


async def test_what_the_file_says_no_more_goes_and_what_people_set_stays(shop: World) -> None:
    await deploy(shop, {"web": {"image": "web", "command": "serve", "env": {"A": "1", "B": "2"}}})
    web = Address("foo", "web")
    await shop.operations.services.change_config(ADMIN, web, values={"SECRET": "s"})
    await shop.operations.shared.change(ADMIN, "foo", values={"OWN": "kept"})
    await deploy(shop, {"web": {"image": "web", "env": {"B": "2"}}}, {})
    service = shop.state.service("foo", "web")
    deployment = shop.state.deployment("foo")
    assert service and deployment
    assert (service.definition.command, service.definition.env) == (None, {"B": "2", "SECRET": "s"})
    assert deployment.globals == {"Env": {"OWN": "kept"}}


async def test_short_and_long_forms_are_the_same(shop: World) -> None:
    await deploy(shop, {"web": {"image": "web", "cmd": ["serve", "--all"], "port": 80, "require": "db"}})
    long = {
        "image": "web",
        "command": "serve --all",
        "ports": {"": 80},
        "require": ["db"],
        "privileged": False,
    }
    assert (await deploy(shop, {"web": long})).changes == ()


async def test_an_image_finds_its_port(shop: World) -> None:
    await deploy(shop, {"redis": {"image": "redis", "port": 6379}})
    version = shop.state.version("foo", "redis", 1)
    assert version and environment(version)["PORT"] == "6379"


async def test_code_is_held_and_its_config_kept_for_the_first_push(shop: World) -> None:
    outcome = await deploy(shop, {"web": {"git": ".", "env": {"A": "1"}}})
    (change,) = outcome.changes
    assert change.held and change.held.startswith("no code yet")
    assert await shop.push(Address("foo", "web")) == 1
    version = shop.state.version("foo", "web", 1)
    assert version and environment(version)["A"] == "1"
    assert (await deploy(shop, {"web": {"git": ".", "env": {"A": "1"}}})).changes == ()


async def test_prune_destroys_what_is_not_in_the_file(shop: World) -> None:
    await deploy(shop)
    rest = {"redis": SHOP["redis"]}
    assert (await deploy(shop, rest)).changes == ()
    outcome = await deploy(shop, rest, prune=True)
    assert told(outcome) == [("web", "remove", None)]
    assert [each.name for each in shop.state.services("foo")] == ["redis"]
    assert list(shop.state.versions("foo", "web")) == []


async def test_prune_needs_the_right_to_destroy(shop: World) -> None:
    await deploy(shop)
    robin = await shop.user("robin", foo=Right.OPERATE)
    with pytest.raises(Forbidden, match="needs manage"):
        await deploy(shop, {"redis": SHOP["redis"]}, asker=robin, prune=True)
    await deploy(shop, asker=robin, prune=True)  # nothing is destroyed by it


async def test_force_makes_versions_where_nothing_changes(shop: World) -> None:
    await deploy(shop)
    assert told(await deploy(shop, force=True)) == [("redis", "change", 2), ("web", "change", 2)]


async def test_a_plan_changes_nothing(shop: World) -> None:
    before = (shop.state.services(), shop.state.last_event)
    plan = await shop.operations.servicefiles.plan(
        ADMIN, Request(deployment="foo", file=ServiceFile(services=SHOP, globals=ENV))
    )
    assert [each.kind for each in plan.changes] == [FileChangeKind.CREATE] * 2
    assert [each.version for each in plan.changes] == [None, None]
    assert not plan.applied
    assert (shop.state.services(), shop.state.last_event) == before


@pytest.mark.parametrize(
    ("services", "shared", "words"),
    [
        ({"web": {"image": "a b"}}, {}, "web: 'a b' is no image"),
        ({"web": {"port": 1, "ports": {"a": 2}}}, {}, "web: ports and port say the same"),
        ({"W": {}}, {}, "no valid service name"),
        ({}, {"env": {}}, "is no section"),
        ({}, {"Env": ["A"]}, "env must map names"),
        ({}, {"Env": {"A": {"B": "c"}}}, "The value of A must be a text"),
        ({"web": {"env": ["A"]}}, {}, "web: env must map names"),
        ({}, {"Exec": {"a": "x" * 70_000}}, "larger than 64 KiB"),
        ({}, {"Env": {"PORT": "1"}}, "PORT is given to each instance"),
        ({}, {"Domains": {"x.org": {"http": "foo:nosuch"}}}, "neither in the file nor there yet"),
        ({}, {"Domains": {"no domain": "web"}}, "no valid domain"),
        ({f"s{each}": {"image": "a"} for each in range(2001)}, {}, "can have 2000 services"),
    ],
)
async def test_what_is_wrong_is_told_and_nothing_is_done(
    shop: World, services: dict[str, Any], shared: dict[str, Any], words: str
) -> None:
    revision = shop.state.last_event
    with pytest.raises(InvalidInput, match=words):
        await deploy(shop, {"redis": {"image": "redis"}, **services}, shared)
    assert (shop.state.services(), shop.state.last_event) == ([], revision)


async def test_a_deployment_that_is_not_there(world: World) -> None:
    with pytest.raises(NotFound, match="There is no app foo"):
        await deploy(world)


class TestDomains:
    DOMAINS: ClassVar = {"Domains": {"shop.example.org": {"http": "foo:web"}}}

    async def test_they_lead_to_a_service_and_go_with_the_file(self, shop: World) -> None:
        outcome = await deploy(shop, SHOP, self.DOMAINS)
        assert outcome.changes[1].added_domains == ("shop.example.org",)
        assert self.of(shop, "web") == ("shop.example.org",)
        await shop.operations.domains.change(ADMIN, Address("foo", "web"), add=["own.example.org"])
        outcome = await deploy(shop, SHOP, {})
        assert outcome.changes[0].removed_domains == ("shop.example.org",)
        assert outcome.changes[0].version is None
        assert self.of(shop, "web") == ("own.example.org",)

    async def test_one_moves_to_another_service_in_one_step(self, shop: World) -> None:
        await deploy(shop, SHOP, self.DOMAINS)
        await deploy(shop, SHOP, {"Domains": {"shop.example.org": "redis"}})
        assert (self.of(shop, "web"), self.of(shop, "redis")) == ((), ("shop.example.org",))

    async def test_they_make_no_version_of_anything(self, shop: World) -> None:
        await deploy(shop, SHOP, {})
        outcome = await deploy(shop, SHOP, self.DOMAINS)
        assert [each.version for each in outcome.changes] == [None]
        assert (
            await shop.operations.services.define(ADMIN, Address("foo", "web"), {"image": "web"})
        ).version is None

    async def test_one_may_lead_to_another_deployment(self, shop: World) -> None:
        await shop.app("bar")
        shared = {"Domains": {"bar.example.org": {"http": "bar:app"}}}
        outcome = await deploy(shop, SHOP, shared)
        assert ("bar", "app") in [(each.deployment, each.service) for each in outcome.changes]
        robin = await shop.user("robin", foo=Right.MANAGE, bar=Right.VIEW)
        with pytest.raises(Forbidden, match="needs operate"):
            await shop.operations.servicefiles.apply(
                robin, Request(deployment="foo", file=ServiceFile(services=SHOP, globals={}))
            )
        stranger = await shop.user("sam", foo=Right.MANAGE)
        with pytest.raises(InvalidInput, match="neither in the file nor there"):
            await shop.operations.servicefiles.plan(
                stranger, Request(deployment="foo", file=ServiceFile(services=SHOP, globals=shared))
            )

    async def test_one_may_not_lead_to_a_service_that_goes(self, shop: World) -> None:
        await deploy(shop)
        rest = {"redis": SHOP["redis"]}
        await deploy(shop, rest, self.DOMAINS)
        with pytest.raises(InvalidInput, match="neither in the file nor there yet"):
            await deploy(shop, rest, self.DOMAINS, prune=True)
        await deploy(shop, rest, {"Domains": {"shop.example.org": "redis"}}, prune=True)
        assert self.of(shop, "redis") == ("shop.example.org",)

    async def test_one_of_somebody_else_is_refused(self, shop: World) -> None:
        await shop.app("bar")
        await shop.operations.domains.change(ADMIN, Address("bar"), add=["shop.example.org"])
        with pytest.raises(Conflict, match="in use by bar"):
            await deploy(shop, SHOP, self.DOMAINS)
        assert shop.state.services("foo") == []

    async def test_one_that_asks_for_a_password_is_not_routed(self, shop: World) -> None:
        guarded = {"http": "foo:web", "auth": {"internal": "secret"}}
        outcome = await deploy(shop, SHOP, {"Domains": {"shop.example.org": guarded}})
        assert "not routed" in outcome.notes[0]
        assert self.of(shop, "web") == ()

    async def test_a_certificate_is_kept_and_told(self, shop: World) -> None:
        given = {"shop.example.org": {"http": "foo:web", "cert": "here.pem", "key": "here.key"}}
        outcome = await deploy(shop, SHOP, {"Domains": given})
        assert "answers over plain HTTP" in outcome.notes[0]
        assert self.of(shop, "web") == ("shop.example.org",)
        deployment = shop.state.deployment("foo")
        assert deployment and deployment.globals["Domains"] == given

    async def test_those_below_the_servers_own_are_for_admins(self, shop: World) -> None:
        robin = await shop.user("robin", foo=Right.MANAGE)
        with pytest.raises(Forbidden, match="Only an admin may"):
            await deploy(shop, SHOP, {"Domains": {"other.localhost": "web"}}, asker=robin)

    def of(self, world: World, service: str) -> tuple[str, ...]:
        found = world.state.service("foo", service)
        assert found
        return found.domains


async def test_a_rollback_is_no_reason_for_services_that_the_file_does_not_have(shop: World) -> None:
    other = Address("foo", "other")
    await shop.operations.services.define(ADMIN, other, {"image": "other"})
    await shop.live(other)
    await shop.operations.shared.change(ADMIN, "foo", values={"A": "1"})
    await shop.live(other)
    await shop.operations.versions.rollback(ADMIN, other, 1)
    assert [each.service for each in (await deploy(shop)).changes if each.service == "other"] == ["other"]
    assert (await deploy(shop)).changes == ()


class Small:
    """A store that takes so many writes at once, and breaks at one of its transactions."""

    def __init__(self, commit: Callable[..., Any], most: int, breaks_at: int = 0) -> None:
        self._commit = commit
        self._most = most
        self._left = breaks_at

    async def __call__(self, writes: Any) -> int:
        if len(writes) > self._most:
            raise TooLarge("That is more than fits.")
        self._left -= 1
        if self._left == 0:
            raise StoreUnavailable("it is gone")
        revision: int = await self._commit(writes)
        return revision


async def test_more_than_the_store_takes_is_done_in_parts(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {f"s{each}": {"image": "a"} for each in range(120)}
    store: Any = shop.state._store
    monkeypatch.setattr(store, "commit", Small(store.commit, 400))
    outcome = await deploy(shop, services)
    assert len(outcome.changes) == 120
    assert all(each.version == 1 for each in outcome.changes)
    assert shop.state.deployment("foo") == replace(_deployment(shop), globals=ENV)


async def test_how_far_it_came_is_told(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    services = {f"s{each:03}": {"image": "a"} for each in range(120)}
    store: Any = shop.state._store
    monkeypatch.setattr(store, "commit", Small(store.commit, 400, breaks_at=2))
    with pytest.raises(
        Refused, match="The first 50 of 120 services are done, those from foo/s050 on are not"
    ):
        await deploy(shop, services)
    monkeypatch.undo()
    assert len((await deploy(shop, services)).changes) == 70


def _deployment(world: World) -> Deployment:
    found = world.state.deployment("foo")
    assert found
    return found


async def test_of_an_older_release_nothing_came_from_a_file(shop: World) -> None:
    await shop.state.commit(
        put(replace(_deployment(shop), globals={"Domains": {"x y": 1}}, filed=("Domains",)))
    )
    await deploy(shop, SHOP, {})
    assert "Domains" not in _deployment(shop).globals


INFRA = Infra(scale={"web": {"web": 3}, "redis": {"web": 1}}, domains={"www.example.org": "web"})


async def test_infrastructure_comes_from_a_file_of_its_own(shop: World) -> None:
    outcome = await deploy(shop, infra=INFRA)
    web = shop.state.service("foo", "web")
    assert web is not None
    assert (web.scale, web.domains) == ({"web": 3}, ("www.example.org",))
    shown = {each.service: [each.name for each in each.differences] for each in outcome.changes}
    assert shown == {"redis": ["image", "web"], "web": ["image", "COLOR", "web"]}
    again = await deploy(shop, infra=INFRA)
    assert again.changes == ()


async def test_a_deploy_without_it_leaves_domains_and_what_people_scaled(shop: World) -> None:
    await deploy(shop, infra=INFRA)
    await shop.operations.processes.scale(ADMIN, Address("foo", "web"), {"web": "5"})
    assert (await deploy(shop)).changes == ()
    outcome = await deploy(shop, infra=INFRA)
    assert told(outcome) == [("web", "change", None)]
    (scale,) = outcome.changes[0].differences
    assert (scale.sign, scale.name, scale.before, scale.after) == ("~", "web", 5, 3)
    web = shop.state.service("foo", "web")
    assert web is not None and web.scale == {"web": 3, "": 3}


async def test_what_it_no_longer_says_of_domains_goes(shop: World) -> None:
    await deploy(shop, infra=INFRA)
    await shop.operations.domains.change(ADMIN, Address("foo", "web"), add=["own.example.org"])
    await deploy(shop, infra=Infra(domains={"new.example.org": "web"}))
    web = shop.state.service("foo", "web")
    assert web is not None
    assert (web.domains, web.scale) == (("own.example.org", "new.example.org"), {"web": 3})


async def test_its_word_on_a_domain_goes_before_that_of_the_service_file(shop: World) -> None:
    shared = {"Domains": {"www.example.org": {"http": "redis"}, "a.example.org": {"http": "redis"}}}
    await deploy(shop, shared=shared, infra=INFRA)
    found = {each.name: each.domains for each in shop.state.services("foo")}
    assert found == {"redis": ("a.example.org",), "web": ("www.example.org",)}


@pytest.mark.parametrize(
    "wrong",
    [
        Infra(scale={"nobody": {"web": 1}}),
        Infra(scale={"web": {"worker": 1}}),
        Infra(scale={"web": {"web": 101}}),
        Infra(domains={"www.example.org": "nobody"}),
        Infra(domains={"www.example.org": "bar:web"}),
        Infra(domains={"not a domain": "web"}),
    ],
)
async def test_infrastructure_of_what_is_not_there_is_refused(shop: World, wrong: Infra) -> None:
    await deploy(shop)
    with pytest.raises(InvalidInput):
        await deploy(shop, infra=wrong)


async def test_what_people_did_to_its_domains_and_services_stays_without_it(shop: World) -> None:
    await deploy(shop, infra=INFRA)
    await shop.operations.domains.change(ADMIN, Address("foo", "web"), remove=["www.example.org"])
    assert (await deploy(shop)).changes == ()
    await shop.operations.services.destroy(ADMIN, Address("foo", "web"))
    assert (await deploy(shop, {"redis": SHOP["redis"]})).changes == ()


async def test_a_section_does_not_take_its_domains_while_it_is_away(shop: World) -> None:
    await deploy(shop, infra=INFRA)
    shared = {**ENV, "Domains": {"www.example.org": {"http": "redis"}}}
    outcome = await deploy(shop, shared=shared)
    assert [each for each in outcome.changes if each.added_domains or each.removed_domains] == []
    assert (await deploy(shop)).changes == ()
    found = {each.name: each.domains for each in shop.state.services("foo")}
    assert found == {"redis": (), "web": ("www.example.org",)}
