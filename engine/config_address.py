"""Addresses to listen on, to connect to and to give away, taken apart once. Opens no socket and resolves no name."""

from __future__ import annotations

import ipaddress


def split_address(text: str) -> tuple[str, int]:
    """Take apart "host:port", with an IPv6 host in brackets. Raises ValueError with what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} needs its IPv6 host in brackets")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"{port!r} is not a port, 0 to 65535")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The reverse of split_address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback: 127.0.0.0/8, ::1 or localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_subnet(text: str) -> ipaddress.IPv4Network:
    """Private IPv4 addresses for sandboxes: "10.213.0.0/16". Raises ValueError with what is wrong."""
    subnet = ipaddress.IPv4Network(text)
    if not 8 <= subnet.prefixlen <= 22 or not (subnet.is_private or subnet.overlaps(_SHARED)):
        raise ValueError(f"{text!r} is not a subnet of private addresses, from /8 to /22")
    return subnet


_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # RFC 6598; is_private leaves it out


def parse_resolver(text: str) -> ipaddress.IPv4Address:
    """A name server that sandboxes can reach: no loopback. Raises ValueError with what is wrong."""
    address = ipaddress.IPv4Address(text)
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text} cannot be reached from a sandbox")
    return address
