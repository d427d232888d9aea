"""What an app.json leads to when its code is pushed."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from controller.client import Client
from controller.names import Address
from controller.servicefile.appjson import read_app_json
from controller.views import Variable, VariableSource
from gitreceive.manifest import Setup, set_up, set_variables
from gitreceive.record import Refusal

FOO = Address("foo")


class Config:
    """A client that knows variables."""

    def __init__(self, **sources: VariableSource) -> None:
        self._found = [Variable(name=name, value="set", source=each) for name, each in sources.items()]

    async def environment(self, _address: Address) -> Sequence[Variable]:
        return self._found


def client(**sources: VariableSource) -> Client:
    return cast(Client, Config(**sources))


async def set_up_with(env: dict[str, Any], there: Client) -> Setup:
    return await set_up(there, FOO, read_app_json(json.dumps({"env": env})))


async def test_what_nobody_has_set_is_set() -> None:
    env = {"A": "1", "B": "2", "KEY": {"generator": "secret"}, "OFF": {"required": False}, "E": {"value": ""}}
    setup = await set_up_with(env, client(B=VariableSource.DEPLOYMENT))
    assert setup.variables.keys() == {"A", "KEY", "E"}
    assert (setup.variables["A"], setup.variables["E"]) == ("1", "")
    assert len(bytes.fromhex(setup.variables["KEY"])) == 32


async def test_a_secret_that_is_set_stays() -> None:
    env = {"KEY": {"generator": "secret"}}
    assert (await set_up_with(env, client(KEY=VariableSource.SERVICE))).variables == {}


async def test_what_a_buildpack_set_counts_as_not_set() -> None:
    there = client(A=VariableSource.BUILDPACK, B=VariableSource.SERVICE)
    assert (await set_up_with({"A": "1"}, there)).variables == {"A": "1"}
    assert await set_variables(there, FOO) == {"B": "set"}


async def test_what_is_required_and_missing_refuses_the_push_with_the_way_out() -> None:
    env = {"KEY": {"description": "of the mail service"}, "HOST": {}, "THERE": {}}
    with pytest.raises(Refusal) as raised:
        await set_up_with(env, client(THERE=VariableSource.SERVICE))
    assert str(raised.value).splitlines() == [
        "app.json:1:10: KEY is required, and nobody has set it (of the mail service).",
        "app.json:1:57: HOST is required, and nobody has set it.",
        "Set it, then push again: config:set -a foo KEY=… HOST=…",
    ]
