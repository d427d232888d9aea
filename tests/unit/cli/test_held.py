"""Deploys that leave services held: followed until they are released, or nothing is on its way any more."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import held
from controller.types import ResourceStatus
from controller.views import ExecInfo, FileOutcome, ServiceInfo
from tests.unit.cli.fake_client import FakeClient
from tests.unit.cli.test_servicefiles import here

FILE = "redis: {image: company/redis, require: db}\n"


class Holding(FakeClient):
    """Its service redis is held as often as it is looked at, then released."""

    def __init__(self, looks: int | None) -> None:
        super().__init__()
        self.looks = looks
        self.outcome: FileOutcome | None = None

    async def deploy_file(self, deployment: str, body: Any, **options: Any) -> FileOutcome:
        services = {"redis": {"image": "company/redis"}}  # what comes of it once it is released
        outcome = await super().deploy_file(deployment, {**body, "services": services}, **options)
        (change,) = outcome.changes
        held = replace(change, version=None, makes_version=False, held="waits for db")
        return replace(outcome, changes=(held,))

    async def services(self, deployment: str | None = None) -> Sequence[ServiceInfo]:
        infos = await super().services(deployment)
        if self.looks == 0:
            return infos
        if self.looks is not None:
            self.looks -= 1
        return [replace(each, held="waits for db") for each in infos]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "POLL", 0.001)
    monkeypatch.setattr(held, "SETTLED", 0.05)


async def test_what_is_held_is_followed_until_it_is_live(tmp_path: Path) -> None:
    (tmp_path / "Servicefile").write_text(FILE)
    done = await here(tmp_path, Holding(3))("-D", "bare", "deploy")
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[:1] == ["----> redis: a new service, held"]
    assert [each for each in lines if each.startswith("---->")][1:] == [
        "----> Held: waits for db",
        "----> Released: redis",
        "----> New instance id bare-redis-1-1",
    ]


async def test_where_nothing_is_on_its_way_what_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "Servicefile").write_text(FILE)
    done = await here(tmp_path, Holding(None))("-D", "bare", "deploy")
    assert done.status == 0
    assert "bare/redis is still held: waits for db. It starts by itself once that is there." in done.err, (
        done.err
    )


async def test_nobody_waits_who_does_not_want_to(tmp_path: Path) -> None:
    (tmp_path / "Servicefile").write_text(FILE)
    done = await here(tmp_path, Holding(None))("-D", "bare", "deploy", "--detach")
    assert (done.status, "still held" in done.err) == (0, False)


async def test_list_and_info_say_why(tmp_path: Path) -> None:
    (tmp_path / "Servicefile").write_text(FILE)
    client = Holding(None)
    door = here(tmp_path, client)
    await door("-D", "bare", "deploy", "--detach")
    client.instances_.clear()
    assert "held: waits for db" in (await door("list", "bare")).out


class Running(Holding):
    """Commands of Exec: one that ran before the deploy, one that begins and ends while it goes on."""

    def __init__(self) -> None:
        super().__init__(2)
        self.asked = 0

    async def execs(self, deployment: str) -> Sequence[ExecInfo]:
        self.asked += 1
        names = ["Old"] if self.asked == 1 else ["Old", "New"]
        return [
            ExecInfo(
                deployment=deployment,
                name=name,
                service="redis",
                command=f"init {name}",
                require=(),
                status=ResourceStatus.READY,
                run=f"exec.{number}",
            )
            for number, name in enumerate(names, 1)
        ]


async def test_what_a_command_printed_is_shown_also_where_it_has_ended_by_then(tmp_path: Path) -> None:
    (tmp_path / "Servicefile").write_text(FILE)
    done = await here(tmp_path, Running())("-D", "bare", "deploy")
    told = [each for each in done.out.splitlines() if each.startswith("----> R")]
    assert told == ["----> Running New: init New", "----> Released: redis"], done.out + done.err
