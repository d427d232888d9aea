"""The repositories on disk, and what of them is advertised."""

from pathlib import Path

import pytest
from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo

from controller.names import Address
from gitreceive.origins import origin_of, with_origin
from gitreceive.repos import BareRepository, PushedTo, Repositories


def committed(repository: Repo, message: str) -> bytes:
    blob, tree, commit = Blob.from_string(b"x"), Tree(), Commit()
    tree.add(b"x", 0o100644, blob.id)
    commit.tree = tree.id
    commit.author = commit.committer = b"ann <ann@example.org>"
    commit.author_time = commit.commit_time = 1
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = message.encode()
    for each in (blob, tree, commit):
        repository.object_store.add_object(each)
    return commit.id


async def test_half_of_a_repository_is_removed_at_the_start(tmp_path: Path) -> None:
    half = tmp_path / "foo" / "web.git"
    (half / "objects").mkdir(parents=True)
    repositories = Repositories(tmp_path, None)
    await repositories.sweep()
    assert not half.exists()
    async with repositories.use(Address("foo", "web")) as path:
        assert (path / "HEAD").exists()


async def test_a_damaged_repository_with_refs_is_left_as_it_is(tmp_path: Path) -> None:
    damaged = tmp_path / "foo" / "web.git"
    (damaged / "objects").mkdir(parents=True)
    (damaged / "packed-refs").write_text(f"{'a' * 40} refs/heads/master\n")
    await Repositories(tmp_path, None).sweep()
    assert (damaged / "packed-refs").exists()


@pytest.mark.parametrize("origin", ["a" * 40, "b" * 64, "c" * 40 + ":folder"])
def test_branches_at_what_was_uploaded_are_not_advertised(tmp_path: Path, origin: str) -> None:
    Repo.init_bare(str(tmp_path)).close()
    with BareRepository(str(tmp_path)) as repository:
        ours = committed(repository, with_origin("Source from git archive of aaaaaaaaaa", origin))
        theirs = committed(repository, f"Fix it\n\nOrigin: {origin} or so\n")
        plain = committed(repository, with_origin("Source from a.tar", ""))
        for name, commit in ((b"master", ours), (b"main", theirs), (b"old", plain)):
            repository.refs[b"refs/heads/" + name] = commit  # type: ignore[index]
        repository.refs[b"refs/tags/v1"] = ours  # type: ignore[index]
        assert origin_of(repository, ours) == origin.partition(":")[0]
        assert origin_of(repository, theirs) is None
        branches = {b"refs/heads/master", b"refs/heads/main", b"refs/heads/old"}
        assert set(repository.get_refs()) == {*branches, b"refs/tags/v1"}
    with PushedTo(str(tmp_path)) as repository:
        assert set(repository.get_refs()) == {b"refs/heads/main", b"refs/heads/old", b"refs/tags/v1"}
