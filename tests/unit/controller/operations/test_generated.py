"""`Generate`: secrets of a deployment, what has them, and renewing one."""

from typing import Any

import pytest

from controller.environment import environment
from controller.errors import InvalidInput, NotFound
from controller.formation import process_commands
from controller.names import Address
from controller.operations.access import shown_deployment, shown_version
from controller.operations.servicefiles import Request
from controller.provided import effective
from controller.reconcile.plan_runs import run_spec
from controller.runs import run_of_version
from controller.servicefile.document import ServiceFile
from controller.state import State, put
from controller.store.memory import MemoryStore
from controller.types import NO_LIMITS, Right, RunKind, Version
from controller.vault import open_vault
from controller.views import FileOutcome
from tests.factories import NOW
from tests.unit.controller.world import ADMIN, World

SECRETS = {"Generate": {"Key": {"hex": 32}, "Short": 4}}
WEB = {"image": "web", "cmd": "serve --key {Key}", "env": {"KEY": "k-{Key}", "RAW": "{{Key}} {other} ${Key}"}}
WEB_AT = Address("foo", "web")


@pytest.fixture
async def foo(world: World) -> World:
    await world.operations.deployments.create(ADMIN, "foo")
    return world


async def deploy(world: World, services: dict[str, Any], shared: dict[str, Any] | None = None) -> FileOutcome:
    file = ServiceFile(services=services, globals=SECRETS if shared is None else shared)
    return await world.operations.servicefiles.apply(ADMIN, Request(deployment="foo", file=file))


def version(world: World, number: int, service: str = "web") -> Version:
    found = world.state.version("foo", service, number)
    assert found is not None
    return found


def secret(world: World, name: str = "Key") -> str:
    return world.operations.shared.generated(ADMIN, "foo")[name]


async def test_the_definition_keeps_the_name_and_what_runs_has_the_value(foo: World) -> None:
    await deploy(foo, {"web": WEB})
    key = secret(foo)
    assert (len(key), len(secret(foo, "Short"))) == (64, 8)
    made = version(foo, 1)
    assert made.definition.env["KEY"] == "k-{Key}"
    assert made.provided.vars == {"Key": key}, "only what it uses"
    runs = effective(made)
    assert environment(runs)["KEY"] == f"k-{key}"
    assert environment(runs)["RAW"] == "{Key} {other} ${Key}"
    assert process_commands(runs) == {"": f"serve --key {key}"}


async def test_the_words_of_an_entrypoint_have_it_too(foo: World) -> None:
    words = ["serve", "--key={Key}", "{{Key}}", "{other}"]
    await deploy(foo, {"web": {"image": "web", "entrypoint": words, "cmd": "now"}})
    made, key = version(foo, 1), secret(foo)
    assert made.definition.extra["entrypoint"] == words, "the name stays where the definition is shown"
    assert made.provided.vars == {"Key": key}
    assert process_commands(effective(made)) == {"": f"exec serve --key={key} '{{Key}}' '{{other}}' now"}
    await foo.operations.shared.renew(ADMIN, "foo", "Key")
    assert process_commands(effective(version(foo, 2))) != process_commands(effective(made))


async def test_the_same_file_again_is_no_change(foo: World) -> None:
    await deploy(foo, {"web": WEB})
    key = secret(foo)
    outcome = await deploy(foo, {"web": WEB})
    assert (outcome.changes, outcome.globals, secret(foo)) == ((), (), key)


async def test_a_secret_stays_when_it_is_taken_out_and_comes_back(foo: World) -> None:
    await deploy(foo, {"web": WEB})
    key = secret(foo)
    await deploy(foo, {"web": WEB}, {})
    assert "Key" not in foo.operations.shared.generated(ADMIN, "foo")
    assert environment(effective(version(foo, 2)))["KEY"] == "k-{Key}"
    await deploy(foo, {"web": WEB})
    assert secret(foo) == key


async def test_variables_of_the_deployment_and_config_may_name_it(foo: World) -> None:
    await deploy(foo, {"web": {"image": "web"}}, {**SECRETS, "Env": {"SHARED": "{Short}"}})
    await foo.operations.services.change_config(ADMIN, WEB_AT, values={"OWN": "{Key}"})
    env = environment(effective(version(foo, 2)))
    assert (env["SHARED"], env["OWN"]) == (secret(foo, "Short"), secret(foo))
    shown = {each.name: each.value for each in foo.operations.services.environment(ADMIN, WEB_AT)}
    assert (shown["SHARED"], shown["OWN"]) == (secret(foo, "Short"), secret(foo))


async def test_renewing_makes_a_version_of_those_that_have_it(foo: World) -> None:
    await deploy(foo, {"web": WEB, "other": {"image": "other"}})
    before = secret(foo)
    change = await foo.operations.shared.renew(ADMIN, "foo", "Key")
    assert [(each.service, each.number, each.reason) for each in change.versions] == [
        ("web", 2, "generate:renew Key")
    ]
    assert secret(foo) != before
    assert version(foo, 2).summary == "~{Key}"
    assert (await deploy(foo, {"web": WEB, "other": {"image": "other"}})).changes == ()
    with pytest.raises(NotFound, match="no secret 'Other'"):
        await foo.operations.shared.renew(ADMIN, "foo", "Other")


async def test_going_back_brings_the_old_value_back(foo: World) -> None:
    await deploy(foo, {"web": WEB})
    before = secret(foo)
    await foo.live(WEB_AT)
    await foo.operations.shared.renew(ADMIN, "foo", "Key")
    await foo.live(WEB_AT)
    back = await foo.operations.versions.rollback(ADMIN, WEB_AT)
    assert back.provided.vars == {"Key": before}
    service = foo.state.service("foo", "web")
    assert service and service.definition.env["KEY"] == "k-{Key}"


async def test_commands_of_a_version_get_it_when_they_are_started_and_not_before(foo: World) -> None:
    await deploy(foo, {"web": {**WEB, "predeploy": "check {Key}"}})
    runs, service = effective(version(foo, 1)), foo.state.service("foo", "web")
    command = runs.definition.predeploy
    assert service and command == "check {Key}", "what is kept and told of it has no secret"
    run = run_of_version(runs, RunKind.PREDEPLOY, command, ttl=60, now=NOW)
    assert run_spec(service, runs, run, NO_LIMITS).command == f"check {secret(foo)}"
    own = run_of_version(runs, RunKind.RUN, "echo {Key}", ttl=60, now=NOW)
    assert run_spec(service, runs, own, NO_LIMITS).command == "echo {Key}", "people's braces are their own"


async def test_who_may_only_view_sees_no_value(foo: World) -> None:
    await deploy(foo, {"web": WEB})
    viewer = await foo.user("vic", foo=Right.VIEW)
    deployment = foo.state.deployment("foo")
    assert deployment
    for asker in (viewer, ADMIN):
        assert secret(foo) not in repr(shown_deployment(asker, deployment))
    assert secret(foo) not in repr(shown_version(viewer, version(foo, 1)))
    assert secret(foo) not in repr(foo.operations.versions.diff(viewer, WEB_AT, 1))


async def test_it_never_reaches_the_store_in_the_clear(foo: World, tmp_path: Any) -> None:
    await deploy(foo, {"web": WEB})
    store = MemoryStore()
    vault = await open_vault(store, tmp_path / "keys")
    state = await State.open(store, codec=vault)
    deployment = foo.state.deployment("foo")
    assert deployment

    await state.commit(put(deployment), put(version(foo, 1)))
    entries, _ = await store.list("")
    assert secret(foo) not in repr([each.value for each in entries])
    await state.close()
    again = await State.open(store, codec=await open_vault(store, tmp_path / "keys"))
    assert again.version("foo", "web", 1) == version(foo, 1)
    assert again.deployment("foo") == deployment
    await again.close()


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("Key", "Generate must map names to sizes"),
        ({"Key": 0}, "Key must be a number of random bytes from 1 to 1024"),
        ({"Key": True}, "Key must be a number"),
        ({"Key": {"hex": "many"}}, "Key must be a number"),
        ({"Key": {"base64": 3}}, "Key: 'base64' is unknown: write {hex: 32}"),
        ({"PORT": 3}, "'PORT' can't name a secret"),
        ({"a-b": 3}, "'a-b' can't name a secret"),
    ],
)
async def test_what_is_wrong_with_the_section_is_told(foo: World, section: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        await deploy(foo, {"web": WEB}, {"Generate": section})
    assert refused.value.field == "Generate"
    assert foo.state.services("foo") == []


async def test_a_name_that_generate_has_no_more_is_told(foo: World) -> None:
    await deploy(foo, {"web": WEB, "other": {"image": "other"}})
    commands = {"Init": {"service": "other", "cmd": "init {Short}"}}
    outcome = await deploy(foo, {"web": WEB, "other": {"image": "other"}}, {"Exec": commands})
    assert outcome.notes == (
        "web has {Key}, which Generate has no more: it stays as it is written.",
        "Init has {Short}, which Generate has no more: it stays as it is written.",
    )


async def test_a_slip_in_a_password_is_told_without_any_of_it(foo: World) -> None:
    auth = {"joe": "{Kee}", "kim": "x{aB3}y", "ann": "{Key}", "lou": "no braces"}
    domains = {"a.example.org": {"http": "web", "auth": auth}}
    outcome = await deploy(foo, {"web": WEB}, {**SECRETS, "Domains": domains})
    told = [each for each in outcome.notes if "the password of" in each]
    assert [each.partition(" has a name in braces")[0] for each in told] == [
        "a.example.org: the password of joe",
        "a.example.org: the password of kim",
    ]
    assert told[0].endswith(" Did you mean Key?")
    assert not any("aB3" in each or "Kee" in each for each in told)
