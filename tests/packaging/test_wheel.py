"""What is shipped: the five packages and nothing else, with what they need at run time."""

import configparser
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"gitreceive", "builder", "controller", "router", "cli"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    (found,) = folder.glob("*.whl")
    with zipfile.ZipFile(found) as archive:
        return set(archive.namelist())


def test_wheel_has_the_five_packages_only(wheel):
    top = {name.split("/")[0] for name in wheel}
    assert {each for each in top if not each.endswith(".dist-info")} == PACKAGES


def test_wheel_has_every_file_of_the_packages(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert tracked
    assert {each for each in tracked if each not in wheel} == set()


def test_every_entry_point_resolves():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    groups = [each for each in config["options.entry_points"] if each.startswith("mooring.")]
    assert groups
    for group in groups:
        found = entry_points(group=group)
        assert len(found) == len(config["options.entry_points"][group].strip().splitlines())
        for each in found:
            assert callable(each.load())


def test_decoy_packages_in_the_working_folder_are_not_imported(tmp_path):
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('decoy')")
    moor = Path(sys.executable).with_name("moor")
    done = subprocess.run([moor, "version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "decoy" not in done.stdout + done.stderr


def test_every_setting_is_used_by_the_server():
    from dataclasses import fields

    from controller.config import Settings

    text = "".join(
        path.read_text()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "config.py" and path.parent.name != "commands"
    )
    drivers = {"backend", "router", "store", "builder"}  # looked up by their kind
    own = (ROOT / "controller" / "config.py").read_text()  # what is made of several settings
    unused = [
        each.name
        for each in fields(Settings)
        if f"settings.{each.name}" not in text and f"self.{each.name}" not in own
    ]
    assert set(unused) <= drivers
