"""What egress gives: public addresses and names, counted; and no more to a sandbox that did not ask for it."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from engine.model.function import Egress
from engine.model.outcome import Outcome
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.networks import GREETING, HOST, NAMED, PORT, PUBLIC, FakeHost
from tests.sandboxes import run
from tests.security.network_probes import OWN_ADDRESS, TCP, UDP, inside, outside, program, started

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


async def test_a_public_address_answers_and_meets_the_hosts_address(lab: FakeHost, sandbox: LinuxSandbox) -> None:
    lab.met.clear()
    assert await inside(sandbox, TCP.format(address=PUBLIC, port=PORT)) == GREETING.decode()
    assert await inside(sandbox, UDP.format(address=PUBLIC, port=PORT)) == "ping"
    assert lab.met == [HOST, HOST]


async def test_names_are_resolved_by_the_engines_resolver(sandbox: LinuxSandbox) -> None:
    body = f"import socket\nreturn [a[4] for a in socket.getaddrinfo({NAMED!r}, {PORT}, type=socket.SOCK_STREAM)]"
    assert await inside(sandbox, body) == [[PUBLIC, PORT]]
    assert await inside(sandbox, TCP.format(address=NAMED, port=PORT)) == GREETING.decode()


async def test_an_unknown_name_is_refused_and_not_waited_for(sandbox: LinuxSandbox) -> None:
    body = """
        import socket, time
        began = time.monotonic()
        try:
            socket.getaddrinfo("unknown.example.test", 80)
        except socket.gaierror as error:
            return [error.errno == socket.EAI_NONAME, time.monotonic() - began < 1]
    """
    assert await inside(sandbox, body) == [True, True]


async def test_what_goes_in_and_out_is_counted_for_each_event(sandbox: LinuxSandbox) -> None:
    echo = f"""
        import socket
        with socket.create_connection(({PUBLIC!r}, {PORT}), 2) as sock:
            sock.recv(100)
            sock.sendall(bytes(50_000))
            sock.shutdown(socket.SHUT_WR)
            got = 0
            while block := sock.recv(65_536):
                got += len(block)
            return got
    """
    ending, _ = await run(sandbox, {"program": program(echo)})
    assert ending.outcome is Outcome.OK
    assert json.loads(ending.payload) == 50_000
    assert 50_000 <= ending.network_out_bytes <= 60_000
    assert 50_000 <= ending.network_in_bytes <= 60_000
    shout = f"""
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            return sum(sock.sendto(bytes(1_400), ({PUBLIC!r}, 9)) for _ in range(60))
    """
    one_way, _ = await run(sandbox, {"program": program(shout)})
    assert 84_000 <= one_way.network_out_bytes <= 100_000
    assert one_way.network_in_bytes < 42_000, "nobody answers, but by an error that quotes a part"
    quiet, _ = await run(sandbox, {"program": program("return 1")})
    # A late acknowledgement of what came before may still pass.
    assert quiet.network_out_bytes + quiet.network_in_bytes < 1_000


async def test_a_sandbox_without_egress_beside_it_has_no_way_out(egress_pool: LinuxPool, tmp_path: Path) -> None:
    sandbox = await started(egress_pool, tmp_path, Egress.NONE)
    try:
        assert await inside(sandbox, TCP.format(address=PUBLIC, port=PORT)) == "OSError 101"
        body = (
            f"import socket\ntry:\n    return socket.gethostbyname({NAMED!r})\nexcept OSError as e:\n    return str(e)"
        )
        assert "Temporary failure" in await inside(sandbox, body)
        ending, _ = await run(sandbox, {"program": program("return 1")})
        assert (ending.network_in_bytes, ending.network_out_bytes) == (0, 0)
    finally:
        await sandbox.close()


async def test_its_interfaces_are_loopback_and_one_link_without_ipv6(sandbox: LinuxSandbox) -> None:
    body = """
        tunnels = ("tunl", "sit", "ip6", "gre", "erspan")  # the kernel's own templates, in every namespace
        names = [line.split(":")[0].strip() for line in list(open("/proc/net/dev"))[2:]]
        names = [name for name in names if not name.startswith(tunnels)]
        return names, [line.split()[-1] for line in open("/proc/net/if_inet6")]
    """
    assert await inside(sandbox, body) == [["lo", "eth0"], ["lo"]]


async def test_two_sandboxes_have_two_addresses_and_share_the_hosts(
    lab: FakeHost, sandbox: LinuxSandbox, neighbour: LinuxSandbox
) -> None:
    lab.met.clear()
    first, second = [IPv4Address(await inside(one, OWN_ADDRESS)) for one in (sandbox, neighbour)]
    assert first != second
    for one in (sandbox, neighbour):
        await inside(one, TCP.format(address=PUBLIC, port=PORT))
    assert lab.met == [HOST, HOST]


async def test_a_response_of_many_packets_comes_whole(sandbox: LinuxSandbox) -> None:
    body = f"""
        import socket
        with socket.create_connection(({PUBLIC!r}, {PORT}), 2) as sock:
            sock.recv(100)
            sock.sendall(bytes(60_000))
            sock.shutdown(socket.SHUT_WR)
            got = 0
            while block := sock.recv(65_536):
                got += len(block)
            return got
    """
    assert await inside(sandbox, body) == 60_000
    assert outside(body) == 60_000
