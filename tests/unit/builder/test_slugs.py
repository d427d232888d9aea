import asyncio
import hashlib
import io
import os
import shutil
import time

import pytest

from builder import slugs
from builder.base import BuilderUnavailable, BuildFailed
from builder.pack import canonical_tar
from builder.restore import Damaged
from builder.slugs import SlugStore
from builder.storage import measure
from controller.types import Artifact, ArtifactKind


@pytest.fixture
def store(tmp_path):
    return SlugStore(tmp_path / "slugs", tmp_path / "apps", limit=1024**2)


def tree(tmp_path, name="tree", **files):
    root = tmp_path / name
    for path, content in (files or {"Procfile": "web: x"}).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


async def keep(store, root, service="app"):
    return await store.keep(root, deployment="foo", service=service, uid=None)


def artifact(slug):
    return Artifact(kind=ArtifactKind.SLUG, reference=slug.reference)


async def unpacked(store, slug, service="app"):
    return await store.ensure_unpacked("foo", service, artifact(slug), None)


def bytes_of(root):
    return b"".join(canonical_tar(root, lambda: None))


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first = tree(tmp_path, "one", **{"b": "1", "a/x": "2"})
    second = tree(tmp_path, "two", **{"a/x": "2", "b": "1"})
    os.utime(second / "b", (1, 1))
    (second / "b").chmod(0o666)
    assert bytes_of(first) == bytes_of(second)


@pytest.mark.parametrize("change", ["content", "name", "mode", "link"])
def test_any_change_that_matters_gives_other_bytes(tmp_path, change):
    root = tree(tmp_path, a="1")
    before = bytes_of(root)
    if change == "content":
        (root / "a").write_text("2")
    elif change == "name":
        (root / "a").rename(root / "b")
    elif change == "mode":
        (root / "a").chmod(0o755)
    else:
        (root / "l").symlink_to("a")
    assert bytes_of(root) != before


async def test_a_kept_tree_is_where_its_instances_find_it(store, tmp_path):
    root = tree(tmp_path, **{"app.py": "x = 1"})
    slug = await keep(store, root)
    place = tmp_path / "apps/foo/app" / slug.reference
    assert not root.exists()
    assert (place / "app.py").read_text() == "x = 1"
    assert await unpacked(store, slug) == place
    assert await store.size(slug.reference) == slug.size


async def test_a_missing_tree_is_unpacked_from_the_archive(store, tmp_path):
    root = tree(tmp_path, **{"sub/run": "x", os.fsdecode(b"bad\xff\nname"): "y", "p" * 150 + "/q": "z"})
    (root / "sub/run").chmod(0o755)
    (root / "python").symlink_to("/usr/bin/python3")
    (root / "empty").mkdir()
    before = bytes_of(root)
    slug = await keep(store, root)
    shutil.rmtree(tmp_path / "apps")
    place = await unpacked(store, slug)
    assert bytes_of(place) == before
    assert (place / "python").readlink().as_posix() == "/usr/bin/python3"
    assert [path.name for path in place.parent.iterdir()] == [slug.reference]


async def test_many_who_ask_at_once_get_one_tree(store, tmp_path):
    slug = await keep(store, tree(tmp_path))
    shutil.rmtree(tmp_path / "apps")
    places = await asyncio.gather(*(unpacked(store, slug) for _ in range(20)))
    assert len(set(places)) == 1


async def test_two_services_with_the_same_content_have_a_tree_each(store, tmp_path):
    first = await keep(store, tree(tmp_path))
    second = await keep(store, tree(tmp_path), service="other")
    assert first.reference == second.reference
    assert await unpacked(store, first) != await unpacked(store, second, "other")
    assert len(list((tmp_path / "slugs").iterdir())) == 1


async def test_a_damaged_archive_is_never_unpacked(store, tmp_path):
    slug = await keep(store, tree(tmp_path))
    other = await keep(store, tree(tmp_path, Procfile="web: evil"))
    shutil.rmtree(tmp_path / "apps")
    archives = tmp_path / "slugs"
    (archives / f"{other.reference}.tar.zst").rename(archives / f"{slug.reference}.tar.zst")
    with pytest.raises(BuilderUnavailable, match="another hash"):
        await unpacked(store, slug)
    (archives / f"{slug.reference}.tar.zst").write_bytes(b"no archive at all")
    with pytest.raises(BuilderUnavailable, match="damaged"):
        await unpacked(store, slug)
    assert list((tmp_path / "apps/foo/app").iterdir()) == []


async def test_a_cut_archive_is_never_unpacked(store, tmp_path):
    slug = await keep(store, tree(tmp_path, **{f"f{n}": os.urandom(2000).hex() for n in range(50)}))
    shutil.rmtree(tmp_path / "apps")
    file = tmp_path / "slugs" / f"{slug.reference}.tar.zst"
    file.write_bytes(file.read_bytes()[: slug.size // 2])
    with pytest.raises(BuilderUnavailable, match="damaged"):
        await unpacked(store, slug)


async def test_a_tree_torn_by_a_power_cut_is_unpacked_again(store, tmp_path, monkeypatch):
    slug = await keep(store, tree(tmp_path, app="code", other="more"))
    whole = await keep(store, tree(tmp_path, app="other code"))
    torn = tmp_path / "apps/foo/app" / slug.reference / "app"
    torn.write_text("")
    intact = (tmp_path / "apps/foo/app" / whole.reference).stat().st_ino
    assert (await unpacked(store, slug) / "app").read_text() == "", "no look at a tree of this start"
    after_restart = SlugStore(tmp_path / "slugs", tmp_path / "apps", limit=1024**2)
    monkeypatch.setattr(slugs, "_started_at", lambda: time.time() + 10)
    assert (await unpacked(after_restart, slug) / "app").read_text() == "code"
    assert (await unpacked(after_restart, whole)).stat().st_ino == intact


async def test_an_app_that_did_not_change_keeps_its_archive_and_mends_a_damaged_one(store, tmp_path):
    slug = await keep(store, tree(tmp_path))
    archive = store.archive(slug.reference)
    content, written = archive.read_bytes(), archive.stat().st_ino
    assert await keep(store, tree(tmp_path)) == slug
    assert archive.stat().st_ino == written
    archive.write_bytes(bytes(len(content)))
    assert await keep(store, tree(tmp_path)) == slug
    assert archive.read_bytes() == content
    assert len(list((tmp_path / "slugs").iterdir())) == 1


async def test_a_missing_archive_is_said(store, tmp_path):
    slug = await keep(store, tree(tmp_path))
    shutil.rmtree(tmp_path / "apps")
    store.forget_fresh([slug.reference])
    assert (await store.remove([slug.reference, "0" * 64]))[0] == 1
    with pytest.raises(BuilderUnavailable, match="push again"):
        await unpacked(store, slug)
    assert await store.size(slug.reference) is None


async def test_a_slug_over_the_limit_is_refused_and_leaves_nothing(store, tmp_path):
    root = tree(tmp_path)
    (root / "large").write_bytes(os.urandom(2 * 1024**2))
    with pytest.raises(BuildFailed, match=r"larger than 1\.0M"):
        await keep(store, root)
    assert list((tmp_path / "slugs").iterdir()) == []


async def test_a_tree_that_only_compresses_well_is_refused_too(store, tmp_path):
    root = tree(tmp_path)
    with (root / "sparse").open("wb") as file:
        file.truncate(20 * 1024**2)
    with pytest.raises(BuildFailed, match="on disk"):
        await keep(store, root)


@pytest.mark.parametrize("reference", ["../../etc/passwd", "", "A" * 64, "a" * 63])
async def test_only_a_hash_reaches_a_path(store, reference):
    with pytest.raises(BuilderUnavailable, match="no slug"):
        await store.ensure_unpacked("foo", "app", Artifact(kind=ArtifactKind.SLUG, reference=reference), None)


async def test_a_tree_is_taken_out_unless_it_is_wanted_and_comes_back_from_its_archive(store, tmp_path):
    slug = await keep(store, tree(tmp_path))
    store.forget_fresh([slug.reference])
    at, trash = ("foo", "app", slug.reference), tmp_path / "trash" / "1"
    assert await store.unpacked() == [at]
    assert await store.unpacked([("nothing", "there")]) == []
    assert await store.take_out(*at, trash, unless=lambda: True) is None
    assert await store.take_out(*at, trash, unless=lambda: False) == trash
    assert (trash / "Procfile").is_file()
    assert await store.unpacked() == []
    assert await store.take_out(*at, trash, unless=lambda: False) is None
    assert (await unpacked(store, slug) / "Procfile").is_file()


async def test_what_a_build_has_just_written_is_not_removed(store, tmp_path, monkeypatch):
    slug = await keep(store, tree(tmp_path))
    at = ("foo", "app", slug.reference)
    assert await store.remove([slug.reference]) == (0, 0)
    assert await store.collect(lambda _: False) == (0, 0)
    assert await store.take_out(*at, tmp_path / "trash" / "1", unless=lambda: False) is None
    monkeypatch.setattr(slugs, "FRESH", 0.0)
    count, size = await store.collect(lambda _: False)
    assert count == 1
    assert size > 0
    assert await store.size(slug.reference) is None


# What comes as it is to be kept


def receive(store, content, tree, **more):
    stream = io.BufferedReader(io.BytesIO(content))
    return store.receive(stream, tree, build="b1", deployment="foo", service="app", **{"uid": None, **more})


def adopt(store, slug, tree):
    return store.adopt(slug, tree, build="b1", deployment="foo", service="app")


async def test_what_is_received_is_the_same_slug_as_what_is_packed_here(store, tmp_path):
    root = tree(tmp_path, **{"app.py": "x" * 3_000_000, "sub/run": "y"})
    (root / "link").symlink_to("app.py")
    content = bytes_of(root)
    slug = receive(store, content, tmp_path / "new")
    assert slug.reference == hashlib.sha256(content).hexdigest()
    await adopt(store, slug, tmp_path / "new")
    assert slug == await keep(store, root)
    assert bytes_of(await unpacked(store, slug)) == content
    shutil.rmtree(tmp_path / "apps")
    assert bytes_of(await unpacked(store, slug)) == content
    assert [path.name for path in (tmp_path / "slugs").iterdir()] == [f"{slug.reference}.tar.zst"]


async def test_what_is_received_is_not_kept_before_it_is_adopted(store, tmp_path):
    slug = receive(store, bytes_of(tree(tmp_path)), tmp_path / "new")
    assert await store.size(slug.reference) is None
    store.discard("b1")
    store.discard("b1")
    assert list((tmp_path / "slugs").iterdir()) == []


@pytest.mark.parametrize("cut", [1, 600, 1025])
def test_what_comes_only_in_part_is_damaged(store, tmp_path, cut):
    with pytest.raises(Damaged):
        receive(store, bytes_of(tree(tmp_path))[:-cut], tmp_path / "new")


def test_what_is_received_may_be_as_large_as_a_slug_and_no_larger(store, tmp_path):
    noise = bytes_of(tree(tmp_path, big=os.urandom(2 * 1024**2).hex()))
    with pytest.raises(BuildFailed, match=r"The slug is larger than 1\.0M"):
        receive(store, noise, tmp_path / "new")
    store.discard("b1")
    zeros = bytes_of(tree(tmp_path, "zeros", big="0" * 17 * 1024**2))
    with pytest.raises(BuildFailed, match=r"takes more than 16\.0M\. Leave out"):
        receive(store, zeros, tmp_path / "other")


def test_what_is_received_may_hold_so_many_files(store, tmp_path, monkeypatch):
    monkeypatch.setattr(slugs, "MAX_FILES", 1)
    content = bytes_of(tree(tmp_path, **{str(number): "" for number in range(11)}))
    with pytest.raises(BuildFailed, match="can't be kept: it holds more than 10 files"):
        receive(store, content, tmp_path / "new")


def test_it_is_told_how_much_has_come(store, tmp_path, monkeypatch):
    monkeypatch.setattr(slugs, "_TOLD_EVERY", 0.0)
    told = []
    content = bytes_of(tree(tmp_path, a="x" * 3_000_000))
    receive(store, content, tmp_path / "new", progress=lambda size, limit: told.append((size, limit)))
    assert len(told) == 3
    assert {limit for _size, limit in told} == {1024**2}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
async def test_what_did_not_change_since_the_version_before_takes_its_space_once(store, tmp_path):
    places = []
    for number in range(3):
        content = bytes_of(tree(tmp_path, **{"lib": "x" * 100_000, "app.py": str(number)}))
        slug = receive(store, content, tmp_path / "new", uid=42990)
        await adopt(store, slug, tmp_path / "new")
        places.append(await store.ensure_unpacked("foo", "app", artifact(slug), 42990))
    assert [(place / "lib").stat().st_nlink for place in places] == [3, 3, 3]
    assert [(place / "app.py").read_text() for place in places] == ["0", "1", "2"]
    shutil.rmtree(places[0])
    place = await store.ensure_unpacked(
        "foo", "app", Artifact(kind=ArtifactKind.SLUG, reference=places[0].name), 42990
    )
    assert ((place / "app.py").read_text(), (place / "lib").stat().st_nlink) == ("0", 3)
    used = measure(tmp_path / "apps", lambda: None)
    assert used < 2 * 100_000
    assert measure(place, lambda: None, alone=True) < 100_000 < measure(place, lambda: None)


async def test_a_sweep_removes_what_is_half_made(store, tmp_path):
    slug = await keep(store, tree(tmp_path))
    (tmp_path / "slugs/1234.tmp").write_text("half")
    (tmp_path / f"apps/foo/app/{'0' * 64}.abcd.tmp").mkdir()
    await store.sweep()
    assert [path.name for path in (tmp_path / "slugs").iterdir()] == [f"{slug.reference}.tar.zst"]
    assert [path.name for path in (tmp_path / "apps/foo/app").iterdir()] == [slug.reference]


async def test_collecting_keeps_what_is_named_and_forgets_the_rest(tmp_path):
    store = SlugStore(tmp_path / "slugs", tmp_path / "apps", limit=10**6)
    kept = []
    for word in ("one", "two"):
        tree = tmp_path / word
        tree.mkdir()
        (tree / "file").write_text(word)
        kept.append(await store.keep(tree, deployment="foo", service="app", uid=None))
    store.forget_fresh([each.reference for each in kept])
    await store.collect(lambda each: each == kept[0].reference)
    assert await store.size(kept[0].reference) is not None
    assert await store.size(kept[1].reference) is None
