"""Which gRPC server the services run on: the engine's own over libnghttp2, or grpcio's.

The engine's own is built where libnghttp2 is; grpcio's is always there. Both serve the same handlers to the same
clients, and tests/unit/rpc/conftest.py holds them to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from engine.errors import Unavailable
from engine.model.host import Check

if TYPE_CHECKING:
    import grpc

    from engine.rpc.front import Server

Front: TypeAlias = Literal["auto", "native", "grpcio"]
AnyServer: TypeAlias = "grpc.aio.Server | Server"

_FIX = "install libnghttp2-dev and build the engine again"
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.so_reuseport", 0),
    # A client may ask every 10 s whether the engine is still there while it waits for a long invocation.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


def make_server(front: Front, message_limit: int) -> AnyServer:
    """On the running event loop. `message_limit` is of a client's message, in bytes. Raises Unavailable where it is to
    be the engine's own, and that was not built."""
    if front != "grpcio" and is_built():
        from engine.rpc.front import Server

        return Server(message_limit)
    if front == "native":
        raise Unavailable("the engine was built without its own gRPC front", fix=f"{_FIX}, or set grpc_front to auto")
    import grpc

    return grpc.aio.server(options=[*_OPTIONS, ("grpc.max_receive_message_length", message_limit)])


def is_built() -> bool:
    """Whether there is the engine's own."""
    try:
        import engine.rpc.front  # noqa: F401
    except ImportError:
        return False
    return True


def front_check(front: Front) -> Check:
    """For `doctor`."""
    if front == "grpcio":
        return Check("grpc", True, "grpcio", "grpc_front = grpcio: calls take some 0.2 ms longer")
    if is_built():
        return Check("grpc", True, "native, over libnghttp2")
    detail = "the engine's own front was not built: calls take some 0.2 ms longer"
    return Check("grpc", front == "auto", "grpcio", detail, _FIX)
