from pathlib import Path

import pytest

from builder.base import BuilderUnavailable, BuildFailed
from builder.buildpack import BUNDLED, ORDER, Buildpack, find_buildpacks, parse_release
from builder.detect import Detected, choose


def test_bundled_buildpacks_come_in_their_order():
    assert [each.name for each in find_buildpacks(BUNDLED)] == list(ORDER)


def test_other_buildpacks_come_after_by_name(tmp_path):
    for name in ("zig", "procfile", "ada", "python", "no-buildpack"):
        (tmp_path / name / "bin").mkdir(parents=True)
        if name != "no-buildpack":
            (tmp_path / name / "bin/detect").touch()
    assert [each.name for each in find_buildpacks(tmp_path)] == ["python", "procfile", "ada", "zig"]


def test_programs_get_the_classic_arguments(tmp_path):
    buildpack = Buildpack(Path("/packs/ada"))
    assert buildpack.detect(Path("/b")) == ("/packs/ada/bin/detect", "/b")
    assert buildpack.compile(Path("/b"), Path("/c"), Path("/e")) == (
        "/packs/ada/bin/compile",
        "/b",
        "/c",
        "/e",
    )
    assert buildpack.release(Path("/b")) is None


def test_a_release_declares_types_and_env():
    release = parse_release("---\ndefault_process_types:\n  web: run\nconfig_vars:\n  N: 1\naddons: []\n")
    assert release.process_types == {"web": "run"}
    assert release.env == {"N": "1"}


@pytest.mark.parametrize("text", ["", "---\n", "{}", "default_process_types:\n"])
def test_a_release_may_declare_nothing(text):
    assert not parse_release(text).process_types


@pytest.mark.parametrize(
    "text",
    [
        "- a list",
        "just text",
        "default_process_types: web",
        "default_process_types: {../x: y}",
        "config_vars: {1X: y}",
        "a: [",
        "!!python/object/apply:os.system [x]",
        "[" * 5000,
    ],
)
def test_a_release_that_makes_no_sense_is_refused(text):
    with pytest.raises(BuildFailed, match="bin/release"):
        parse_release(text)


async def test_the_first_that_says_yes_builds():
    asked = []

    async def ask(buildpack):
        asked.append(buildpack.name)
        return (0, "Second\nmore\n") if buildpack.name == "b" else (1, "")

    packs = [Buildpack(Path(name)) for name in "abc"]
    assert await choose(packs, ask) == Detected(packs[1], "Second")
    assert asked == ["a", "b"]


async def test_a_buildpack_without_words_is_called_by_its_folder():
    async def ask(_buildpack):
        return 0, "\n"

    pack = Buildpack(Path("ada"))
    assert await choose([pack], ask) == Detected(pack, "ada")


async def test_a_server_without_buildpacks_says_so():
    async def ask(_buildpack):
        return 1, ""

    with pytest.raises(BuilderUnavailable):
        await choose([], ask)
