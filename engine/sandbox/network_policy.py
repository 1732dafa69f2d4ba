"""What a sandbox with egress may reach: data, and the nftables rules that hold it.

Two tables: one in the engine's router namespace, where every sandbox arrives on an interface of its own, and one in the
host's namespace, where all of them arrive on one interface. Both refuse the same addresses, since the host may
translate what the router let through (a published port of a container, say).

Subnets and security groups will be further policies: who is refused what is all in `Policy`, and the rules are written
from it. Loading them is engine.sandbox.network_router's.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from engine.sandbox import box

UPLINK = "uplink"
"""The router's interface to the host; all its others are sandboxes'."""

DENIED = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network: RFC 791
        "10.0.0.0/8",  # private: RFC 1918
        "100.64.0.0/10",  # carriers' and overlay networks' addresses: RFC 6598
        "127.0.0.0/8",  # loopback: RFC 1122
        "169.254.0.0/16",  # link-local, where clouds have their metadata: RFC 3927
        "172.16.0.0/12",  # private: RFC 1918
        "192.0.0.0/24",  # protocol assignments: RFC 6890
        "192.168.0.0/16",  # private: RFC 1918
        "198.18.0.0/15",  # benchmarks inside a site: RFC 2544
        "224.0.0.0/4",  # multicast: RFC 5771
        "240.0.0.0/4",  # reserved, and the broadcast address: RFC 1112
    )
)
"""What is no public address, by the registry of special-purpose addresses (RFC 6890). The blocks for documentation are
not in it: nobody routes them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What sandboxes of one kind may open connections to: everything but `denied`, and the resolvers on port 53.
    Nothing may open a connection to a sandbox."""

    denied: tuple[IPv4Network, ...] = DENIED
    connections: int = 1_024  # that one sandbox may have open; AWS Lambda's open files are as many
    all_connections: int = 65_536  # of all sandboxes together: the host's table of connections is everybody's


INTERNET = Policy()

_REFUSE = "reject with icmpx type admin-prohibited"
"""An answer, so that a function is told at once and does not wait for its timeout: EHOSTUNREACH."""


def router_rules(policy: Policy, resolvers: tuple[IPv4Address, ...]) -> str:
    """The table of the router namespace, as `nft -f -` reads it. Raises ValueError without a resolver."""
    if not resolvers:
        raise ValueError("no resolver")
    # Both addresses that sandboxes know always lead somewhere; the second is the first again where there is one.
    translated = "".join(
        f'        iifname != "{UPLINK}" ip daddr {address} {protocol} dport 53 dnat ip to {resolver}\n'
        for address, resolver in zip(box.RESOLVERS, (resolvers * 2)[:2], strict=True)
        for protocol in ("udp", "tcp")
    )
    return f"""
table inet cleave {{
    set denied {{ type ipv4_addr; flags interval; elements = {{ {_listed(policy.denied)} }} }}
    set sandboxes {{ type ipv4_addr; size 65535; flags dynamic; }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
{translated}    }}
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname != "{UPLINK}" meta nfproto ipv4 {_REFUSE}
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        meta nfproto ipv6 drop
        iifname "{UPLINK}" ct state established,related accept
        iifname "{UPLINK}" drop
        oifname != "{UPLINK}" {_REFUSE}
        ct state invalid drop
        ct state established accept
        ct state related ip protocol icmp accept
        ct state new ct count over {policy.all_connections} {_REFUSE}
        ct state new add @sandboxes {{ ip saddr ct count over {policy.connections} }} {_REFUSE}
        ct status dnat accept
        ip daddr @denied {_REFUSE}
        accept
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname "{UPLINK}" masquerade
    }}
}}
"""


def host_rules(
    table: str, interface: str, address: IPv4Address, policy: Policy, resolvers: tuple[IPv4Address, ...]
) -> str:
    """The table of the host's namespace, in place of what a dead predecessor left of it. `interface` is the host's end
    of the uplink, `address` the router's."""
    names = _listed(resolvers)
    return f"""
{remove_rules(table)}
table inet {table} {{
    set denied {{ type ipv4_addr; flags interval; elements = {{ {_listed(policy.denied)} }} }}
    chain input {{
        type filter hook input priority filter - 1; policy accept;
        iifname "{interface}" ip daddr {{ {names} }} meta l4proto {{ tcp, udp }} th dport 53 accept
        iifname "{interface}" {_REFUSE}
    }}
    chain forward {{
        type filter hook forward priority filter - 1; policy accept;
        iifname "{interface}" meta nfproto ipv6 drop
        iifname "{interface}" ip saddr != {address} drop
        iifname "{interface}" ip daddr {{ {names} }} meta l4proto {{ tcp, udp }} th dport 53 accept
        iifname "{interface}" ip daddr @denied {_REFUSE}
        oifname "{interface}" ct state established,related accept
        oifname "{interface}" drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {address} oifname != "{interface}" masquerade
    }}
}}
"""


def remove_rules(table: str) -> str:
    """Remove a table, whether it is there or not."""
    return f"table inet {table} {{}}\ndelete table inet {table}"


def _listed(items: tuple[IPv4Network, ...] | tuple[IPv4Address, ...]) -> str:
    return ", ".join(str(item) for item in items)
