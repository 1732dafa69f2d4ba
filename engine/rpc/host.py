"""HostService: what the host can enforce, for `cleave doctor`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from engine.model.host import HostReport
from engine.rpc.calls import Method
from engine.rpc.convert import host_to_proto
from engine.v1 import host_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["HostService"]


class HostService:
    """Reads the host and the engine."""

    def __init__(self, host: Callable[[], Awaitable[HostReport]]) -> None:
        self._host = host

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"GetHost": self.get}

    async def get(self, request: pb.GetHostRequest) -> pb.GetHostResponse:
        """Say which mechanism enforces each limit, and what is missing."""
        return host_to_proto(await self._host())
