"""Other firewalls that drop what is forwarded are found, and what doctor says to do about them lets egress through."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sandbox import network_firewalls
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.network import NetworkSettings
from engine.sandbox.network_firewalls import dropping
from engine.sandbox.probe import probe_host
from tests.networks import GREETING, METADATA, PORT, PRIVATE, PUBLIC, RESOLVER, FakeHost, run
from tests.security.network_probes import TCP, inside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CHAIN = "{ type filter hook forward priority 0; policy drop; }"


@pytest.fixture
def other(lab: FakeHost) -> Iterator[None]:
    """Another firewall's table, with a chain as Docker makes it."""
    run("nft", f"add table ip other; add chain ip other FORWARD {CHAIN}")
    yield
    run("nft", "delete table ip other")


async def test_a_host_without_another_firewall_has_none(lab: FakeHost) -> None:
    assert dropping() == []


async def test_one_that_drops_ends_egress_and_the_fix_lets_it_through_and_no_more(
    lab: FakeHost, sandbox: LinuxSandbox, other: None
) -> None:
    assert "TimeoutError" in await inside(sandbox, TCP.format(address=PUBLIC, port=PORT))
    (firewall,) = dropping()
    assert firewall.chain == "ip other FORWARD"
    subprocess.run(firewall.fix, shell=True, check=True, timeout=20)
    assert await inside(sandbox, TCP.format(address=PUBLIC, port=PORT)) == GREETING.decode()
    for address in (METADATA, PRIVATE[0]):
        assert await inside(sandbox, TCP.format(address=address, port=PORT)) == "OSError 113"


async def test_the_probe_names_it_with_its_fix(lab: FakeHost, tmp_path: Path, other: None) -> None:
    settings = NetworkSettings(resolvers=(RESOLVER,))
    check = next(check for check in probe_host({}, tmp_path, network=settings) if check.limit == "network")
    assert check.enforced
    assert "ip other FORWARD" in check.detail
    assert check.fix == dropping()[0].fix


async def test_docker_is_told_in_the_chain_that_it_leaves_alone(lab: FakeHost, other: None) -> None:
    run("nft", "add chain ip other DOCKER-USER")
    (firewall,) = dropping()
    assert firewall.fix.startswith("iptables -I DOCKER-USER -i clv+ -j ACCEPT && ")


async def test_firewalld_is_found_though_its_policy_is_to_accept(lab: FakeHost) -> None:
    chain = "{ type filter hook forward priority 10; policy accept; }"
    run("nft", f"add table inet firewalld; add chain inet firewalld filter_FORWARD {chain}")
    try:
        (firewall,) = dropping()
    finally:
        run("nft", "delete table inet firewalld")
    assert firewall.chain == "inet firewalld filter_FORWARD"
    assert "--add-interface=clv+" in firewall.fix


async def test_the_older_tables_which_nft_does_not_show_are_asked_too(
    lab: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, command = tmp_path / "ip_tables_names", tmp_path / "iptables-legacy"
    names.write_text("nat\nfilter\n")
    command.write_text("#!/bin/sh\necho '-P INPUT ACCEPT'\necho '-P FORWARD DROP'\n")
    command.chmod(0o755)
    monkeypatch.setattr(network_firewalls, "_LEGACY_TABLES", names)
    monkeypatch.setattr(network_firewalls, "NFT_FOLDERS", str(tmp_path))
    (firewall,) = dropping()
    assert firewall.chain == "iptables FORWARD"
    assert firewall.fix.startswith("iptables-legacy -I FORWARD -i clv+ -j ACCEPT && ")
    command.write_text("#!/bin/sh\necho '-P FORWARD ACCEPT'\n")
    assert dropping() == []
