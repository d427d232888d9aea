"""What may be written as the setting `etcd`."""

from pathlib import Path

import pytest

from controller.errors import InvalidInput
from controller.store.etcd_connection import EtcdAddress, parse_etcd


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("localhost", EtcdAddress(("localhost:2379",))),
        ("10.0.0.1:23,b", EtcdAddress(("10.0.0.1:23", "b:2379"))),
        ("[::1],[::2]:23/a/b/", EtcdAddress(("[::1]:2379", "[::2]:23"), "a/b")),
        ("https://a:1?ca=/ca.pem", EtcdAddress(("a:1",), tls=True, ca=Path("/ca.pem"))),
        (
            "https://a/p?cert=/c&key=/k&user=me&password-file=/f",
            EtcdAddress(
                ("a:2379",), "p", True, None, Path("/c"), Path("/k"), user="me", password_file=Path("/f")
            ),
        ),
    ],
)
def test_address_is_read_as_meant(text, meant):
    assert parse_etcd(text) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://a", "must begin with http"),
        ("", "no address such as"),
        ("a,,b", "no address such as"),
        ("[::1", "no address such as"),
        ("a:port", "no address such as"),
        ("a:99999", "no address such as"),
        ("a?colour", "no address such as"),
        ("a?colour=red", "no option 'colour'"),
        ("a?ca=/ca.pem", "https://"),
        ("https://a?cert=/c", "cert and key go together"),
        ("a?user=me", "password-file go together"),
        ("a?password-file=/f", "password-file go together"),
        ("me:secret@a", "password-file=FILE"),
    ],
)
def test_what_is_no_address_is_refused_with_the_way_out(text, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        parse_etcd(text)
    assert caught.value.field == "etcd"
    assert "secret" not in str(caught.value)
