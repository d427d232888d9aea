"""Which drivers an installation has where that is left to it."""

import json

import pytest

from cli.choosing import as_recorded, choose, recorded, settled
from controller.config import Settings
from controller.errors import Refused

AUTO = {"backend": "auto", "builder": "auto"}
CONTAINERS = {"backend": "docker", "builder": "docker"}
PROCESSES = {"backend": "supervisor", "builder": "host"}


@pytest.mark.parametrize(
    ("wanted", "before", "found", "chosen"),
    [
        (AUTO, {}, "docker", CONTAINERS),
        (AUTO, {}, "supervisor", PROCESSES),
        (AUTO, PROCESSES, "docker", PROCESSES),
        (AUTO, CONTAINERS, "supervisor", CONTAINERS),
        ({"backend": "docker", "builder": "auto"}, PROCESSES, "supervisor", CONTAINERS),
        ({"backend": "supervisor", "builder": "auto"}, CONTAINERS, "docker", PROCESSES),
        (
            {"backend": "auto", "builder": "host"},
            CONTAINERS,
            "docker",
            {"backend": "docker", "builder": "host"},
        ),
        (AUTO, {"backend": "docker", "builder": "host"}, "docker", {"backend": "docker", "builder": "host"}),
        (
            {"backend": "memory", "builder": "auto"},
            {},
            "docker",
            {"backend": "memory", "builder": "host"},
        ),
    ],
)
def test_drivers_are_as_wanted_else_as_before_else_as_found(wanted, before, found, chosen):
    assert choose(wanted, before, found) == chosen


async def test_the_first_start_writes_down_what_was_chosen(tmp_path):
    settings = Settings(data=tmp_path, docker_host=f"unix://{tmp_path}/nobody.sock")
    assert (await settled(settings)).backend == "supervisor"
    assert json.loads((tmp_path / "drivers.json").read_text()) == PROCESSES
    assert as_recorded(settings).builder == "host"


async def test_an_installation_from_before_keeps_what_it_runs_on(tmp_path):
    (tmp_path / "supervisor").mkdir()
    assert recorded(Settings(data=tmp_path).folders) == PROCESSES


async def test_a_record_that_is_damaged_is_named(tmp_path):
    (tmp_path / "drivers.json").write_text("{")
    with pytest.raises(Refused, match=r"drivers\.json"):
        await settled(Settings(data=tmp_path))


async def test_another_backend_is_refused_while_it_can_not_be_known_that_nothing_runs(tmp_path):
    (tmp_path / "drivers.json").write_text(json.dumps(CONTAINERS))
    settings = Settings(data=tmp_path, docker_host=f"unix://{tmp_path}/nobody.sock", backend="supervisor")
    with pytest.raises(Refused, match="Start with --backend docker once more"):
        await settled(settings)
    assert json.loads((tmp_path / "drivers.json").read_text()) == CONTAINERS
