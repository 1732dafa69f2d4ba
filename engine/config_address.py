"""Addresses to listen on and to connect to, taken apart once. Opens no socket and resolves no name."""

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
