"""What `deploy --plan` prints, kept word by word."""

import os
from pathlib import Path

import pytest

from cli.folder import Folder
from tests.unit.cli.doors import Door
from tests.unit.cli.fake_client import FakeClient

FILES = Path(__file__).parents[1] / "controller" / "servicefile" / "golden"
KEPT = Path(__file__).parent / "plans"
INFRA = "bare: {scale: {website: {web: 3, worker: 1}, redis: 1}, domains: {try.example.org: website}}\n"


def check(told: str, name: str) -> None:
    """With MOOR_WRITE_GOLDEN=1 the kept output is written anew, to be read in the diff."""
    file = KEPT / f"{name}.txt"
    if os.environ.get("MOOR_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(told)
    assert told == file.read_text()


async def planned(client: FakeClient, folder: Path, *words: str) -> str:
    door = Door(client, folder=Folder(folder, {"PATH": "/usr/bin:/bin"}), terminal=True)
    result = await door("-D", "bare", "deploy", *words, "--plan")
    return f"{result.out}{result.err}"


@pytest.mark.parametrize("name", ["seed", "everything"])
async def test_a_new_deployment(name: str) -> None:
    check(await planned(FakeClient(), FILES, f"{name}.yml", "--create"), f"{name}_new")


async def test_infrastructure_beside_it(tmp_path: Path) -> None:
    (tmp_path / "infra.yml").write_text(INFRA)
    (tmp_path / "Servicefile").write_text((FILES / "seed.yml").read_text())
    check(await planned(FakeClient(), tmp_path, "--infra", "infra.yml"), "infra")


async def test_changes_of_what_is_there(tmp_path: Path) -> None:
    client = FakeClient()
    file = tmp_path / "Servicefile"
    file.write_text(
        "Env: {BRAND: x}\nDomains: {old.example.org: web, a.example.org: {http: web, auth: {joe: sesame}}, "
        "b.example.org: {http: web, auth: {joe: sesame}}}\n"
        "Resources: {db: {kind: postgres, backup: 0 3 * * *}, cache: {kind: redis, backup: 0 4 * * *}, x: redis}\n"
        "web: {image: 'web:1', env: {COLOR: blue, SIZE: 1}, port: 8000, health: /up}\ngone: {image: gone}\n"
        "saved: {image: saved, volumes: {a: {path: /a, backup: 0 3 * * *}, b: /b, c: {path: /c, backup: 0 3 * * *}}}\n"
    )
    door = Door(client, folder=Folder(tmp_path, {"PATH": "/usr/bin:/bin"}))
    assert (await door("-D", "bare", "deploy", "--detach")).status == 0
    file.write_text(
        "Domains: {new.example.org: {http: web, auth: {joe: sesame}, auth_mode: basic}, a.example.org: web, "
        "b.example.org: {http: web, auth: {joe: open}}}\n"
        "web: {image: 'web:2', env: {COLOR: red, NEW: 1}, health: {path: /up, timeout: 30}, rollout: one-by-one}\n"
        "Resources: {db: {kind: postgres, backup: {schedule: 0 3 * * *, keep: 30}}, cache: redis, "
        "x: {kind: redis, backup: 0 5 * * *}}\n"
        "saved: {image: saved, volumes: {a: {path: /a, backup: {schedule: 0 4 * * *, days: 9}}, "
        "b: {path: /b, backup: 0 3 * * *}, c: /c}}\n"
        "code: {require: web}\n"
    )
    check(await planned(client, tmp_path, "--prune"), "changes")
