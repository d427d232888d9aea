import pytest

from controller.errors import InvalidInput, Refused
from gitreceive.fetcher import Found, check_ref, in_words, parse_listing
from gitreceive.hosts import parse_host, parse_scan
from gitreceive.remote import parse_remote

A, B, C = "a" * 40, "b" * 40, "c" * 40
LISTING = (
    f"ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/main\n{B}\trefs/tags/v1\n{C}\trefs/tags/v1^{{}}\n"
    f"{B}\trefs/heads/both\n{C}\trefs/tags/both\n"
)
REMOTE = parse_remote("ssh://git@example.org:2222/a.git")


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("", Found(A, "refs/heads/main")),
        ("main", Found(A, "refs/heads/main")),
        ("v1", Found(C, "refs/tags/v1")),
        ("both", Found(B, "refs/heads/both")),
        ("refs/tags/both", Found(C, "refs/tags/both")),
    ],
)
def test_a_name_is_found_in_what_a_remote_lists(ref: str, found: Found) -> None:
    assert parse_listing(LISTING, ref, "R") == found


def test_names_are_shown_as_people_call_them() -> None:
    assert [Found(A, each).name for each in ("refs/heads/a/b", "refs/tags/v1", A)] == ["a/b", "v1", A]


@pytest.mark.parametrize(
    ("listing", "ref", "words"),
    [
        (LISTING, "nope", "no branch and no tag 'nope'"),
        (LISTING, "abcdef1", "by all of its 40"),
        ("", "", "has no commits"),
        ("nonsense\n\tHEAD\nx\tHEAD\n", "", "has no commits"),
    ],
)
def test_what_is_not_there_is_told(listing: str, ref: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        parse_listing(listing, ref, "R")


@pytest.mark.parametrize("ref", ["", "main", "feature/x", "v1.2", "a" * 40, "release-1_2+3"])
def test_names_of_branches_and_tags_are_taken(ref: str) -> None:
    assert check_ref(ref) == ref


@pytest.mark.parametrize(
    "ref", ["-x", "--upload-pack=x", "a..b", "a b", "a:b", "+a", "a^", "a~1", "x.lock", "a//b", "/a"]
)
def test_other_words_are_no_names(ref: str) -> None:
    with pytest.raises(InvalidInput):
        check_ref(ref)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Host key verification failed.\nfatal: Could not read", "git:allow-host example.org:2222"),
        ("@ REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "shows another key"),
        ("git@example.org: Permission denied (publickey).\nfatal: x", "git:public-key"),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", "or private"),
        ("fatal: unable to access 'x': The requested URL returned error: 301", "has moved"),
        ("remote: hello\nfatal: early EOF\nfatal: more", "can't be fetched: early EOF."),
        ("", "git gave no reason"),
    ],
)
def test_what_git_says_becomes_a_sentence_with_a_way_out(said: str, words: str) -> None:
    assert words in in_words(REMOTE, said)


def test_hosts_are_read_with_their_ports() -> None:
    found = [parse_host(each) for each in ("example.org", "example.org:2222", "::1", "[::1]")]
    assert [(each.host, each.port) for each in found] == [
        ("example.org", 22),
        ("example.org", 2222),
        ("::1", 22),
        ("::1", 22),
    ]
    for text in ("", "-x", "a b", "example.org:", "user@host", "https://example.org"):
        with pytest.raises(InvalidInput, match="HOST or HOST:PORT"):
            parse_host(text)


def test_only_whole_keys_of_a_scan_are_taken() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    text = f"# host:22 SSH-2.0\n127.0.0.1 {key}\n127.0.0.1 {key}\n[127.0.0.1]:22 ssh-ed25519 AAAA\nx y z\n"
    assert parse_scan(text) == [key]
