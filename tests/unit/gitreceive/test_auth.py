from typing import Any

from gitreceive.auth import FAILURE_WINDOW, MAX_CONNECTIONS, MAX_FAILURES, MAX_STRANGERS, Door


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
    door.strangers.update(strangers)
    assert "Too many connections" in (door.refusal("192.0.2.1") or "")
    door.strangers.clear()
    others: list[Any] = [object() for _ in range(MAX_CONNECTIONS)]
    door.connections.update(others)
    assert "Too many connections" in (door.refusal("192.0.2.1") or "")
