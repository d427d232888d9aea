import pytest

from builder.base import BuildFailed
from builder.procfile import MAX_BYTES, parse_procfile


def test_types_keep_the_order_of_the_file():
    assert list(parse_procfile(b"worker: ./w\nweb: python app.py\n")) == ["worker", "web"]


@pytest.mark.parametrize(
    ("content", "types"),
    [
        (b"web: python app.py --port=$PORT", {"web": "python app.py --port=$PORT"}),
        (b"web: a\r\nworker: b\r\n", {"web": "a", "worker": "b"}),
        (b"web: a\rworker: b", {"web": "a", "worker": "b"}),
        (b"\xef\xbb\xbfweb: a\n", {"web": "a"}),
        (b"# all of it\n\n   # more\nweb:a\n", {"web": "a"}),
        (b"  web  :   a: b # c  \n", {"web": "a: b # c"}),
        ("web: echo grüezi".encode(), {"web": "echo grüezi"}),
        (b"", {}),
        (b"\n# nothing\n", {}),
    ],
)
def test_what_people_write_is_understood(content, types):
    assert parse_procfile(content) == types


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"web: a\n\nnonsense here\n", "line 3"),
        (b"web: a\nweb: b\n", "line 2: the process type 'web' is there twice"),
        (b"web:\n", "line 1: the process type 'web' has no command"),
        (b"../x: a\n", "line 1: '../x' is no valid process type"),
        (b"-web: a\n", "no valid process type"),
        (b"web: a\nwork\xff: b\n", "line 2: save the file as UTF-8"),
        (b"web: a\0b\n", "NUL"),
        (b"w" * 200 + b": a", "no valid process type"),
        (b"x" * (MAX_BYTES + 1), "larger than 64 KB"),
        (b"".join(b"t%d: x\n" % number for number in range(51)), "at most 50"),
    ],
)
def test_what_is_off_is_named_with_its_line(content, words):
    with pytest.raises(BuildFailed, match=words):
        parse_procfile(content)


def test_a_long_wrong_line_is_not_printed_whole():
    with pytest.raises(BuildFailed) as caught:
        parse_procfile(b"x" * 60000)
    assert len(str(caught.value)) < 250
