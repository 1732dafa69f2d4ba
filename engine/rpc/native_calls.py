"""Joins the engine's own gRPC front to the dispatch loop: plain calls of Invoke go there and back in native code.

What a plain call is and how it goes: native/front/join.h. Leaves to others what Python does of a call that the loop
hands over (engine.invoke.express). Guarantees: a drain refuses such calls, and waits for them, as for all others.
"""

from __future__ import annotations

from typing import Protocol

import grpc

from engine.rpc.calls import Calls, Natives
from engine.rpc.fronts import AnyServer
from engine.rpc.invocations import SERVICE, InvocationService


class Door(Protocol):
    """engine.sandbox.box.Door."""

    def capsule(self) -> object:
        """The door itself, for native code."""


def join(server: AnyServer, door: Door | None, calls: Calls, service: InvocationService) -> Natives | None:
    """Before the server's start. None where it is grpcio's, or there is no door."""
    if door is None or isinstance(server, grpc.aio.Server):
        return None
    handler = calls.begun_handler(SERVICE, "Invoke", service.go_on)
    joined = server.join(door.capsule(), handler, calls.begun, calls.none_left)
    calls.watch(joined)
    return joined
