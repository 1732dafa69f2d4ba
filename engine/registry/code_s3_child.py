"""Run as a program: reads one object of a store that speaks S3, and writes it to standard output.

    standard input    one line, Wanted as JSON; then nothing, and its end is the end of this process
    standard output   one line, Found or Failed as JSON; after Found the object's bytes

Signing, reading and retrying are botocore's. Guarantees that no connection is made to a link-local address or to one
where clouds answer with credentials, whatever a name resolves to and wherever a store redirects; and that the process
ends with whoever started it.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import threading
from typing import Any

import msgspec

CONNECT_S, READ_S = 10, 60
PIECE_BYTES = 262_144
FORBIDDEN, NOT_INSTALLED = "engine:forbidden", "engine:not installed"
NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; AWS's, Google's and Azure's metadata among it
        "fe80::/10",
        "fd00:ec2::/32",  # AWS's metadata over IPv6
        "fd20:ce::254/128",  # Google's
        "100.100.100.200/32",  # Alibaba's
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.192/32",  # Oracle's
        "64:ff9b::a9fe:0/112",  # link-local, behind NAT64
    )
)


class Wanted(msgspec.Struct, frozen=True):
    """What to read."""

    endpoint: str
    region: str
    bucket: str
    key: str
    version: str = ""


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The object is there and its bytes follow."""

    size_bytes: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It cannot be read. `code` and `message` are the store's own; of what the store did not say, FORBIDDEN,
    NOT_INSTALLED or "" with a message of this process."""

    code: str
    message: str


class ForbiddenAddress(PermissionError):
    """A connection that must not be."""


def is_forbidden(address: str) -> bool:
    """Whether no store may be at an IP address. Text that is none, such as a socket's path, is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    return any(found in network for network in NEVER)


def main() -> None:
    """Serve the one request."""
    wanted = msgspec.json.decode(sys.stdin.buffer.readline(), type=Wanted)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    sys.addaudithook(_watch)
    output = sys.stdout.buffer
    try:
        body, size = _open(wanted)
    except Exception as error:
        output.write(msgspec.json.encode(_failed(error)) + b"\n")
        return
    output.write(msgspec.json.encode(Found(size)) + b"\n")
    while piece := body.read(PIECE_BYTES):
        output.write(piece)
    output.flush()


def _open(wanted: Wanted) -> tuple[Any, int]:
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    session = botocore.session.Session()
    amazon = wanted.endpoint.rstrip("/").endswith((".amazonaws.com", ".amazonaws.com.cn"))
    client: Any = session.create_client(
        "s3",
        endpoint_url=wanted.endpoint,
        region_name=wanted.region,
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": 3, "mode": "standard"},
            s3={"addressing_style": "virtual" if amazon else "path"},
            signature_version=None if session.get_credentials() else UNSIGNED,
            # Stores that speak S3 need not know the checksums of AWS's.
            response_checksum_validation="when_required",
        ),
    )
    version = {"VersionId": wanted.version} if wanted.version else {}
    answer = client.get_object(Bucket=wanted.bucket, Key=wanted.key, **version)
    return answer["Body"], answer["ContentLength"]


def _failed(error: Exception) -> Failed:
    if isinstance(error, ImportError):
        return Failed(NOT_INSTALLED, str(error))
    from botocore.exceptions import ClientError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ForbiddenAddress):
            return Failed(FORBIDDEN, str(seen))
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        return Failed(str(told.get("Code", "")), str(told.get("Message", "")))
    return Failed("", f"{type(error).__name__}: {error}")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audits each connection once its address is known and before it is made."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else str(address)
        if is_forbidden(str(host)):
            raise ForbiddenAddress(f"{host} is link-local or a cloud's own address, where no store may be")


def _end_with_the_caller() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
