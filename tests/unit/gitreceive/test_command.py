import pytest

from controller.errors import InvalidInput, Refused
from controller.names import Address
from gitreceive.command import (
    AdminRequest,
    GitRequest,
    GitService,
    HelpRequest,
    LargeFilesRequest,
    parse_command,
)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("foo.git", Address("foo")),
        ("/foo.git", Address("foo")),
        ("foo", Address("foo")),
        ("foo/", Address("foo")),
        ("foo/website.git", Address("foo", "website")),
        ("/foo/app.git", Address("foo")),
        ("foo.example.org.git", Address("foo.example.org")),
    ],
)
def test_repository_path_names_a_service(path: str, address: Address) -> None:
    assert parse_command(f"git-receive-pack '{path}'") == GitRequest(GitService.PUSH, address)


def test_fetch_is_understood_in_both_spellings() -> None:
    wanted = GitRequest(GitService.FETCH, Address("foo"))
    assert parse_command("git-upload-pack 'foo.git'") == wanted
    assert parse_command("git upload-pack foo.git") == wanted


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "..",
        "../x",
        "foo/../bar",
        "foo//bar",
        "-oProxyCommand=x",
        "Foo",
        "föö",
        "x" * 300,
        "a/b/c",
        "a b",
    ],
)
def test_names_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_command(f"git-receive-pack '{path}'")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("line", ["git-receive-pack", "git-receive-pack foo bar", "git-receive-pack 'foo"])
def test_git_with_the_wrong_number_of_words_is_refused(line: str) -> None:
    with pytest.raises(InvalidInput):
        parse_command(line)


@pytest.mark.parametrize(
    "line", ["git-upload-archive foo", "git upload-archive foo", "scp -t x", "rsync --server"]
)
def test_other_transfers_are_refused(line: str) -> None:
    with pytest.raises(Refused):
        parse_command(line)


def test_other_words_are_an_admin_command_as_they_came() -> None:
    assert parse_command("-- --quiet config:set foo 'A=b c'") == AdminRequest(
        ("--", "--quiet", "config:set", "foo", "A=b c")
    )


@pytest.mark.parametrize("line", [None, "", "  "])
def test_no_words_ask_for_help(line: str | None) -> None:
    assert parse_command(line) == HelpRequest()


def test_requests_of_git_lfs_are_read() -> None:
    address = Address("foo", "website")
    assert parse_command("git-lfs-transfer '/foo/website.git' upload") == LargeFilesRequest(
        address, uploads=True
    )
    assert parse_command("git-lfs-transfer foo/website download") == LargeFilesRequest(address, uploads=False)
    for line in ("git-lfs-transfer foo.git", "git-lfs-transfer foo.git rm", "git-lfs-transfer -x upload"):
        with pytest.raises(InvalidInput):
            parse_command(line)
    with pytest.raises(Refused, match=r"Git LFS 3\.0 or newer"):
        parse_command("git-lfs-authenticate foo.git upload")
