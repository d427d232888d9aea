"""Sources that mean harm, from a git tree that no checkout could have made to the slug: on the host and in containers.

Each is built, or refused in words; nothing of it gets out of the build's own folders, and nothing is left behind.
"""

import contextlib
import itertools
import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from builder.base import BuildFailed
from builder.slugs import SlugStore
from builder.source import export_source
from cli.drivers import make_builder
from controller.config import Settings
from tests.contracts.building import UID, Place
from tests.contracts.engine import builder_image, engine_url
from tests.unit.builder.printed import Printed

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(400)]

LIMIT = 50 * 1024**2
NUMBERS = itertools.count(1)


def of_containers(folder):
    url = engine_url()
    return Settings(data=folder, builder="docker", docker_host=url, builder_image=builder_image(url))


@pytest.fixture(params=["host", "containers"])
async def place(request, folder):
    """Somewhere to build, with a source's own programs as its buildpack."""
    settings = (
        of_containers(folder) if request.param == "containers" else Settings(data=folder, builder="host")
    )
    there = Place(folder)
    there.slugs = SlugStore(folder / "slugs", folder / "apps", limit=LIMIT)
    there.builder = make_builder(settings, there.slugs)
    yield there
    await there.builder.close()


class Repository:
    """A bare repository, filled by git's plumbing: it takes trees that no working copy could hold."""

    def __init__(self, folder):
        self.folder = folder / "repository.git"
        self.git("init", "-q", "--bare", str(self.folder))

    def git(self, *words, given=b""):
        env = {
            **{
                f"GIT_{who}_{what}": "x@example.org"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
            "PATH": os.environ["PATH"],
            "GIT_DIR": str(self.folder),
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        done = subprocess.run(["git", *words], env=env, input=given, check=True, capture_output=True)
        return done.stdout.decode().strip()

    def blob(self, content):
        return self.git("hash-object", "-w", "--stdin", given=content)

    def tree(self, entries):
        """Names to file content, to a list with a link's target, to the id of an object, or to a dict: a folder."""
        lines = []
        for name, entry in entries.items():
            if isinstance(entry, dict):
                mode, kind, found = "040000", "tree", self.tree(entry)
            elif isinstance(entry, list):
                mode, kind, found = "120000", "blob", self.blob(entry[0])
            else:
                mode, kind = "100755", "blob"
                found = entry if isinstance(entry, str) else self.blob(entry)
            lines.append(f"{mode} {kind} {found}\t".encode() + name + b"\0")
        return self.git("mktree", "-z", given=b"".join(lines))

    def commit(self, entries):
        return self.git("commit-tree", "-m", "x", self.tree(entries))


@pytest.fixture
def repository(folder):
    return Repository(folder)


def app(compiles="true", procfile=b"web: x\n", **files):
    """An app that is its own buildpack."""
    programs = {
        b"detect": b"#!/bin/sh\necho Own\n",
        b"compile": f'#!/bin/sh\ncd "$1" || exit\n{compiles}\n'.encode(),
    }
    return {
        b"Procfile": procfile,
        b"bin": programs,
        **{name.encode(): content for name, content in files.items()},
    }


async def exported(place, repository, entries) -> Path:
    target = place.folder / f"pushed{next(NUMBERS)}"
    await export_source(repository.folder, repository.commit(entries), target)
    return target


async def built(place, repository, entries, **changes):
    """The tree as its instances get it."""
    place.count += 1
    artifact, out = await place.build(await exported(place, repository, entries), **changes)
    return await place.tree(artifact), out


def left_over(place) -> list[str]:
    return [*place.leftovers(), *map(str, place.folder.glob("pushed*"))]


# What a git tree can hold


@pytest.mark.parametrize("name", [b"..", b".", b".git", b".GIT"])
async def test_a_name_that_means_something_else_is_refused(place, repository, name):
    hostile = {b"config": b"[core]\n\tfsmonitor = touch /m\n", b"HEAD": b"ref: refs/heads/x\n"}
    with pytest.raises(BuildFailed, match=r"a path that git never writes to a disk: '\.") as refused:
        await built(place, repository, {**app(), name: hostile})
    assert f"{name.decode()}/" in str(refused.value) and left_over(place) == []


async def test_names_of_any_bytes_and_twins_by_case_are_kept(place, repository):
    names = [
        b"new\nline",
        b"bad\xff\xfeutf8",
        b"-rf",
        b"$(touch x)",
        b"README",
        b"readme",
        b" ",
        b"a" * 255,
        b"~",
        b"...",
        b"\x1b[2J",
    ]
    tree, _ = await built(place, repository, {**app("ls > listed"), **{name: name for name in names}})
    assert {os.fsencode(path.name) for path in tree.iterdir()} >= set(names)
    assert (tree / "README").read_text() == "README" and (tree / "readme").read_text() == "readme"


async def test_folders_that_are_nested_too_deep_are_refused(place, repository):
    entries = {b"file": b"x"}
    for _ in range(150):
        entries = {b"d": entries}
    with pytest.raises(BuildFailed, match="nested more than 100 deep"):
        await built(place, repository, {**app(), **entries})
    assert left_over(place) == []


async def test_a_hundred_thousand_files_are_built(place, repository):
    one = repository.blob(b"x")
    inner = {f"file{number}".encode(): one for number in range(1000)}
    folder = repository.tree(inner)
    lines = "".join(f"040000 tree {folder}\td{number}\0" for number in range(100))
    many = repository.git("mktree", "-z", given=lines.encode())
    top = repository.git("ls-tree", "-z", repository.tree(app())).encode()
    commit = repository.git(
        "commit-tree",
        "-m",
        "x",
        repository.git("mktree", "-z", given=top + f"040000 tree {many}\tmany\0".encode()),
    )
    target = place.folder / "pushed0"
    await export_source(repository.folder, commit, target)
    artifact, _ = await place.build(target, timeout=300.0)
    found = sum(len(files) for _, _, files in os.walk(await place.tree(artifact)))
    assert found == 100_003 and left_over(place) == []


# What a build can leave behind


async def test_what_is_no_file_is_left_out_and_no_link_is_followed(place, repository):
    secret = place.folder / "secret"
    secret.write_text("of another app")
    secret.chmod(0o600)
    script = f"""
ln -s /etc/shadow shadow; ln -s {secret} secret; ln -s ../../../.. up; ln -s / root; ln -s /dev/sda disk
mkfifo pipe; mknod device c 1 3 2> /dev/null; mkdir folder; ln -s ../shadow folder/shadow; ln -s loop loop
/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
cp /bin/true setuid; chmod 6755 setuid; mkdir sticky; chmod 1777 sticky; touch closed; chmod 000 closed
"""
    tree, _ = await built(place, repository, app(script))
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == ("of another app", 0o600)
    kinds = {path.name: path.lstat().st_mode for path in tree.rglob("*")}
    assert all(stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode) for mode in kinds.values()), (
        kinds
    )
    assert not {"pipe", "device", "socket"} & set(kinds)
    assert not any(mode & 0o7000 for mode in kinds.values() if not stat.S_ISLNK(mode))
    if "shadow" in kinds:
        assert stat.S_ISLNK(kinds["shadow"]), "a link stays one"


async def test_a_hard_link_into_the_cache_ties_nothing_together(place, repository):
    # In a container the cache is another file system, to which no link is possible at all.
    first = 'echo first > "$2/kept"; ln "$2/kept" linked || cp "$2/kept" linked; ln linked again'
    tree, _ = await built(place, repository, app(first))
    assert (tree / "linked").read_text() == (tree / "again").read_text() == "first\n"
    second = 'echo second > "$2/kept" || exit 3; cat "$2/kept" > read'
    other, _ = await built(place, repository, app(second))
    assert (other / "read").read_text() == "second\n"
    assert (tree / "linked").read_text() == "first\n"


@pytest.mark.skipif(UID is None, reason="only root can read what the build can't")
async def test_a_hard_link_to_what_is_not_the_builds_own_gives_nothing_away(place, repository):
    script = "ln /etc/shadow shadow 2> /dev/null; ln /etc/hostname name 2> /dev/null; touch made"
    before = Path("/etc/shadow").stat()
    tree, _ = await built(place, repository, app(script))
    after = Path("/etc/shadow").stat()
    assert (before.st_uid, before.st_mode, before.st_nlink) == (after.st_uid, after.st_mode, after.st_nlink)
    assert (tree / "made").exists() and not (tree / "shadow").exists()


@pytest.mark.parametrize(
    "script", ["truncate -s 20G zeros", "for i in 1 2 3 4; do truncate -s 5G zeros$i; done"]
)
async def test_holes_that_would_fill_the_disk_are_refused(place, repository, script):
    begin = time.monotonic()
    with pytest.raises(BuildFailed, match=r"larger than|takes more than|wrote more than|status"):
        await built(place, repository, app(f"exec 2>&1; {script} || exit 9"))
    assert time.monotonic() - begin < 120
    assert left_over(place) == [] and not list((place.folder / "slugs").glob("*"))


# What the files say that a build reads


@pytest.mark.parametrize(
    ("procfile", "words"),
    [
        (b"web: x\n" * 150_000, "larger than 64 KB"),
        (b"web: x\nweb: y\n", "line 2: the process type 'web' is there twice"),
        (b"web server: x\n", "line 1: .*not of the form"),
        (b"../x: y\n", "line 1"),
        (b"web: a\0b\n", "NUL"),
        (b"web: \xff\n", "UTF-8"),
        (b"".join(b"t%d: x\n" % number for number in range(60)), "at most 50"),
    ],
)
async def test_a_procfile_that_can_not_be_taken_is_answered_with_its_line(place, repository, procfile, words):
    with pytest.raises(BuildFailed, match=words):
        await built(place, repository, app(procfile=procfile))
    assert left_over(place) == []


async def test_a_procfile_of_windows_is_understood(place, repository):
    place.count += 1
    source = await exported(
        place, repository, app(procfile=b"\xef\xbb\xbfweb: x --y\r\n\r\n# z\r\nworker : run it \r\n")
    )
    artifact, _ = await place.build(source)
    assert artifact.process_types == {"web": "x --y", "worker": "run it"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (".buildpacks", b"nodejs\n" * 10_000, ".buildpacks is larger than 64 KB"),
        (
            ".buildpacks",
            b"https://example.org/x;touch%20y\n",
            "names no buildpack|could not be fetched|can't",
        ),
        (".buildpacks", b"--upload-pack=touch x\n", "names no buildpack"),
        (".slugignore", b"!keep\n", ".slugignore line 1: patterns with `!`"),
        (".slugignore", b"x\n" * 40_000, ".slugignore is larger than 64 KB"),
        (".slugignore", b"x\n" * 600, "600 patterns; at most 500"),
        ("app.json", b"[" * 60_000, "app.json is no valid JSON"),
        ("app.json", b'{"buildpacks": "nodejs"}', "buildpacks must be a list"),
    ],
)
async def test_a_file_that_chooses_is_answered_by_its_name(place, repository, name, content, words):
    with pytest.raises(BuildFailed, match=words):
        await built(place, repository, app(**{name: content}))
    assert left_over(place) == []


async def test_slugignore_can_name_neither_what_is_outside_nor_the_procfile(place, repository):
    kept = place.folder / "kept"
    kept.write_text("x")
    lines = b"../kept\n/../../kept\n/\n.\n..\n**\nProcfile\n.slugignore\n[\n\\\n"
    source = await exported(
        place, repository, {b"Procfile": b"web: x\n", b"file": b"x", b".slugignore": lines}
    )
    place.count += 1
    artifact, _ = await place.build(source)
    names = {path.name for path in (await place.tree(artifact)).iterdir()}
    assert names >= {"Procfile"} and kept.exists()


@pytest.mark.parametrize(
    ("engines", "words"),
    [
        ('{"node": ["18"]}', "engines.node must be a text"),
        ('{"node": 99}', "engines.node must be a text"),
        ('{"node": "99.x"}', "asks for Node.js 99.x"),
        (f'{{"node": "{"9" * 50_000}"}}', "engines.node .* is not understood"),
    ],
)
async def test_odd_engines_are_answered(place, repository, engines, words):
    if shutil.which("node") is None:
        pytest.skip("not installed: node")
    manifest = f'{{"engines": {engines}}}'.encode()
    source = await exported(place, repository, {b"package.json": manifest, b"Procfile": b"web: x\n"})
    out = Printed()
    with contextlib.suppress(BuildFailed):
        await place.builder.build(place.request(source), out)
    assert re.search(words, out.text) and left_over(place) == []
