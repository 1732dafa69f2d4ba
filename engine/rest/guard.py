"""Who may talk to a front that asks for no credentials: programs on this machine, and not a web page that makes a
browser on this machine talk.

Guarantees that the front listens on loopback only; that a request whose Host is not loopback is refused, which is what
a rebound DNS name looks like; and that a request with a foreign Origin is refused, which browsers put on what another
site's page sends. Sources: https://fetch.spec.whatwg.org/#origin-header, RFC 9110 section 7.2 (Host).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from engine.config_address import is_loopback
from engine.errors import EngineError, InvalidArgument, PermissionDenied
from engine.rest.messages import Request


class RefusedAddress(InvalidArgument):
    """An address that the front does not listen on."""


def check_listen_host(host: str) -> None:
    """Raise RefusedAddress unless `host` is loopback."""
    if not is_loopback(host):
        raise RefusedAddress(
            f"the HTTP front does not listen on {host or 'every address'}: it has no authentication yet, which comes "
            "with a later release",
            fix="use a loopback address such as 127.0.0.1:9000, and a tunnel (ssh -L) from elsewhere",
            fields={"http_address": "must be a loopback address"},
        )


def check_request(request: Request) -> None:
    """Raise PermissionDenied unless the request came to this machine's own name, from no foreign page."""
    check_host(request)
    for origin in request.header_values("origin"):
        if not _is_loopback_origin(origin):
            raise _refusal(f"The Origin {origin!r}", "call it from a program, or from a page of this machine")


def check_host(request: Request) -> None:
    """Raise PermissionDenied unless the request came to this machine's own name."""
    hosts = request.header_values("host")
    if len(hosts) != 1 or not _is_loopback_authority(hosts[0]):
        raise _refusal(f"The Host {hosts[0]!r}" if hosts else "A request without a Host", "call it by 127.0.0.1")


def _refusal(what: str, fix: str) -> EngineError:
    return PermissionDenied(f"{what[:200]} is refused: this endpoint is for programs on its own machine", fix=fix)


def _is_loopback_authority(authority: str) -> bool:
    """Whether host[:port] is loopback."""
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return False
        port = port[1:]
    else:
        host, _, port = authority.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    return is_loopback(host.lower())


def _is_loopback_origin(origin: str) -> bool:
    """Whether an Origin is a page of this machine. `null` is not: any page can send it from a frame."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and _is_loopback_authority(parts.netloc)
