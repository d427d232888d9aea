"""Service files: what they change of a deployment, in one step."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
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
from controller.types import Deployment, Guard, GuardMode, Right
from controller.views import FileChangeKind, FileOutcome, GuardChange
from router.guards import password_hash
from router.types import GuardMode as RoutedMode
from tests.unit.controller.world import ADMIN, World

digest_hash = partial(password_hash, RoutedMode.DIGEST, salt="")

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


class TestPasswords:
    """Of domains."""

    AUTH: ClassVar[dict[str, str]] = {"joe": "sesame", "kim": "open"}

    def section(self, **options: Any) -> dict[str, Any]:
        return {"Domains": {"shop.example.org": {"http": "foo:web", "auth": self.AUTH, **options}}}

    def guards(self, world: World, service: str = "web") -> Mapping[str, Guard]:
        found = world.state.service("foo", service)
        assert found
        return found.guards

    async def test_they_are_asked_for_by_digest_and_no_version_is_made(self, shop: World) -> None:
        await deploy(shop, SHOP, {})
        outcome = await deploy(shop, SHOP, self.section())
        (change,) = outcome.changes
        assert (change.version, change.added_domains) == (None, ("shop.example.org",))
        assert change.guards == {"shop.example.org": GuardChange.SET}
        users = {"joe": digest_hash("joe", "sesame"), "kim": digest_hash("kim", "open")}
        assert self.guards(shop) == {"shop.example.org": Guard(mode=GuardMode.DIGEST, users=users)}

    async def test_other_passwords_are_a_change_and_the_same_are_none(self, shop: World) -> None:
        await deploy(shop, SHOP, self.section(auth_mode="basic"))
        before = self.guards(shop)
        assert (await deploy(shop, SHOP, self.section(auth_mode="basic"))).changes == ()
        assert self.guards(shop) == before
        outcome = await deploy(
            shop, SHOP, self.section(auth_mode="basic", auth={"joe": "other", "kim": "open"})
        )
        (change,) = outcome.changes
        assert (change.version, change.guards) == (None, {"shop.example.org": GuardChange.CHANGED})
        after = self.guards(shop)["shop.example.org"].users
        assert after["kim"] == before["shop.example.org"].users["kim"]
        assert after["joe"] != before["shop.example.org"].users["joe"]

    async def test_salts_differ_from_domain_to_domain(self, shop: World) -> None:
        options = {"http": "web", "auth": self.AUTH, "auth_mode": "basic"}
        await deploy(shop, SHOP, {"Domains": {"a.example.org": options, "b.example.org": options}})
        one, other = self.guards(shop).values()
        assert not set(one.users.values()) & set(other.users.values())

    @pytest.mark.parametrize("rest", [{"Domains": {"shop.example.org": "web"}}, {}])
    async def test_what_the_file_says_no_more_is_asked_no_more(
        self, shop: World, rest: dict[str, Any]
    ) -> None:
        await deploy(shop, SHOP, self.section())
        (change,) = (await deploy(shop, SHOP, rest)).changes
        assert change.guards == ({"shop.example.org": GuardChange.ENDED} if rest else {})
        assert self.guards(shop) == {}

    async def test_they_go_with_the_domain(self, shop: World) -> None:
        await deploy(shop, SHOP, self.section())
        await deploy(shop, SHOP, self.section(http="redis"))
        assert (self.guards(shop), list(self.guards(shop, "redis"))) == ({}, ["shop.example.org"])
        await shop.operations.domains.change(ADMIN, Address("foo", "redis"), remove=["shop.example.org"])
        assert self.guards(shop, "redis") == {}

    async def test_the_services_own_name_may_ask_too_and_is_named_where_it_does_not(
        self, shop: World
    ) -> None:
        outcome = await deploy(shop, SHOP, self.section())
        assert [each for each in outcome.notes if "web-foo.localhost leads to the same" in each]
        own = {"web-foo.localhost": {"http": "web", "auth": self.AUTH}}
        outcome = await deploy(shop, SHOP, {"Domains": {**self.section()["Domains"], **own}})
        assert outcome.notes == ()
        assert set(self.guards(shop)) == {"shop.example.org", "web-foo.localhost"}
        assert TestDomains().of(shop, "web") == ("shop.example.org",)

    async def test_generated_secrets_may_be_passwords(self, shop: World) -> None:
        await deploy(shop, SHOP, {"Generate": {"Door": 8}, **self.section(auth={"joe": "{Door}"})})
        deployment = shop.state.deployment("foo")
        assert deployment
        users = {"joe": digest_hash("joe", deployment.generated["Door"])}
        assert self.guards(shop)["shop.example.org"].users == users

    async def test_nobody_finds_one_anywhere(self, shop: World) -> None:
        outcome = await deploy(shop, SHOP, self.section())
        operations = shop.operations
        seen = [
            outcome,
            shop.state.deployment("foo"),
            shop.state.services("foo"),
            shop.state.version("foo", "web", 1),
            shop.state.events(),
            operations.deployments.get(ADMIN, "foo"),
            operations.services.get(ADMIN, Address("foo", "web")),
        ]
        assert "sesame" not in repr(seen)
        shown = operations.services.get(ADMIN, Address("foo", "web")).service.guards
        assert shown == {"shop.example.org": Guard(users={"joe": "(hidden)", "kim": "(hidden)"})}

    async def test_what_is_shown_in_place_of_one_is_none(self, shop: World) -> None:
        with pytest.raises(InvalidInput, match="write the password itself"):
            await deploy(shop, SHOP, self.section(auth={"joe": "(hidden)"}))

    async def test_more_than_a_router_takes_are_refused(self, shop: World) -> None:
        auth = {f"{number}{'x' * 60}": "p" for number in range(50)}
        domains = {f"d{number}.example.org": {"http": "web", "auth": auth} for number in range(3)}
        await deploy(shop, SHOP, {"Domains": domains})
        domains["e.example.org"] = {"http": "web", "auth": auth, "auth_mode": "basic"}
        with pytest.raises(InvalidInput, match="more names and passwords than a router takes"):
            await deploy(shop, SHOP, {"Domains": domains})

    async def test_of_another_deployment_they_are_for_those_who_operate_it(self, shop: World) -> None:
        await shop.app("bar")
        robin = await shop.user("robin", foo=Right.MANAGE, bar=Right.VIEW)
        await deploy(shop, SHOP, {"Domains": {"bar.example.org": "bar:app"}})
        asking = {"Domains": {"bar.example.org": {"http": "bar:app", "auth": self.AUTH}}}
        with pytest.raises(Forbidden, match="needs operate"):
            await deploy(shop, SHOP, asking, asker=robin)
        await deploy(shop, SHOP, asking)
        bar = shop.state.service("bar", "app")
        assert bar and set(bar.guards) == {"bar.example.org"}

    async def test_an_infrastructure_file_moves_a_domain_and_opens_none(self, shop: World) -> None:
        infra = Infra(domains={"shop.example.org": "redis"})
        await deploy(shop, SHOP, self.section(), infra=infra)
        assert (self.guards(shop), list(self.guards(shop, "redis"))) == ({}, ["shop.example.org"])
        outcome = await deploy(shop, SHOP, self.section(auth={"joe": "other"}))
        assert [each.guards for each in outcome.changes] == [{"shop.example.org": GuardChange.CHANGED}]
        with pytest.raises(InvalidInput, match="said in the section Domains"):
            await deploy(shop, SHOP, {}, infra=Infra(domains=self.section()["Domains"]))


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
