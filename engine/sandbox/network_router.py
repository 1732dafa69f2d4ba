"""The router namespace: where the sandboxes with egress meet the host's network, and nothing else is.

    sandbox ── eth0 ═══ s1000 ┐
    sandbox ── eth0 ═══ s1001 ┤ router namespace ── uplink ═══ clv… ── the host's namespace ── the internet
    sandbox ── eth0 ═══ s1002 ┘ table cleave                  table cleave_…

Each sandbox has a link of its own to the router, with a /31 of the engine's subnet; the router knows a sandbox only by
its link (reverse path filtering), passes on what its table allows, and gives all of it one address. The host sees one
interface, one address and one table, whatever the number of sandboxes; interfaces that come and go wake none of the
host's programs.

The kernel removes the namespace, every link and the host's end of the uplink when the engine's descriptors of it close,
also after kill -9. The host's table stays then; it names an interface that is not there, and the next start of the same
engine removes it. The engine's own changes to the host are these: that interface, its forwarding, and that table.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from engine.errors import HostUnfit, SandboxFault
from engine.sandbox import box, network_host
from engine.sandbox.network_addresses import Pairs
from engine.sandbox.network_policy import INTERNET, UPLINK, Policy, host_rules, remove_rules, router_rules

_FIRST_INDEX = 1_000  # of the sandboxes' interfaces: above those that the kernel puts into every namespace
_UPLINK_INDEX = 500
_TRIES = 64
_KNOBS = (
    ("net/ipv4/conf/all/rp_filter", "1"),  # strict: a packet from a sandbox has that sandbox's address
    ("net/ipv4/conf/default/rp_filter", "1"),
    ("net/ipv4/icmp_ratelimit", "0"),  # a refusal is always said, and at once
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/ip_forward", "1"),
)


def table_name(instance_id: str) -> str:
    """The engine's table in the host's namespace."""
    return f"cleave_{instance_id}"


def uplink_name(instance_id: str) -> str:
    """The engine's interface in the host's namespace: at most 15 characters."""
    return f"{network_host.UPLINK_PREFIX}{instance_id[:12]}"


def remove_leftovers(instance_id: str) -> None:
    """Remove what a dead engine of this id left in the namespace of the calling thread. Does nothing where nftables is
    missing: then nothing can have been left, or nothing can be done."""
    sock = box.rtnl_open()
    try:
        box.link_remove(sock, uplink_name(instance_id))
    finally:
        os.close(sock)
    try:
        network_host.load_rules(network_host.nft_path(), remove_rules(table_name(instance_id)))
    except HostUnfit:
        pass


class Router:
    """One engine's router. Make, use and close it in the host's namespace; thread-safe."""

    def __init__(
        self,
        instance_id: str,
        subnet: IPv4Network,
        *,
        resolvers: Sequence[str] = (),
        policy: Policy = INTERNET,
    ) -> None:
        """Build it. Raises HostUnfit or SandboxFault; then nothing of it is left."""
        self._id = instance_id
        self._nft = network_host.nft_path()
        network_host.check_forwarding()
        found = network_host.routes()
        network_host.check_subnet(subnet, found)
        self._mtu = network_host.mtu(network_host.way_out(found))
        upstream = network_host.resolvers(resolvers)
        self._pairs = Pairs(subnet)
        outer, inner = self._pairs.uplink(instance_id, [route.network for route in found])
        self._lock = threading.Lock()
        self._ns, _ = box.net_make()
        self._sock = -1
        try:
            self._sock = network_host.in_namespace(self._ns, _furnish)
            self._connect(outer, inner)
            network_host.in_namespace(
                self._ns, lambda: network_host.load_rules(self._nft, router_rules(policy, upstream))
            )
            name = uplink_name(instance_id)
            rules = host_rules(table_name(instance_id), name, IPv4Address(inner), policy, upstream)
            network_host.load_rules(self._nft, rules)
            # The way opens when every rule stands.
            self._open_way(name)
        except BaseException:
            self.close()
            raise

    def make(self) -> tuple[int, int, int]:
        """A namespace with a link to the router: its number, its descriptor, that of its counters. Give the number back
        once both are closed. Raises SandboxFault."""
        with self._lock:
            tried = []
            try:
                while True:
                    number = self._pairs.take()
                    outer, inner = self._pairs.addresses(number)
                    try:
                        return number, *box.net_make((self._sock, _FIRST_INDEX + number, outer, inner, self._mtu))
                    except SandboxFault as fault:
                        tried.append(number)
                        # The kernel takes a moment to remove the link of a namespace that was let go.
                        if fault.errno not in (errno.EEXIST, errno.EBUSY) or len(tried) == _TRIES:
                            raise
            finally:
                for number in tried:
                    self._pairs.give_back(number)

    def give_back(self, number: int) -> None:
        """The namespace of this number is let go."""
        with self._lock:
            self._pairs.give_back(number)

    def close(self) -> None:
        """Take it away, with every link to it. Safe to call again."""
        if self._ns < 0:
            return
        # The interface first: while it is there, its rules are.
        sock = box.rtnl_open()
        try:
            box.link_remove(sock, uplink_name(self._id))
        finally:
            os.close(sock)
        for fd in (self._sock, self._ns):
            if fd >= 0:
                os.close(fd)
        self._sock = self._ns = -1
        network_host.load_rules(self._nft, remove_rules(table_name(self._id)))

    def _connect(self, outer: int, inner: int) -> None:
        name = uplink_name(self._id)
        sock = box.rtnl_open()
        try:
            box.link_remove(sock, name)
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            try:
                box.link_pair(self._sock, (UPLINK, _UPLINK_INDEX), (name, 0), home, self._mtu)
            finally:
                os.close(home)
            _write_knob(f"net/ipv6/conf/{name}/disable_ipv6", "1")
            _write_knob(f"net/ipv4/conf/{name}/forwarding", "1")
            _write_knob(f"net/ipv4/conf/{name}/route_localnet", "0")
            box.address_add(sock, socket.if_nametoindex(name), outer, 31)
            box.address_add(self._sock, _UPLINK_INDEX, inner, 31)
        finally:
            os.close(sock)
        self._gateway = outer

    def _open_way(self, name: str) -> None:
        sock = box.rtnl_open()
        try:
            box.link_up(sock, name)
        finally:
            os.close(sock)
        box.route_default(self._sock, self._gateway)


def _furnish() -> int:
    for path, value in _KNOBS:
        _write_knob(path, value)
    return box.rtnl_open()


def _write_knob(path: str, value: str) -> None:
    """A sysctl of the calling thread's network namespace; one that this kernel does not have needs no value."""
    knob = Path("/proc/sys") / path
    try:
        knob.write_text(value)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SandboxFault("network router", error.errno or 0, f"cannot set {path} to {value}") from error
