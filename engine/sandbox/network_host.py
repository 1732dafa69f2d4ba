"""What of the host's network egress needs: a resolver, a way out, a free pair of addresses, forwarding and nftables.

Looks and changes nothing, but for `unfit`'s trial in a namespace that ends with it. Each answer is about the network
namespace of the thread that asks. Building the router from these answers is engine.sandbox.network_router's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TypeVar

from engine.errors import EngineError, HostUnfit, SandboxFault
from engine.sandbox import box
from engine.sandbox.network_policy import INTERNET, router_rules

T = TypeVar("T")

RESOLV_CONFS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
NFT_FOLDERS = "/usr/sbin:/sbin"  # beside PATH
_ROUTES = "/proc/thread-self/net/route"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_SIOCGIFMTU = 0x8921
_NFT_WITHIN_S = 20
_RTF_UP = 0x1
UPLINK_PREFIX = "clv"
"""How the host's ends of engines' uplinks are called: a route through one is no clash."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the host."""

    network: IPv4Network
    interface: str


def in_namespace(ns: int, work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own in the network namespace `ns`, and wait for it. Programs that it starts run
    there too. Raises what `work` raises."""
    answer: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            box.net_enter(ns)
            answer.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="cleave-namespace")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return answer[0]


def nft_path() -> str:
    """The nft command. Raises HostUnfit."""
    found = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{NFT_FOLDERS}")
    if found is None:
        raise HostUnfit("nftables is missing, which egress to the internet needs", fix="apt-get install nftables")
    return found


def load_rules(nft: str, rules: str) -> None:
    """Load rules into the namespace of the calling thread, all or none. Raises HostUnfit with what nft said."""
    done = subprocess.run(
        [nft, "-f", "-"], input=rules.encode(), capture_output=True, timeout=_NFT_WITHIN_S, cwd="/", check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[:500]
        raise HostUnfit(
            f"this host does not take the rules for egress: {said}",
            fix="use a kernel with nf_tables, its inet family, NAT and connection tracking (modprobe nf_tables)",
        )


def resolvers(named: Sequence[str]) -> tuple[IPv4Address, ...]:
    """Where sandboxes' questions for names go: what the operator named, else the host's own upstream resolvers. A stub
    on loopback is none, since sandboxes never reach the host. At most two. Raises HostUnfit if there is none."""
    if named:
        return tuple(IPv4Address(address) for address in named)[:2]
    found: list[IPv4Address] = []
    for path in RESOLV_CONFS:
        for line in _lines(path):
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver" and (address := _usable_resolver(words[1])):
                found.append(address)
        if found:
            return tuple(dict.fromkeys(found))[:2]
    raise HostUnfit(
        "this host's resolvers are on the host itself or on IPv6, where sandboxes do not reach them",
        fix='name others in the settings, such as egress_resolvers = ["1.1.1.1"]',
    )


def _usable_resolver(text: str) -> IPv4Address | None:
    try:
        address = IPv4Address(text)
    except ValueError:
        return None
    return None if address.is_loopback or address.is_unspecified or _is_own(address) else address


def _is_own(address: IPv4Address) -> bool:
    """Whether the host itself has the address: only such a one can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def routes() -> list[Route]:
    """The host's IPv4 routes."""
    found = []
    for line in _lines(_ROUTES)[1:]:
        interface, destination, _, flags, _, _, _, mask, *_ = line.split()
        if int(flags, 16) & _RTF_UP:
            address, length = _host_order(destination), _host_order(mask).bit_count()
            found.append(Route(IPv4Network((address, length)), interface))
    return found


def _host_order(text: str) -> int:
    # The file shows the bytes of the address as a number of this machine's.
    return int.from_bytes(int(text, 16).to_bytes(4, sys.byteorder), "big")


def check_subnet(subnet: IPv4Network, found: Sequence[Route]) -> None:
    """Raise HostUnfit if the host has another use for some of `subnet`."""
    for route in found:
        if route.network.prefixlen and route.network.overlaps(subnet) and not route.interface.startswith(UPLINK_PREFIX):
            raise HostUnfit(
                f"egress_subnet {subnet} overlaps the host's route to {route.network} by {route.interface}",
                fix="set egress_subnet to private addresses that this host has no route to, such as 10.214.0.0/16",
            )


def way_out(found: Sequence[Route]) -> str:
    """The interface of the default route. Raises HostUnfit without one."""
    for route in found:
        if route.network.prefixlen == 0:
            return route.interface
    raise HostUnfit("this host has no default route, so there is no internet to reach", fix="connect it to a network")


def mtu(interface: str) -> int:
    """Bytes in the largest packet of an interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si12x", interface.encode(), 0))
    return int(struct.unpack("16si12x", answer)[1])


def check_forwarding() -> None:
    """Raise HostUnfit unless the host passes packets on. The engine does not turn that on by itself: it makes the host
    a router for everybody, which its operator has to want."""
    if _FORWARD.read_text().strip() != "1":
        raise HostUnfit(
            "this host does not forward packets, which egress to the internet needs",
            fix="sysctl -w net.ipv4.ip_forward=1 (and put it into /etc/sysctl.d to keep it)",
        )


def unfit(subnet: IPv4Network, named_resolvers: Sequence[str]) -> EngineError | None:
    """Why this host cannot offer egress to the internet, or None. Tries links and rules in a namespace of its own."""
    try:
        if os.geteuid() != 0:
            raise HostUnfit("the engine does not run as root", fix="run the engine as root")
        check_forwarding()
        found = routes()
        way_out(found)
        check_subnet(subnet, found)
        upstream = resolvers(named_resolvers)
        nft = nft_path()
        _try(lambda: load_rules(nft, router_rules(INTERNET, upstream)))
    except (HostUnfit, SandboxFault) as error:
        return error
    return None


def _try(load: Callable[[], None]) -> None:
    ns, _ = box.net_make()
    try:
        other, _ = box.net_make()
        try:
            in_namespace(ns, lambda: _try_link(other))
        finally:
            os.close(other)
        in_namespace(ns, load)
    finally:
        os.close(ns)


def _try_link(other: int) -> None:
    sock = box.rtnl_open()
    try:
        box.link_pair(sock, ("probe", 0), ("probe", 0), other, 1_500)
    finally:
        os.close(sock)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
