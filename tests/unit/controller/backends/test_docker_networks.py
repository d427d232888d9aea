"""Where containers are put."""

from ipaddress import IPv4Network

from controller.backends.docker.networks import MOST, _Network, free_subnets, routed_subnets

ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
vpn0	0000C90A	00000000	0001	0	0	0	00FCFFFF	0	0	0
"""


def test_subnets_of_the_machines_routes_are_known_but_for_the_default() -> None:
    assert list(routed_subnets(ROUTES)) == [IPv4Network("172.17.0.0/16"), IPv4Network("10.201.0.0/22")]


def test_part_that_is_used_is_passed_over() -> None:
    free = free_subnets(IPv4Network("10.201.0.0/16"), routed_subnets(ROUTES))
    assert free[0] == IPv4Network("10.201.4.0/22")
    assert len(free) == 63
    assert free_subnets(IPv4Network("10.201.0.0/16"), [IPv4Network("10.0.0.0/8")]) == []


def test_addresses_are_given_out_in_turn_and_none_twice() -> None:
    network = _Network("n", IPv4Network("10.201.0.0/22"))
    first, second = network.choose(), network.choose()
    assert (first, second) == ("10.201.0.2", "10.201.0.3")
    network.taken.discard("10.201.0.2")
    assert network.choose() == "10.201.0.4"
    rest = [network.choose() for _ in range(MOST - 2)]
    assert len({second, "10.201.0.4", *rest}) == MOST
    assert network.choose() is None


def test_turn_comes_round_to_what_was_given_back() -> None:
    network = _Network("n", IPv4Network("10.201.0.0/29"))
    given = [network.choose() for _ in range(5)]
    assert given == [f"10.201.0.{each}" for each in range(2, 7)]
    assert network.choose() is None
    network.taken.discard("10.201.0.4")
    assert network.choose() == "10.201.0.4"
