import pytest

from controller.errors import InvalidInput, Refused
from gitreceive.remote import addresses_of, is_public, parse_remote, parse_web


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("https://example.org/a.git", "https", "example.org", 443),
        ("http://example.org:8080/a", "http", "example.org", 8080),
        ("ssh://git@example.org:2222/a.git", "ssh", "example.org", 2222),
        ("ssh://git@[2001:db8::1]/a.git", "ssh", "2001:db8::1", 22),
        ("git@example.org:team/a.git", "ssh", "example.org", 22),
        ("example.org:team/a.git", "ssh", "example.org", 22),
    ],
)
def test_remotes_are_read(text: str, scheme: str, host: str, port: int) -> None:
    remote = parse_remote(text)
    assert (remote.scheme, remote.host, remote.port) == (scheme, host, port)


def test_the_short_form_of_ssh_is_written_out() -> None:
    assert parse_remote("git@example.org:team/a.git").url == "ssh://git@example.org/team/a.git"


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "/etc", "../a.git", "file:///etc/passwd", "ext::sh -c id", "git://example.org/a.git"),
        *(
            "-uX",
            "--upload-pack=x",
            "ssh://-oProxyCommand=id/a",
            "ssh://-x@example.org/a",
            "-x@example.org:a",
        ),
        *("https://user:pw@example.org/a", "https://token@example.org/a", "ssh://git:pw@example.org/a"),
        *(
            "https://example.org",
            "https://example.org/",
            "ssh://example.org/-x",
            "https://example.org:port/a",
        ),
        *("https://exa mple.org/a", "https://example.org/a\nb", "https://ex\u00e4mple.org/a", "https:///a"),
        *(
            "https://example.org:99999/a",
            "https://" + "a" * 3000 + "/a",
            "https://[::1/a",
            "https://a_.org-/x",
        ),
    ],
)
def test_what_is_no_remote_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_remote(text)


def test_an_archive_comes_from_the_web_alone() -> None:
    assert parse_web("https://example.org/a.zip").port == 443
    with pytest.raises(InvalidInput, match="only http, https"):
        parse_web("ssh://git@example.org/a.zip")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        *(
            (each, False)
            for each in ("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1")
        ),
        *((each, False) for each in ("169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255")),
        *((each, False) for each in ("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1")),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::93.184.216.34", True),
        ("2001:0:5ef5:79fd:0:59d:a0e5:ba1", False),
        ("nonsense", False),
    ],
)
def test_public_addresses_are_told_from_others(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::1]", "[::ffff:10.0.0.1]"]
)
async def test_a_private_address_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(Refused, match=r"in a private network .* fetch_private"):
        await addresses_of(parse_web(f"http://{host}/x"), private=False)


async def test_a_private_address_may_be_allowed() -> None:
    assert await addresses_of(parse_web("http://127.0.0.1/x"), private=True) == ["127.0.0.1"]


async def test_a_host_that_is_nowhere_is_told() -> None:
    with pytest.raises(Refused, match="can't be found"):
        await addresses_of(parse_web("http://nowhere.invalid/x"), private=False)
