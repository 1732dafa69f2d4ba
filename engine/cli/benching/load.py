"""Calls as many clients make them: a closed loop of callers that wait for their answers, or an open loop of a rate.

Theory of operation: one grpc.aio client on the event loop of the caller. In a closed loop each of `concurrency` callers
calls again when it has its answer, so a slow engine is asked less. In an open loop calls are sent when they are due,
whatever became of those before; arrivals are random (a Poisson process with a fixed seed, so that each run and each
server gets the same). A thread keeps the time, since an event loop's timers are a millisecond coarse. The time of a
call counts from when it was *due*: a call that was sent late, because the client or the engine was held up, has waited,
and what waited behind a slow call is counted as slow too (no coordinated omission). A trace says itself
when each call is due and of which function it is (traces.py).

Guarantees that each call that was due is in the tally: answered, failed, or not sent, because more than IN_FLIGHT were
under way or because no function was ready for a cold start.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from engine.cli.benching.callers import CALL_TIMEOUT_S, OPTIONS
from engine.cli.benching.targets import Target, Warm
from engine.cli.benching.traces import TRACES, Trace
from engine.cli.render import start_kind
from engine.v1 import invocations_pb2_grpc
from engine.v1.invocations_pb2 import InvokeRequest, InvokeResponse
from engine.v1.reports_pb2 import Report

IN_FLIGHT = 5_000
"""More calls than that at a time are not sent: the engine does not keep up, and what it would answer says nothing."""
CONNECTIONS = 4
SEED = 1
Sender = Callable[[float, set[asyncio.Task[None]]], None]
"""Sends a call that was due then, and puts it with those under way until it is answered."""


@dataclass(frozen=True)
class Load:
    """How calls come: `rate` a second in an open loop, or where it is 0 `concurrency` callers in a closed one."""

    duration_s: float
    rate: float = 0.0
    concurrency: int = 1
    trace: str = ""  # of TRACES, for an open loop; else a Poisson process

    def due_s(self, seed: int) -> Iterator[float]:
        """When the calls of an open loop are due, in seconds from its beginning."""
        if self.trace:
            trace = TRACES[self.trace](self.rate, self.duration_s, functions=1, seed=seed)
            yield from (time_ns / 1e9 for time_ns in trace.time_ns)
            return
        chance, at = random.Random(seed), 0.0
        while (at := at + chance.expovariate(self.rate)) < self.duration_s:
            yield at


@dataclass
class Tally:
    """What became of the calls. Times are of those that were answered with a result, microseconds."""

    took_us: list[float] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    sent_late_us: list[float] = field(default_factory=list)  # after they were due; 0 in a closed loop
    failures: Counter[str] = field(default_factory=Counter)  # by what it was
    function_errors: int = 0  # of the failures
    unsent: int = 0
    lasted_s: float = 0.0

    @property
    def due(self) -> int:
        """How many calls there had to be."""
        return len(self.took_us) + self.failures.total() + self.unsent

    @property
    def kinds(self) -> dict[str, int]:
        """How the sandboxes came to be that answered."""
        return dict(Counter(start_kind(report) for report in self.reports))


class LoadClient:
    """Connections to one server."""

    def __init__(self, channels: list[grpc.aio.Channel]) -> None:
        self._stubs = [invocations_pb2_grpc.InvocationServiceStub(channel) for channel in channels]
        self._calls = 0

    async def run(self, load: Load, target: Target, event: bytes, *, seed: int = SEED) -> Tally:
        """Everything that is due within the load's duration, until it is answered."""
        tally = Tally()
        with _timed(tally):
            if load.rate:
                await self._open(load.due_s(seed), self._sender(lambda: (target, event), tally))
            else:
                until = time.monotonic() + load.duration_s
                callers = (self._caller(until, target, event, tally) for _ in range(load.concurrency))
                await asyncio.gather(*callers)
        await target.settle()
        return tally

    async def replay(self, trace: Trace, names: Sequence[str], event_of: Callable[[int], bytes]) -> Tally:
        """Each call when the trace has it, of the function whose number is the name's, until all are answered.
        `event_of` makes the event of a call that runs for so many nanoseconds."""
        tally, calls = Tally(), iter(trace)

        def next_call() -> tuple[Target, bytes]:
            _, number, duration_ns = next(calls)
            return Warm(names[number % len(names)]), event_of(duration_ns)

        with _timed(tally):
            await self._open((time_ns / 1e9 for time_ns in trace.time_ns), self._sender(next_call, tally))
        return tally

    async def _caller(self, until: float, target: Target, event: bytes, tally: Tally) -> None:
        while time.monotonic() < until:
            name = await target.take()
            await self._call(name, time.perf_counter(), target, event, tally)

    def _sender(self, next_call: Callable[[], tuple[Target, bytes]], tally: Tally) -> Sender:
        """What sends the next call, which was due then."""
        loop = asyncio.get_running_loop()

        def send(due: float, under_way: set[asyncio.Task[None]]) -> None:
            target, event = next_call()
            name = target.take_now() if len(under_way) < IN_FLIGHT else None
            if name is None:
                tally.unsent += 1
                return
            task = loop.create_task(self._call(name, due, target, event, tally))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

        return send

    async def _open(self, due_s: Iterator[float], send: Sender) -> None:
        loop = asyncio.get_running_loop()
        under_way: set[asyncio.Task[None]] = set()
        all_sent = asyncio.Event()
        stopped = threading.Event()
        begin = time.perf_counter()

        def keep_time() -> None:
            for at in due_s:
                wait = begin + at - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                if stopped.is_set():
                    return
                loop.call_soon_threadsafe(send, begin + at, under_way)
            loop.call_soon_threadsafe(all_sent.set)

        thread = threading.Thread(target=keep_time, name="bench-clock", daemon=True)
        thread.start()
        try:
            await all_sent.wait()
            if under_way:
                await asyncio.wait(under_way)
        finally:
            stopped.set()
            for task in under_way:
                task.cancel()

    async def _call(self, name: str, due: float, target: Target, event: bytes, tally: Tally) -> None:
        self._calls += 1
        stub: Any = self._stubs[self._calls % len(self._stubs)]
        sent = time.perf_counter()
        try:
            response: InvokeResponse = await stub.Invoke(
                InvokeRequest(name=name, payload=event), timeout=CALL_TIMEOUT_S
            )
            took_us = (time.perf_counter() - due) * 1e6
        except grpc.RpcError as error:
            assert isinstance(error, grpc.aio.AioRpcError)
            tally.failures[f"{error.code().name}: {error.details()}"[:200]] += 1
            return
        finally:
            target.done(name)
        if response.WhichOneof("result") == "function_error":
            tally.function_errors += 1
            tally.failures[response.function_error.document.decode(errors="replace")[:200]] += 1
            return
        tally.took_us.append(took_us)
        tally.sent_late_us.append((sent - due) * 1e6)
        tally.reports.append(response.report)


@contextlib.contextmanager
def _timed(tally: Tally) -> Iterator[None]:
    """Time it, without the garbage collector."""
    collecting = gc.isenabled()
    gc.disable()
    begun = time.monotonic()
    try:
        yield
        tally.lasted_s = time.monotonic() - begun
    finally:
        if collecting:
            gc.enable()


@contextlib.asynccontextmanager
async def load_client(address: str) -> AsyncIterator[LoadClient]:
    """Connections that are closed with the context."""
    async with contextlib.AsyncExitStack() as stack:
        # A pool of connections of its own for each channel, or they would all share one.
        made = (grpc.aio.insecure_channel(address, options=OPTIONS) for _ in range(CONNECTIONS))
        yield LoadClient([await stack.enter_async_context(channel) for channel in made])
