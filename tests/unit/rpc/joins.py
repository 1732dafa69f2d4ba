"""A server of the engine's own front whose plain calls go through a real door and lane to guests that are the other
ends of real pipes; what the loop hands over is Python's, as a Standing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from engine.guest import wire
from engine.rpc.front import Server
from engine.sandbox import box
from engine.v1 import invocations_pb2 as pb
from tests.native.loops import Bed, Guest
from tests.remains import until
from tests.unit.rpc.native import LIMIT, PATH, Methods

EVENT = b'{"b":2}'
PLAIN = pb.InvokeRequest(name="functions/f", payload=EVENT).SerializeToString()


class Standing(box.Call):
    """For a native call that is Python's now."""

    def __init__(self, about: Any) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.left = 0
        self.over = False

    def handed(self) -> None:
        """It has its sandbox."""

    def run(self) -> bool:
        """It was lent one, which it takes."""
        return True

    def failed(self, error: BaseException) -> None:
        self.future.set_exception(error)

    def leave(self) -> None:
        if not self.future.done():
            self.left += 1
            self.future.cancel()


class Join:
    """All of it."""

    def __init__(self) -> None:
        self.bed = Bed()
        self.handed: list[Standing] = []
        self.records: list[Any] = []
        owner = box.NativeOwner(self._standing, self.handed.append, self.records.extend)
        self.door = box.Door(owner, 6_000_000)
        self.all: list[Standing] = []
        self.none = 0
        self.channel: Any = None
        self.server = Server(LIMIT)
        self.methods = Methods()
        self.server.add_generic_rpc_handlers([self.methods])
        handler: Any = grpc.unary_unary_rpc_method_handler(self._go_on)
        self.native = self.server.join(self.door.capsule(), handler, self._begun, self._none)
        self.begun = 0
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.target = self.bed.target()

    def _standing(self, about: Any) -> Standing:
        self.all.append(Standing(about))
        return self.all[-1]

    async def _go_on(self, standing: Standing, context: Any) -> bytes:
        return await standing.future

    def _begun(self, context: Any) -> None:
        self.begun += 1

    def _none(self) -> None:
        self.none += 1

    def open(self, **said: Any) -> Guest:
        """A function with one warm sandbox."""
        guest = self.bed.warm(self.target)
        self.door.open("f", self.bed.lane, box.Line(self.target, 60_000, 10_000, "arn", None, **said))
        return guest

    async def all_taken(self, count: int, submit: Callable[[int], None]) -> list[Guest]:
        """So many calls, each in a sandbox of its own; `submit(number)` makes one."""
        guests = []
        for number in range(count):
            guests.append(self.open())
            submit(number)
            await self.taken(number + 1)
        return guests

    def call(self, payload: bytes = EVENT, *, timeout: float | None = 60, **fields: Any) -> Any:
        """An Invoke under way."""
        request = pb.InvokeRequest(name="functions/f", payload=payload, **fields)
        return self.channel.unary_unary(PATH)(request.SerializeToString(), timeout=timeout)

    async def taken(self, count: int = 1) -> None:
        """So many calls are, or were, the loop's."""
        await until(lambda: self.native.counts[0] == count, what="the loop has it")

    async def idle(self) -> None:
        """No call is left."""
        await until(lambda: not self.server.calls and not self.native.under_way, what="no call is left")


def answer(guest: Guest, payload: bytes = b'{"a":1}') -> None:
    """Its result."""
    guest.says(wire.frame(wire.RESULT, payload))


@asynccontextmanager
async def joined() -> AsyncIterator[Join]:
    """One, of which nothing is left afterwards."""
    made = Join()
    loop = asyncio.get_running_loop()
    await made.server.start()
    loop.add_reader(made.bed.lane.fileno(), made.bed.lane.turn)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{made.port}") as made.channel:
            yield made
    finally:
        await made.server.stop(0)
        loop.remove_reader(made.bed.lane.fileno())
        made.bed.close()
    assert not made.server.calls
    assert not made.native.under_way
