from typing import Any

from controller.types import SshKey
from gitreceive.auth import (
    FAILURE_WINDOW,
    MAX_CONNECTIONS,
    MAX_FAILURES,
    MAX_OF_ONE_ADDRESS,
    MAX_OF_ONE_USER,
    MAX_STRANGERS,
    Door,
    Visitor,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_failed_logins_shut_one_address_out_for_a_while() -> None:
    clock = Clock()
    door = Door(clock)
    for _ in range(MAX_FAILURES):
        assert door.refusal("192.0.2.1") is None
        door.failed("192.0.2.1")

    assert "failed logins" in (door.refusal("192.0.2.1") or "")
    assert door.refusal("192.0.2.2") is None
    clock.now += FAILURE_WINDOW
    assert door.refusal("192.0.2.1") is None


def test_what_is_kept_about_addresses_is_bounded() -> None:
    door = Door(Clock())
    for number in range(6000):
        door.failed(f"host{number}")
    assert len(door._failures) == 4096


def test_connections_are_bounded() -> None:
    door = Door(Clock())
    strangers: list[Any] = [object() for _ in range(MAX_STRANGERS)]
    door.strangers.update({each: f"192.0.2.{at + 2}" for at, each in enumerate(strangers)})
    assert "Too many connections" in (door.refusal("192.0.2.1") or "")
    door.strangers.clear()
    others: list[Any] = [object() for _ in range(MAX_CONNECTIONS)]
    door.connections.update(others)
    assert "Too many connections" in (door.refusal("192.0.2.1") or "")


def test_one_address_does_not_keep_the_others_out() -> None:
    door = Door(Clock())
    strangers: list[Any] = [object() for _ in range(MAX_OF_ONE_ADDRESS)]
    door.strangers.update(dict.fromkeys(strangers, "192.0.2.1"))
    assert "your address" in (door.refusal("192.0.2.1") or "")
    assert door.refusal("192.0.2.2") is None

    assert door.leave(strangers[0])
    assert door.refusal("192.0.2.1") is None


def test_one_user_does_not_keep_the_others_out() -> None:
    door = Door(Clock())
    connections: list[Any] = [object() for _ in range(MAX_OF_ONE_USER + 2)]
    *first, last, other = connections
    assert all(door.admit(each, "ann") for each in first)
    assert not door.admit(last, "ann")
    assert door.admit(other, "bob")

    assert not door.leave(first[0])
    assert door.admit(last, "ann")


def test_a_removed_key_ends_what_its_open_connection_may() -> None:
    key = SshKey(name="laptop", user="ann", fingerprint="SHA256:x", public_key="ssh-ed25519 A")
    known = {key.fingerprint: key}
    visitor = Visitor(Door(), known.get)
    visitor.key = key
    assert visitor.may_still()
    known.clear()
    assert not visitor.may_still()
