"""How networks end, also where the engine does not get to end them; and who is refused one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from engine.errors import HostUnfit
from engine.fabric.datadir import new_instance_id
from engine.model.function import Egress
from engine.sandbox import network_host
from engine.sandbox.counts import Counts, Resource
from engine.sandbox.network import Network, NetworkSettings
from engine.sandbox.network_host import in_namespace
from engine.sandbox.network_policy import Policy
from engine.sandbox.network_router import Router
from engine.sandbox.probe import probe_host
from tests.networks import GREETING, HOST, PORT, PUBLIC, RESOLVER, FakeHost, run
from tests.sandboxes import real_pool
from tests.security.network_probes import OWN_ADDRESS, TCP, inside, outside, started

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = NetworkSettings(resolvers=(RESOLVER,), pool_size=2)
ENGINE = """
import asyncio, sys
from pathlib import Path
from engine.model.function import Egress
from tests.networks import RESOLVER
from engine.sandbox.network import NetworkSettings
from tests.sandboxes import real_pool
from tests.security.network_probes import inside, started

async def main(instance_id, folder):
    settings = NetworkSettings(resolvers=(RESOLVER,), pool_size=2)
    async with real_pool(folder, network=settings, instance_id=instance_id) as pool:
        sandboxes = [await started(pool, folder) for _ in range(3)]
        for sandbox in sandboxes:
            await inside(sandbox, "return None")
        print("ready", *[sandbox.pid for sandbox in sandboxes], flush=True)
        await asyncio.sleep(60)

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


def of_engines() -> list[str]:
    """The links and tables of engines on the fake host."""
    links = [line.split()[1].split("@")[0] for line in run("ip", "-o", "link").splitlines()]
    tables = [line.split()[-1] for line in run("nft", "list", "tables").splitlines()]
    return [name for name in links if name.startswith("clv")] + [name for name in tables if "cleave" in name]


def until(condition: Callable[[], bool], *, within_s: float = 10) -> None:
    """The kernel takes namespaces apart in its own time, and tells nobody."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def instance_id(lab: FakeHost) -> Iterator[str]:
    assert of_engines() == []
    yield new_instance_id()
    assert of_engines() == []


async def test_an_engine_that_is_killed_leaves_nothing_after_its_next_start(instance_id: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENGINE, instance_id, str(tmp_path)]
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert engine.stdout is not None
    with engine.stdout:
        ready, *pids = engine.stdout.readline().split()
    assert ready == "ready"
    assert len(of_engines()) == 2
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    # The link goes with the engine; the table, which names nothing then, with its next start.
    until(lambda: not any(name.startswith("clv") for name in of_engines()))
    assert of_engines() == [f"cleave_{instance_id}"]
    async with real_pool(tmp_path, network=SETTINGS, instance_id=instance_id) as pool:
        assert of_engines() == []
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        sandbox = await started(pool, tmp_path)
        assert await inside(sandbox, TCP.format(address=PUBLIC, port=PORT)) == GREETING.decode()
        assert len(of_engines()) == 2
        await sandbox.close()


async def test_an_engine_that_nobody_asks_for_egress_changes_nothing_of_the_hosts_network(
    instance_id: str, tmp_path: Path
) -> None:
    rules = run("nft", "list", "ruleset")
    async with real_pool(tmp_path, network=SETTINGS, instance_id=instance_id) as pool:
        pool.refuse(Egress.INTERNET)  # it could be had
        sandbox = await started(pool, tmp_path, Egress.NONE)
        await inside(sandbox, "return None")
        assert of_engines() == []
        await sandbox.close()
    assert run("nft", "list", "ruleset") == rules


async def test_what_a_dead_engine_left_is_removed_where_egress_cannot_be_had_any_more(instance_id: str) -> None:
    run("nft", f"add table inet cleave_{instance_id}")
    run("ip", "link", "add", f"clv{instance_id[:12]}", "type", "veth")
    knob = Path("/proc/sys/net/ipv4/ip_forward")
    knob.write_text("0")
    try:
        network = Network(instance_id, SETTINGS, Counts())
        network.open()
        assert of_engines() == []
        with pytest.raises(HostUnfit, match="does not forward packets") as refused:
            network.refuse(Egress.INTERNET)
        assert "sysctl -w net.ipv4.ip_forward=1" in refused.value.fix
        network.refuse(Egress.NONE)
        network.close()
    finally:
        knob.write_text("1")


async def test_two_engines_share_a_host_and_a_subnet_and_not_their_sandboxes(lab: FakeHost, tmp_path: Path) -> None:
    async with (
        real_pool(tmp_path / "one", network=SETTINGS) as one,
        real_pool(tmp_path / "two", network=SETTINGS) as two,
    ):
        ours, theirs = await started(one, tmp_path / "a"), await started(two, tmp_path / "b")
        assert len(of_engines()) == 4
        for sandbox in (ours, theirs):
            assert await inside(sandbox, TCP.format(address=PUBLIC, port=PORT)) == GREETING.decode()
        uplinks = [
            line.split()[3].split("/")[0] for line in run("ip", "-o", "-4", "address").splitlines() if "clv" in line
        ]
        for address in uplinks:
            for port in (53, PORT):
                assert await inside(ours, TCP.format(address=address, port=port)) == "OSError 113"
        await ours.close()
        await theirs.close()
    assert of_engines() == []


async def test_a_sandbox_that_ends_gives_its_link_and_its_address_back(instance_id: str, tmp_path: Path) -> None:
    async with real_pool(tmp_path, network=SETTINGS, instance_id=instance_id) as pool:
        for _ in range(5):
            sandbox = await started(pool, tmp_path)
            await inside(sandbox, "return None")
            await sandbox.close()
        until(lambda: pool.network_counts[Egress.INTERNET].removed == 5)
        counts = pool.network_counts[Egress.INTERNET]
        assert counts.made + counts.made_inline == 5 + counts.ready
        assert counts.backlog == 0
        assert pool.counts.alive(Resource.NETWORKS) == sum(kind.ready for kind in pool.network_counts.values())
    assert pool.counts.alive(Resource.NETWORKS) == 0


@pytest.fixture
def router(lab: FakeHost) -> Iterator[Router]:
    """One whose sandboxes may have three connections."""
    router = Router(new_instance_id(), IPv4Network("10.213.0.0/16"), resolvers=[RESOLVER], policy=Policy(connections=3))
    yield router
    router.close()
    assert of_engines() == []


async def test_one_sandbox_cannot_use_up_the_connections_of_all(router: Router) -> None:
    def connect() -> str:
        try:
            held.append(socket.create_connection((PUBLIC, PORT), 20))
            return "connected"
        except OSError as error:
            return type(error).__name__

    held: list[socket.socket] = []
    first, second = router.make(), router.make()
    assert [in_namespace(first[1], connect) for _ in range(4)] == ["connected"] * 3 + ["OSError"]
    assert in_namespace(second[1], connect) == "connected"
    for sock in held:
        sock.close()
    for number, *fds in (first, second):
        for fd in fds:
            os.close(fd)
        router.give_back(number)


async def test_every_namespace_of_a_router_has_addresses_of_its_own(router: Router) -> None:
    made = [router.make() for _ in range(20)]
    addresses = {in_namespace(ns, lambda: outside(OWN_ADDRESS)) for _, ns, _ in made}
    assert len(addresses) == 20
    for number, *fds in made:
        for fd in fds:
            os.close(fd)
        router.give_back(number)


REFUSALS = {
    "10.213.0.0/17": ("overlaps the host's route to 10.213.0.0/17", "egress_subnet"),
    "10.0.0.0/8": ("overlaps the host's route to 10.0.0.0/8", "egress_subnet"),
}


@pytest.mark.parametrize("route", REFUSALS)
async def test_a_subnet_that_the_host_has_a_route_to_is_refused(instance_id: str, route: str) -> None:
    run("ip", "route", "add", route, "dev", "wan")
    try:
        with pytest.raises(HostUnfit) as refused:
            Router(instance_id, IPv4Network("10.213.0.0/16"), resolvers=[RESOLVER])
        message, fix = REFUSALS[route]
        assert message in refused.value.message
        assert fix in refused.value.fix
    finally:
        run("ip", "route", "del", route, "dev", "wan")


async def test_a_host_without_a_way_out_is_refused(instance_id: str) -> None:
    run("ip", "route", "del", "default")
    try:
        with pytest.raises(HostUnfit, match="no default route"):
            Router(instance_id, IPv4Network("10.213.0.0/16"), resolvers=[RESOLVER])
    finally:
        run("ip", "route", "add", "default", "via", "203.0.113.1")


async def test_a_host_without_nftables_is_refused_and_told_the_package(
    instance_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_host, "NFT_FOLDERS", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostUnfit) as refused:
        Router(instance_id, IPv4Network("10.213.0.0/16"), resolvers=[RESOLVER])
    assert refused.value.fix == "apt-get install nftables"


async def test_the_probe_finds_what_the_router_needs(lab: FakeHost, tmp_path: Path) -> None:
    assert network_host.unfit(IPv4Network("10.213.0.0/16"), [RESOLVER]) is None
    check = next(check for check in probe_host({}, tmp_path, network=SETTINGS) if check.limit == "network")
    assert check.enforced
    assert "egress: none" in check.mechanism
    assert "egress: internet" in check.mechanism
    assert check.fix == ""
    assert of_engines() == []


async def test_the_probe_says_why_the_internet_is_refused(lab: FakeHost, tmp_path: Path) -> None:
    run("ip", "route", "del", "default")
    try:
        check = next(check for check in probe_host({}, tmp_path, network=SETTINGS) if check.limit == "network")
    finally:
        run("ip", "route", "add", "default", "via", "203.0.113.1")
    assert check.enforced
    assert "egress: internet is refused: this host has no default route" in check.detail
    assert check.fix == "connect it to a network"


async def test_resolvers_are_the_hosts_own_unless_they_are_on_the_host(
    lab: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, upstream = tmp_path / "stub.conf", tmp_path / "upstream.conf"
    stub.write_text(f"# local\nnameserver 127.0.0.53\nnameserver ::1\nnameserver {HOST}\n")
    upstream.write_text("search x\nnameserver 9.9.9.9\nnameserver 9.9.9.9\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n")
    monkeypatch.setattr(network_host, "RESOLV_CONFS", (str(stub), str(upstream)))
    assert [str(address) for address in network_host.resolvers([])] == ["9.9.9.9", "10.0.0.2"]
    assert [str(address) for address in network_host.resolvers(["1.1.1.1"])] == ["1.1.1.1"]
    upstream.unlink()
    with pytest.raises(HostUnfit) as refused:
        network_host.resolvers([])
    assert "egress_resolvers" in refused.value.fix
