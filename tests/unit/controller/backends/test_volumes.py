"""Folders of volumes, and those above them."""

from pathlib import Path

import pytest

from controller.backends.volumes import CLOSED, PASSABLE, ensure_volumes, volume_folders
from tests.unit.controller.backends.test_docker_container import spec


def modes(root: Path) -> list[int]:
    return [
        each.stat().st_mode & 0o777 for each in (root, root / "foo", root / "foo/app", root / "foo/app/data")
    ]


@pytest.mark.parametrize("before", [None, PASSABLE, CLOSED])
@pytest.mark.parametrize("above", [PASSABLE, CLOSED])
async def test_folders_above_are_as_open_as_who_comes_to_them_needs(
    tmp_path: Path, before: int | None, above: int
) -> None:
    """Also where another backend of this installation had them before."""
    root, wanted = tmp_path / "volumes", spec(uid=None, volumes={"data": "/srv/data"})
    if before is not None:
        await ensure_volumes(root, wanted, above=before)
        (volume_folders(root, wanted)["data"] / "file").touch()
    await ensure_volumes(root, wanted, above=above)
    assert modes(root) == [above, above, above, 0o700]


async def test_by_default_users_of_this_machine_come_to_them(tmp_path: Path) -> None:
    await ensure_volumes(tmp_path / "volumes", spec(uid=None, volumes={"data": "/srv/data"}))
    assert modes(tmp_path / "volumes") == [0o711, 0o711, 0o711, 0o700]
