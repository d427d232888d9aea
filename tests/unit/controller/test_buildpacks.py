from pathlib import PurePosixPath

import pytest

from controller.buildpacks import (
    Bundled,
    Folder,
    Repository,
    parse_build_dir,
    parse_buildpack,
    parse_buildpacks,
)
from controller.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("nodejs", Bundled("nodejs")),
        (" heroku/python ", Bundled("python")),
        ("/opt/packs/ada", Folder(PurePosixPath("/opt/packs/ada"))),
        ("https://example.org/a.git", Repository("https://example.org/a.git")),
        ("https://example.org/a.git#feature/x", Repository("https://example.org/a.git", "feature/x")),
    ],
)
def test_what_names_a_buildpack(text, source):
    assert parse_buildpack(text) == source
    assert parse_buildpack(str(source)) == source


@pytest.mark.parametrize(
    "text",
    [
        *("", "UPPER", "a b", "-x", "a/b", "/opt/../etc", "ssh://x/y", "ftp://x/y", "https://", "https://x"),
        *(
            "https://u:p@x/y",
            "https://x/y?a=b",
            "https://x/y#-x",
            "https://x/y#a..b",
            "https://[x/y",
            "x" * 600,
        ),
        *("https://x:99999999/y", "nodejs\nnull"),
    ],
)
def test_what_names_none_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_buildpack(text)


def test_one_can_not_be_there_twice():
    with pytest.raises(InvalidInput, match="twice"):
        parse_buildpacks(["nodejs", "heroku/nodejs"])


def test_a_build_dir_stays_inside():
    assert parse_build_dir("./services//api/") == "services/api"
    assert parse_build_dir(".") == parse_build_dir("") == ""
    for text in ("/etc", "a/../..", ".git/hooks", "a\nb"):
        with pytest.raises(InvalidInput):
            parse_build_dir(text)
