"""What the engine is told of an instance, as plain data."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controller.backends.base import InstanceSpec, Terminal
from controller.backends.docker.container import (
    Place,
    attached_config,
    digest_of,
    instance_config,
    owner,
    owner_lives,
    patient,
    port_of,
    without_open_files,
)
from controller.backends.docker.image import Image, parse
from controller.types import Artifact, ArtifactKind, Limits

OURS = Image(reference="mooring/stack:1-run")
PLACE = Place(network="mooring-ab", address="10.201.0.7")
IMAGE = Artifact(kind=ArtifactKind.IMAGE, reference="registry/app:1")


def spec(**changes: Any) -> InstanceSpec:
    values: dict[str, Any] = {
        "id": "foo-app-3-web-1",
        "deployment": "foo",
        "service": "app",
        "version": 3,
        "process_type": "web",
        "number": 1,
        "generation": 7,
        "artifact": Artifact(
            kind=ArtifactKind.SLUG, reference="0" * 64, process_types={"web": "python app.py"}
        ),
        "command": "python app.py",
        "uid": 42001,
        "wants_port": True,
    }
    return InstanceSpec(**values | changes)


def config(image: Image = OURS, **changes: Any) -> dict[str, Any]:
    return instance_config(spec(**changes), image, PLACE, realm="ab", folder=Path("/slugs/1"))


def test_slug_runs_in_the_runners_image_with_nothing_but_its_folder() -> None:
    made = config(env={"A": "1"})
    assert (made["Image"], made["Cmd"], made["User"]) == (
        "mooring/stack:1-run",
        ["python app.py"],
        "42001:42001",
    )
    assert "Entrypoint" not in made
    assert {"A=1", "PORT=5000", "TMPDIR=/tmp"} <= set(made["Env"])
    host = made["HostConfig"]
    assert host["Mounts"][0] == {"Type": "bind", "Source": "/slugs/1", "Target": "/app", "ReadOnly": True}
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (
        True,
        ["ALL"],
        ["no-new-privileges"],
    )
    assert "CapAdd" not in host
    assert host["RestartPolicy"] == {"Name": "always"}


def test_what_is_started_once_is_not_started_again() -> None:
    assert config(once=True)["HostConfig"]["RestartPolicy"] == {"Name": "no"}


def test_runner_is_given_the_command_line() -> None:
    assert config(command="python other.py")["Cmd"] == ["python other.py"]


def test_image_runs_its_own_command_unless_it_is_given_one() -> None:
    image = Image(reference="registry/app:1")
    own = instance_config(spec(artifact=IMAGE, command=""), image, PLACE, realm="ab", folder=None)
    assert not own.keys() & {"Cmd", "Entrypoint"}
    assert (own["User"], own["HostConfig"]["CapDrop"]) == ("", ["ALL"])
    assert "NET_RAW" not in own["HostConfig"]["CapAdd"]
    given = instance_config(spec(artifact=IMAGE, command="serve"), image, PLACE, realm="ab", folder=None)
    assert (given["Entrypoint"], given["Cmd"]) == (["/bin/sh", "-c"], ["serve"])


@pytest.mark.parametrize(
    ("env", "image", "port"),
    [
        ({}, {}, 5000),
        ({}, {"ports": (8080, 9000)}, 8080),
        ({}, {"ports": (8080,), "env": {"PORT": "7000"}}, 7000),
        ({"PORT": "6000"}, {"ports": (8080,), "env": {"PORT": "7000"}}, 6000),
        ({"PORT": "none"}, {"ports": (8080,)}, 8080),
        ({"PORT": "70000"}, {}, 5000),
    ],
)
def test_port_of_an_image(env: dict[str, str], image: dict[str, Any], port: int) -> None:
    assert port_of(spec(artifact=IMAGE, env=env), Image(reference="x", **image)) == port


def test_port_of_a_slug_is_always_the_same_and_there_is_none_without_wish() -> None:
    assert port_of(spec(env={"PORT": "6000"}), OURS) == 5000
    assert port_of(spec(wants_port=False), OURS) is None
    assert not [each for each in config(wants_port=False)["Env"] if each.startswith("PORT=")]


def test_limits_are_what_an_engine_takes() -> None:
    host = config(limits=Limits(memory=1024, cpu=0.001, pids=5, nofile=9))["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (6 * 1024**2, 6 * 1024**2)
    assert (host["CpuQuota"], host["CpuPeriod"], host["PidsLimit"]) == (1000, 100_000, 5)
    assert {"Name": "nofile", "Soft": 9, "Hard": 9} in host["Ulimits"]
    kept = without_open_files({"HostConfig": host})["HostConfig"]["Ulimits"]
    assert kept == [{"Name": "core", "Soft": 0, "Hard": 0}]


def test_no_limit_is_none() -> None:
    assert not config()["HostConfig"].keys() & {"Memory", "CpuQuota", "PidsLimit"}


def test_digest_tells_specifications_apart_and_says_no_value() -> None:
    first = digest_of(spec(env={"PASSWORD": "correct-horse"}))
    assert first == digest_of(spec(env={"PASSWORD": "correct-horse"}))
    others = [
        spec(),
        spec(env={"PASSWORD": "other"}),
        spec(limits=Limits(pids=3)),
        spec(command="x"),
        spec(uid=1),
    ]
    assert len({first, *map(digest_of, others)}) == 6
    assert "correct-horse" not in json.dumps(config(env={"PASSWORD": "correct-horse"})["Labels"])


def test_volumes_are_labelled_too() -> None:
    volume = config()["HostConfig"]["Mounts"][1]
    assert volume["Type"] == "volume"
    assert volume["VolumeOptions"]["Labels"]["mooring.realm"] == "ab"


def test_attached_command_ends_with_us_and_its_terminal_has_its_size() -> None:
    made = attached_config(
        spec(once=True),
        OURS,
        PLACE,
        realm="ab",
        folder=Path("/s"),
        terminal=Terminal(columns=100, rows=30),
        owned_by=f"{owner()} ab",
    )
    assert made["Cmd"] == ["stty rows 30 cols 100 2>/dev/null || :; python app.py"]
    assert (made["Tty"], made["OpenStdin"], made["HostConfig"]["AutoRemove"]) == (True, True, True)
    assert owner_lives(made["Labels"]["mooring.owner"])


def test_owner_of_another_boot_or_a_reused_process_id_has_gone() -> None:
    boot, pid, started = owner().split()
    assert owner_lives(f"{boot} {pid} {started}")
    assert not owner_lives(f"{boot} {pid} {int(started) + 1}")
    assert not owner_lives(f"{boot[::-1]} {pid} {started}")
    assert not owner_lives("")


@pytest.mark.parametrize(
    ("command", "waits"),
    [("python app.py --port $PORT", False), ("A=1 x 2>&1", True), ("a | b", True), ("cd x && y", True)],
)
def test_shell_that_stays_waits_for_its_app(command: str, waits: bool) -> None:
    assert patient(command) == (f"trap 'exit 143' TERM; {command}" if waits else command)


def test_unprivileged_server_runs_slugs_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1001)
    assert config(uid=None)["User"] == "1000:1001"


def test_server_that_is_root_leaves_the_user_to_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config(uid=None)["User"] == ""


def test_what_an_engine_tells_of_an_image_is_understood() -> None:
    found = parse(
        "x:1",
        {
            "Config": {
                "Env": ["PATH=/bin", "PORT=1=2"],
                "ExposedPorts": {"9001/tcp": {}, "53/udp": {}, "80/tcp": {}},
            }
        },
    )
    assert (found.ports, found.env["PORT"]) == ((80, 9001), "1=2")
    assert parse("x:1", {"Config": {}}) == Image(reference="x:1")
