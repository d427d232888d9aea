"""HAProxy's answers, read."""

import pytest

from router.base import RouterError
from router.guards import guards_text
from router.haproxy_process import parse_info
from router.haproxy_table import Layout, LiveTable, encode_text, parse_live_table, parse_requests_in_work
from router.types import Guard, GuardMode, Pool, Target

SERVERS = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_port
5 pool-1 1 foo-1 127.0.0.1 2 0 1 4001
5 pool-1 2 foo-2 ::1 0 0 1 4002
5 pool-1 3 foo-0 127.0.0.1 2 8 1 4000
6 pool-2 1 bar-0 127.0.0.1 0 1 1 5000"""


def parsed(
    *,
    names: str = "0x1 pool-1 foo/app",
    hosts: str = "0x2 foo.org pool-1",
    wildcards: str = "",
    maintenance: str = "",
    guards: str = "",
) -> LiveTable:
    return parse_live_table(
        2,
        names=names,
        hosts=hosts,
        wildcards=wildcards,
        maintenance=maintenance,
        guards=guards,
        servers=SERVERS,
    )


def test_servers_in_service_are_routed_even_when_a_check_finds_them_down() -> None:
    live = parsed(wildcards="0x3 foo.org pool-1")
    targets = frozenset({Target("foo-1", "127.0.0.1", 4001), Target("foo-2", "::1", 4002)})
    assert live.known == {"foo/app": Pool("foo/app", frozenset({"foo.org", "*.foo.org"}), targets)}


def test_servers_in_drain_or_maintenance_are_leaving() -> None:
    live = parsed()
    assert {name: set(slot.leaving) for name, slot in live.slots.items()} == {
        "pool-1": {"foo-0"},
        "pool-2": {"bar-0"},
    }
    assert live.free_slots() == []


def test_what_serves_without_a_name_is_shown_so_that_it_can_be_taken_back() -> None:
    live = parsed(names="", hosts="0x2 foo.org pool-1")
    assert set(live.known) == {"?pool-1"}
    assert live.known["?pool-1"].domains == {"foo.org"}


@pytest.mark.parametrize("page", ["", "<p>Später</p>"])
def test_maintenance_is_read_back_with_its_page(page: str) -> None:
    known = parsed(maintenance=f"0x4 pool-1 {encode_text(page)}").known["foo/app"]
    assert (known.maintenance, known.page) == (True, page)


def test_guards_are_read_back() -> None:
    guards = frozenset({("foo.org", Guard(GuardMode.DIGEST, (("joe", "0" * 32),)))})
    known = parsed(guards=f"0x4 pool-1 {encode_text(guards_text(guards))}").known["foo/app"]
    assert known.guards == guards


@pytest.mark.parametrize(
    "text", ["-", "!", encode_text("digest foo.org\n"), encode_text("none foo.org joe=0\n")]
)
def test_guards_that_cannot_be_read_differ_from_none(text: str) -> None:
    assert parsed(guards=f"0x4 pool-1 {text}").known["foo/app"].guards


def test_backend_of_somebody_else_is_an_error() -> None:
    with pytest.raises(RouterError, match="'pool-9' that is not ours"):
        parsed(hosts="0x2 foo.org pool-9")


def test_pools_that_stay_keep_their_slots_in_a_larger_layout() -> None:
    before = LiveTable.serving(Layout(2, {"pool-2": Pool("b", frozenset(), frozenset())}))
    wanted = {name: Pool(name, frozenset(), frozenset()) for name in ("a", "b", "c")}
    layout = before.layout_for(wanted, slots=8)
    assert {slot: pool.name for slot, pool in layout.pools.items()} == {
        "pool-2": "b",
        "pool-1": "a",
        "pool-3": "c",
    }
    assert layout.slots == 8


def test_layout_never_shrinks_below_the_slots_in_use() -> None:
    before = LiveTable.serving(Layout(9, {"pool-9": Pool("b", frozenset(), frozenset())}))
    assert before.layout_for({"b": Pool("b", frozenset(), frozenset())}, slots=2).slots == 9


def test_connections_in_use_are_counted_by_server() -> None:
    answer = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max\n" + (
        "pool-1/foo-1 5/1 127.0.0.1 4001 - 5000 3 4\npool-2/foo-1 6/1 127.0.0.1 4001 - 5000 1 4\n"
    )
    assert parse_requests_in_work(answer) == {"foo-1": 4}
    with pytest.raises(RouterError):
        parse_requests_in_work("No such backend.")


def test_process_that_is_ending_has_no_identity() -> None:
    facts = "Pid: 42\ndescription: mooring-0123456789ab-64-3\nStopping: "
    pid, identity = parse_info(facts + "0")
    assert (pid, str(identity)) == (42, "mooring-0123456789ab-64-3")
    assert parse_info(facts + "1") == (42, None)
