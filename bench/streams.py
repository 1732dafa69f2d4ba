"""How fast long streams are, out of a function and through one, beside a bare grpc.aio server with the same chunks.

Theory of operation: a turn is one stream of the engine's and one of the echo server's, by the same kind of client, each
read to its end; which goes first alternates. The ratio is that of the medians. Their memory is not measured here:
tests/integration/test_long_streams.py holds it.

Guarantees that each stream had all of its bytes; one that had not ends the run.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

import grpc

from engine.cli.benching.bed import Bed
from engine.cli.benching.callers import OPTIONS
from engine.cli.benching.echo_server import STREAM_CHUNK
from engine.cli.problems import Problem
from engine.v1 import invocations_pb2 as pb
from engine.v1 import invocations_pb2_grpc

MB = 1 << 20
MEMORY_MB = 1_769


@dataclass(frozen=True)
class LongStream:
    """One row of the result. A function may stream 200 MB out; through one there is no limit."""

    name: str
    handler: str  # of engine.cli.benching.bed.HANDLER
    mb: int
    turns: int


LONG_STREAMS = (LongStream("out-1769", "flood", mb=192, turns=6), LongStream("pipe-1769", "talk", mb=1_024, turns=2))


async def measure(stream: LongStream, bed: Bed) -> dict[str, Any]:
    """The row of the result. Raises Problem."""
    name = bed.function(MEMORY_MB, stream.handler)
    run = _out if stream.handler == "flood" else _pipe
    took_s: dict[str, list[float]] = {bed.engine_address: [], bed.echo_address: []}
    for turn in range(stream.turns + 1):
        for address in sorted(took_s, reverse=bool(turn % 2)):
            async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
                stub = invocations_pb2_grpc.InvocationServiceStub(channel)
                mb = stream.mb if turn else 1  # the first one warms up
                begun = time.perf_counter()
                received = await run(stub, name, mb * MB // len(STREAM_CHUNK))
                if turn:
                    took_s[address].append(time.perf_counter() - begun)
            if received != mb * MB:
                raise Problem("cannot measure", f"a stream of {mb * MB} bytes came with {received}", "cleave doctor")
    engine, bare = (stream.mb / statistics.median(took_s[at]) for at in (bed.engine_address, bed.echo_address))
    return {
        "name": stream.name,
        "stream_mb": stream.mb,
        "chunk_bytes": len(STREAM_CHUNK),
        "turns": stream.turns,
        "mb_per_s": {"engine": round(engine, 1), "bare": round(bare, 1)},
        "ratio": round(engine / bare, 3),
    }


async def _out(stub: Any, name: str, chunks: int) -> int:
    call = stub.InvokeStream(pb.InvokeStreamRequest(name=name, payload=b"%d" % chunks))
    return sum([len(frame.chunk) async for frame in call])


async def _pipe(stub: Any, name: str, chunks: int) -> int:
    call = stub.Converse()

    async def send() -> None:
        await call.write(pb.ConverseRequest(start=pb.ConverseStart(name=name)))
        for _ in range(chunks):
            await call.write(pb.ConverseRequest(chunk=STREAM_CHUNK))
        await call.done_writing()

    sending = asyncio.ensure_future(send())
    received = sum([len(frame.chunk) async for frame in call])
    await sending
    return received
