from pathlib import Path

import pytest

from builder.base import BuildFailed
from builder.clone import fetch_commands, parse_refs, resolve_command
from controller.buildpacks import Repository

URL = "https://example.org/pack.git"
A, B, C = ("a" * 40, "b" * 40, "c" * 40)


def test_commands_name_what_is_fetched_behind_a_double_dash():
    assert resolve_command(Repository(URL)) == ["git", "ls-remote", "--", URL, "HEAD"]
    assert resolve_command(Repository(URL, "v1"))[3:] == [
        URL,
        "refs/heads/v1",
        "refs/tags/v1",
        "refs/tags/v1^{}",
    ]
    fetch = fetch_commands(Repository(URL), A, Path("/cache/half"))[2]
    assert fetch[-3:] == ["--", URL, A]
    assert {"--depth=1", "--no-tags", "--no-recurse-submodules"} <= set(fetch)


def test_a_branch_comes_before_a_tag_and_a_tag_means_its_commit():
    tag = f"{A}\trefs/tags/v1\n{B}\trefs/tags/v1^{{}}\n"
    assert parse_refs(tag, Repository(URL, "v1")) == B
    assert parse_refs(f"{tag}{C}\trefs/heads/v1\n", Repository(URL, "v1")) == C
    assert parse_refs(f"warning: x\n{A}\tHEAD\n", Repository(URL)) == A


@pytest.mark.parametrize(("ref", "words"), [("", "has no commits"), ("v1", "no branch or tag 'v1'")])
def test_what_is_not_there_is_said(ref, words):
    with pytest.raises(BuildFailed, match=words):
        parse_refs("", Repository(URL, ref))
