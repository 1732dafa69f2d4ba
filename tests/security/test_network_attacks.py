"""What egress never gives: the host, its metadata, private networks, other sandboxes, and packets of one's own making.

Each attack is shown to succeed where its defence is not: from the host itself, or as root in the sandbox's namespace.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from engine.model.function import Egress
from engine.sandbox import box
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.network_host import in_namespace
from engine.sandbox.pool import LinuxPool
from tests.networks import (
    GREETING,
    HOST,
    HOST_PORT,
    METADATA,
    PORT,
    PRIVATE,
    PUBLIC,
    REBOUND,
    RESOLVER,
    FakeHost,
    run,
)
from tests.security.network_probes import OWN_ADDRESS, TCP, UDP, inside, outside, started

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

HELLO = GREETING.decode()
REFUSED = {"OSError 113", "OSError 101", "ConnectionRefusedError 111", "TimeoutError None"}


def as_root_in(sandbox: LinuxSandbox, work: Callable[[], object]) -> object:
    """Do something in a sandbox's network namespace with every capability over it."""
    ns = os.open(f"/proc/{sandbox.pid}/ns/net", os.O_RDONLY)
    try:
        return in_namespace(ns, work)
    finally:
        os.close(ns)


def uplink_address() -> str:
    """The host's end of the engine's uplink, which only the host and the router know."""
    line = next(line for line in run("ip", "-o", "-4", "address").splitlines() if " clv" in line)
    return line.split()[3].split("/")[0]


@pytest.mark.parametrize("address", [METADATA, *PRIVATE, RESOLVER])
async def test_addresses_that_are_not_public_are_refused(sandbox: LinuxSandbox, lab: FakeHost, address: str) -> None:
    tcp, udp = TCP.format(address=address, port=PORT), UDP.format(address=address, port=PORT)
    assert (outside(tcp), outside(udp)) == (HELLO, "ping")
    lab.met.clear()
    assert await inside(sandbox, tcp) == "OSError 113"
    assert await inside(sandbox, udp) in REFUSED
    assert lab.met == []


async def test_the_hosts_own_addresses_are_refused(sandbox: LinuxSandbox, lab: FakeHost) -> None:
    for address in (HOST, uplink_address()):
        tcp, udp = TCP.format(address=address, port=HOST_PORT), UDP.format(address=address, port=HOST_PORT)
        assert (outside(tcp), outside(udp)) == (HELLO, "ping"), address
        lab.met.clear()
        assert await inside(sandbox, tcp) in REFUSED
        assert await inside(sandbox, udp) in REFUSED
        assert lab.met == [], address


async def test_a_port_that_the_host_publishes_for_a_private_machine_is_refused(
    sandbox: LinuxSandbox, lab: FakeHost
) -> None:
    """As Docker publishes a container's: the address is public until the host translates it."""
    run("nft", "add table ip published; add chain ip published p { type nat hook prerouting priority -101; }")
    try:
        run("nft", f"add rule ip published p ip daddr {HOST} tcp dport 7777 dnat to {PRIVATE[0]}:{PORT}")
        lab.met.clear()
        attack = TCP.format(address=HOST, port=7777)
        assert await inside(sandbox, attack) in REFUSED
        assert lab.met == []
        table = next(line.split()[2] for line in run("nft", "list", "tables").splitlines() if "cleave_" in line)
        rules = run("nft", "list", "table", "inet", table)
        run("nft", f"flush set inet {table} denied")
        try:
            assert await inside(sandbox, attack) == HELLO
        finally:
            run("nft", f"delete table inet {table}; {rules}")
    finally:
        run("nft", "delete table ip published")


async def test_the_routers_addresses_offer_nothing(sandbox: LinuxSandbox, neighbour: LinuxSandbox) -> None:
    for one in (sandbox, neighbour):
        own = await inside(one, OWN_ADDRESS)
        gateway = own.rsplit(".", 1)[0] + "." + str(int(own.rsplit(".", 1)[1]) - 1)
        for port in (22, 53, 80, HOST_PORT):
            assert await inside(sandbox, TCP.format(address=gateway, port=port)) == "OSError 113"


async def test_the_engines_loopback_is_not_its_loopback(sandbox: LinuxSandbox) -> None:
    attack = TCP.format(address="127.0.0.1", port=HOST_PORT)
    assert outside(attack) == HELLO
    assert await inside(sandbox, attack) == "ConnectionRefusedError 111"


async def test_a_name_that_is_bound_to_the_hosts_address_leads_nowhere(sandbox: LinuxSandbox, lab: FakeHost) -> None:
    """DNS rebinding: the rules are about addresses, whatever they were called."""
    body = f"import socket\nreturn socket.gethostbyname({REBOUND!r})"
    assert await inside(sandbox, body) == HOST
    lab.met.clear()
    assert await inside(sandbox, TCP.format(address=REBOUND, port=HOST_PORT)) in REFUSED
    assert lab.met == []


async def test_the_resolver_is_reached_by_questions_and_by_nothing_else(sandbox: LinuxSandbox) -> None:
    for address in (*box.RESOLVERS, RESOLVER):
        for port in (22, 853, PORT):
            assert await inside(sandbox, TCP.format(address=address, port=port)) == "OSError 113"


LISTEN = f"""
    import socket, threading
    server = state["server"] = socket.create_server(("0.0.0.0", {PORT}))
    def work():
        while True:
            client, _ = server.accept()
            state["met"] = True
            with client:
                client.sendall({GREETING!r})
    threading.Thread(target=work, daemon=True).start()
    return None
"""


async def test_another_sandbox_is_not_reached(sandbox: LinuxSandbox, egress_pool: LinuxPool, tmp_path: Path) -> None:
    victim = await started(egress_pool, tmp_path)
    try:
        await inside(victim, LISTEN)
        attack = TCP.format(address=await inside(victim, OWN_ADDRESS), port=PORT)
        assert as_root_in(victim, lambda: outside(attack)) == HELLO
        assert await inside(victim, "return state.pop('met')") is True
        assert await inside(sandbox, attack) == "OSError 113"
        assert as_root_in(sandbox, lambda: outside(attack)) == "OSError 113"
        assert await inside(victim, "return 'met' in state") is False
    finally:
        await victim.close()


async def test_nobody_outside_reaches_a_sandbox(sandbox: LinuxSandbox, lab: FakeHost) -> None:
    """Not the host by a route that its operator never made, nor the internet by the host's address."""
    address = await inside(sandbox, OWN_ADDRESS)
    await inside(sandbox, LISTEN)
    try:
        attack = TCP.format(address=address, port=PORT)
        via = next(line for line in run("ip", "-o", "link").splitlines() if " clv" in line).split()[1].split("@")[0]
        run("ip", "route", "add", f"{address}/32", "dev", via)
        try:
            assert outside(attack) in REFUSED
        finally:
            run("ip", "route", "del", f"{address}/32", "dev", via)
        assert in_namespace(lab.internet, lambda: outside(TCP.format(address=HOST, port=PORT))) in REFUSED
        assert await inside(sandbox, "return 'met' in state") is False
    finally:
        await inside(sandbox, "state.pop('server').close()")


@pytest.mark.parametrize(
    "kind",
    ["AF_PACKET, socket.SOCK_RAW, 768", "AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP",
     "AF_INET, socket.SOCK_RAW, 255", "AF_INET6, socket.SOCK_RAW, 58", "AF_INET, socket.SOCK_DGRAM, 1"],
)  # fmt: skip
async def test_it_makes_no_packets_of_its_own(sandbox: LinuxSandbox, kind: str) -> None:
    body = f"""
        import socket
        try:
            socket.socket(socket.{kind}).close()
            return "made"
        except OSError as error:
            return type(error).__name__
    """
    if "DGRAM" not in kind:  # for root too, pings are a setting's
        assert outside(body) == "made"
    assert await inside(sandbox, body) in ("PermissionError", "OSError")


async def test_it_cannot_send_from_an_address_that_is_not_its_own(
    sandbox: LinuxSandbox, neighbour: LinuxSandbox
) -> None:
    other = await inside(neighbour, OWN_ADDRESS)
    body = f"""
        import socket
        answers = []
        for option in (None, 15, 19):  # IP_FREEBIND, IP_TRANSPARENT
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                try:
                    if option:
                        sock.setsockopt(socket.IPPROTO_IP, option, 1)
                    sock.bind(({other!r}, 0))
                    sock.sendto(b"spoofed", ({PUBLIC!r}, {PORT}))
                    answers.append("sent")
                except OSError as error:
                    answers.append(error.errno)
        return answers
    """
    bound, sent, transparent = await inside(sandbox, body)
    assert (bound, transparent) == (99, 1)
    assert sent in (22, 101)


async def test_even_a_spoofed_packet_goes_nowhere(
    sandbox: LinuxSandbox, neighbour: LinuxSandbox, lab: FakeHost
) -> None:
    """With the defence off that refuses raw sockets: the router knows a sandbox by its link, not by what it says."""
    other, own = await inside(neighbour, OWN_ADDRESS), await inside(sandbox, OWN_ADDRESS)

    def spoof(source: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            payload = b"spoofed"
            udp = (
                (5_555).to_bytes(2, "big")
                + PORT.to_bytes(2, "big")
                + (8 + len(payload)).to_bytes(2, "big")
                + bytes(2)
                + payload
            )
            head = bytes([0x45, 0]) + (20 + len(udp)).to_bytes(2, "big") + bytes(4) + bytes([64, 17, 0, 0])
            sock.sendto(head + socket.inet_aton(source) + socket.inet_aton(PUBLIC) + udp, (PUBLIC, 0))

    lab.met.clear()
    for source in (other, HOST, "203.0.113.77", METADATA):
        as_root_in(sandbox, partial(spoof, source))
    await asyncio.sleep(0.1)
    assert lab.met == []
    as_root_in(sandbox, lambda: spoof(own))  # the same packet with its own address arrives
    end = time.monotonic() + 2
    while not lab.met and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert lab.met == [HOST]


async def test_claiming_anothers_address_takes_nothing_from_it(sandbox: LinuxSandbox, neighbour: LinuxSandbox) -> None:
    """ARP spoofing, with every capability: each sandbox is alone on its wire."""
    other = await inside(neighbour, OWN_ADDRESS)

    def claim() -> None:
        run("ip", "address", "add", f"{other}/32", "dev", "eth0")
        hardware = Path("/proc/thread-self/net/arp").read_text()
        assert "eth0" in hardware
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as sock:
            sock.bind(("eth0", 0x0806))
            mac, ip = sock.getsockname()[4], socket.inet_aton(other)
            packet = b"\xff" * 6 + mac + b"\x08\x06" + b"\0\1\x08\0\6\4\0\2" + mac + ip + b"\xff" * 6 + ip
            for _ in range(3):
                sock.send(packet)

    as_root_in(sandbox, claim)
    try:
        assert await inside(neighbour, TCP.format(address=PUBLIC, port=PORT)) == HELLO
    finally:
        as_root_in(sandbox, lambda: run("ip", "address", "del", f"{other}/32", "dev", "eth0"))


async def test_ipv6_leads_nowhere(sandbox: LinuxSandbox) -> None:
    body = """
        import socket
        answers = []
        for address in ("fe80::1%eth0", "ff02::1%eth0", "2001:db8::1", "::ffff:10.9.9.9", "fd00::1"):
            try:
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                    info = socket.getaddrinfo(address, 8080, socket.AF_INET6, socket.SOCK_DGRAM)[0][4]
                    sock.settimeout(0.3)
                    sock.connect(info)
                    sock.send(b"ping")
                    sock.recv(10)
                    answers.append("answered")
            except OSError as error:
                answers.append("refused")
        return answers
    """
    assert await inside(sandbox, body) == ["refused"] * 5


async def test_not_even_root_in_its_namespace_finds_a_neighbour_on_ipv6(sandbox: LinuxSandbox) -> None:
    def look() -> str:
        knob = Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        knob.write_text("0")
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58) as sock:
                sock.settimeout(0.5)
                index = socket.if_nametoindex("eth0")
                for _ in range(20):  # until its own address is known to be free
                    try:
                        sock.sendto(b"\x80\0\0\0\0\1\0\1", ("ff02::1", 0, 0, index))
                        break
                    except OSError:
                        time.sleep(0.1)
                own = [line.split()[0] for line in Path("/proc/thread-self/net/if_inet6").read_text().splitlines()]
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    try:
                        _, peer = sock.recvfrom(1_000)
                    except TimeoutError:
                        return "nobody"
                    if socket.inet_pton(socket.AF_INET6, peer[0].split("%")[0]).hex() not in own:
                        return str(peer)
                return "nobody"
        finally:
            knob.write_text("1")

    assert as_root_in(sandbox, look) == "nobody"


async def test_its_network_cannot_be_changed_from_inside(sandbox: LinuxSandbox) -> None:
    body = """
        import fcntl, socket, struct
        answers = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            address = struct.pack("16sH2s4s8x", b"eth0", socket.AF_INET, b"", socket.inet_aton("10.9.9.1"))
            for request, argument in ((0x8916, address), (0x8914, struct.pack("16sh14x", b"eth0", 0))):
                try:
                    fcntl.ioctl(sock, request, argument)
                    answers.append("done")
                except OSError as error:
                    answers.append(type(error).__name__)
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
                body = struct.pack("BxHiII", 0, 0, 0, 0, 0)
                sock.send(struct.pack("IHHII", 16 + len(body), 17, 5, 1, 0) + body)  # RTM_DELLINK
                answers.append(struct.unpack_from("i", sock.recv(1_000), 16)[0])
        except OSError as error:
            answers.append(error.errno)  # EAFNOSUPPORT of the filter
        for path in ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/eth0/rp_filter"):
            try:
                open(path, "w").write("1")
                answers.append("written")
            except OSError as error:
                answers.append(type(error).__name__)
        return answers
    """
    found = await inside(sandbox, body)
    assert found[:3] == ["PermissionError", "PermissionError", 97]
    assert set(found[3:]) <= {"PermissionError", "FileNotFoundError", "OSError"}


async def test_multicast_and_broadcast_reach_nobody(sandbox: LinuxSandbox, lab: FakeHost) -> None:
    body = f"""
        import socket
        answers = []
        for address in ("224.0.0.1", "239.1.2.3", "255.255.255.255", "203.0.113.255"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.settimeout(0.2)
                try:
                    sock.sendto(b"ping", (address, {HOST_PORT}))
                    answers.append(sock.recv(10).decode())
                except OSError:
                    answers.append("nobody")
        return answers
    """
    lab.met.clear()
    assert await inside(sandbox, body) == ["nobody"] * 4
    assert lab.met == []


async def test_abstract_sockets_of_another_sandbox_are_not_there(
    sandbox: LinuxSandbox, neighbour: LinuxSandbox
) -> None:
    body = """
        import socket
        state["abstract"] = socket.socket(socket.AF_UNIX)
        state["abstract"].bind("\\0cleave-test")
        state["abstract"].listen()
        return None
    """
    await inside(neighbour, body)
    attack = """
        import socket
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect("\\0cleave-test")
            return "connected"
        except OSError as error:
            return type(error).__name__
    """
    assert as_root_in(neighbour, lambda: outside(attack)) == "connected"
    assert await inside(sandbox, attack) == "ConnectionRefusedError"


async def test_a_namespace_is_never_used_twice(egress_pool: LinuxPool, tmp_path: Path) -> None:
    seen = set()
    for egress in (Egress.INTERNET, Egress.NONE) * 4:
        sandbox = await started(egress_pool, tmp_path, egress)
        await inside(sandbox, "return None")  # it is where it belongs from its first step on
        # Held, so that the kernel cannot use the number again.
        seen.add(os.open(f"/proc/{sandbox.pid}/ns/net", os.O_RDONLY))
        await sandbox.close()
    numbers = {os.fstat(fd).st_ino for fd in seen}
    for fd in seen:
        os.close(fd)
    assert len(numbers) == 8
