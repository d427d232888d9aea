"""Ports of the machine that lead to a service: what becomes of `wan_map`, and who may have which."""

import pytest

from controller.errors import Conflict, Forbidden, InvalidInput
from controller.names import Address
from controller.publishing import clash, outer_ports, published
from controller.types import Artifact, ArtifactKind, Definition, Right
from tests.factories import slug, version
from tests.unit.controller.world import ADMIN, World

IMAGE = Artifact(kind=ArtifactKind.IMAGE, reference="mail:1")
MAIL = {
    "image": "mail:1",
    "ports": {"smtp": 2525, "pop": "assign"},
    "wan_map": {":25": "smtp", ":110": "pop", ":80": ""},
}


def test_names_of_ports_become_their_numbers() -> None:
    definition = Definition(image="mail:1", extra={key: MAIL[key] for key in ("ports", "wan_map")})
    assert published(version(artifact=IMAGE, definition=definition)) == {":25": 2525, ":110": 20000, ":80": 0}


def test_code_has_none_but_a_server_of_a_resource_has_its_own() -> None:
    code = Definition(extra={"wan_map": {":25": ""}}, publish={"10.0.0.1:31000": 31000})
    assert outer_ports(code) == {}
    assert published(version(artifact=slug(), definition=code)) == {"10.0.0.1:31000": 31000}


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (":80", ":80", True),
        (":80", "192.0.2.1:80", True),
        ("192.0.2.1:80", "192.0.2.2:80", False),
        (":80", ":8080", False),
        ("[::1]:80", ":80", True),
    ],
)
def test_which_can_not_be_had_at_once(one: str, other: str, told: bool) -> None:
    assert clash(one, other) is told


async def test_only_an_admin_takes_one_and_anybody_gives_it_back(world: World) -> None:
    await world.operations.deployments.create(ADMIN, "foo")
    robin, at = await world.user("robin", foo=Right.MANAGE), Address("foo", "mail")
    with pytest.raises(
        Forbidden, match=r"Only an admin may give an app a port of the machine \(wan_map\), as here :110"
    ):
        await world.operations.services.define(robin, at, MAIL)
    await world.operations.services.define(ADMIN, at, MAIL)
    await world.operations.services.define(robin, at, {"image": "mail:2"})
    await world.operations.services.define(robin, at, {"wan_map": None})
    with pytest.raises(Forbidden):
        await world.operations.services.define(robin, at, {"wan_map": {":80": ""}})


async def test_what_runs_code_gets_none_for_the_day_when_it_is_given_an_image(world: World) -> None:
    await world.operations.deployments.create(ADMIN, "foo")
    robin = await world.user("robin", foo=Right.MANAGE)
    with pytest.raises(Forbidden):
        await world.operations.services.define(robin, Address("foo", "app"), {"wan_map": {":80": ""}})


async def test_no_two_services_have_the_same_one(world: World) -> None:
    await world.operations.deployments.create(ADMIN, "foo")
    await world.operations.services.define(ADMIN, Address("foo", "mail"), MAIL)
    with pytest.raises(Conflict, match=r"192\.0\.2\.1:25 of the machine leads to foo/mail already"):
        await world.operations.services.define(
            ADMIN, Address("foo", "other"), {"image": "x", "wan_map": {"192.0.2.1:25": ""}}
        )
    assert world.state.service("foo", "other") is None


async def test_one_instance_alone_can_have_it(world: World) -> None:
    await world.operations.deployments.create(ADMIN, "foo")
    await world.operations.services.define(ADMIN, Address("foo", "mail"), MAIL)
    with pytest.raises(
        InvalidInput, match=r"one alone can have :110 of the machine: take it out of wan_map first"
    ):
        await world.operations.processes.scale(ADMIN, Address("foo", "mail"), {"web": "2"})
