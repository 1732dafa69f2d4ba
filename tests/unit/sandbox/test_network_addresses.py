"""Who gets which address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from engine.errors import HostUnfit, SandboxFault
from engine.sandbox.network_addresses import Pairs
from engine.sandbox.network_policy import DENIED, INTERNET, host_rules, router_rules

SUBNET = IPv4Network("10.213.4.0/22")


def test_sandboxes_have_pairs_of_the_lower_three_quarters() -> None:
    pairs = Pairs(SUBNET)
    numbers = [pairs.take() for _ in range(384)]
    assert len(set(numbers)) == 384
    for number in numbers:
        outer, inner = pairs.addresses(number)
        assert IPv4Network((outer, 31)) == IPv4Network(f"{IPv4Address(outer)}/31")
        assert inner == outer + 1
        assert IPv4Address(inner) in SUBNET
    with pytest.raises(SandboxFault, match="all 384 addresses"):
        pairs.take()


def test_a_number_that_is_given_back_is_the_last_to_be_taken_again() -> None:
    pairs = Pairs(SUBNET)
    first = pairs.take()
    pairs.give_back(first)
    taken = [pairs.take() for _ in range(384)]
    assert taken[-1] == first


def test_uplinks_are_apart_from_sandboxes_and_avoid_what_is_taken() -> None:
    pairs = Pairs(SUBNET)
    sandboxes = {pairs.addresses(pairs.take()) for _ in range(384)}
    taken: list[IPv4Network] = [IPv4Network("0.0.0.0/0")]
    for _ in range(128):
        pair = pairs.uplink("0123456789abcdef", taken)
        assert pair not in sandboxes
        assert IPv4Address(pair[0]) in SUBNET
        taken.append(IPv4Network((pair[0], 31)))
    assert len(set(taken)) == 129
    with pytest.raises(HostUnfit):
        pairs.uplink("0123456789abcdef", taken)


@pytest.mark.parametrize(
    "address",
    ["0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.169.254", "172.16.0.1",
     "172.31.255.255", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255"],
)  # fmt: skip
def test_special_addresses_are_denied(address: str) -> None:
    assert any(IPv4Address(address) in network for network in DENIED)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "169.253.1.1", "223.255.255.1"])
def test_public_addresses_are_not(address: str) -> None:
    assert not any(IPv4Address(address) in network for network in DENIED)


def test_both_tables_name_every_denied_network() -> None:
    resolvers = (IPv4Address("9.9.9.9"),)
    for rules in (
        router_rules(INTERNET, resolvers),
        host_rules("cleave_x", "clvx", IPv4Address("10.213.0.1"), INTERNET, resolvers),
    ):
        assert all(str(network) in rules for network in DENIED)


def test_rules_without_a_resolver_are_not_written() -> None:
    with pytest.raises(ValueError, match="resolver"):
        router_rules(INTERNET, ())
