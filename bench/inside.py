"""What the engine itself takes of a call, without gRPC: its share of a warm one, how many a second, and what overload
and a flood of other calls do to those that are served.

Theory of operation: each measurement is a process of its own (`python -m bench.inside NAME AMOUNT`, a row in JSON on
standard output) that is an engine as `cleave serve` makes one, but without its ports: calls are made of its invoker, so
through every check, the scheduler, the log and the report. Settings are the defaults but for those named.

    share     warm calls back to back, in turns with a bare round trip: the same event's frame written to the pipe of a
              sandbox of the same function, and its answer read from the other pipe, by blocking calls and nobody else.
              So the difference has all that the engine does, its event loop's waits included, and neither the guest nor
              the two switches of process that a round trip cannot do without
    rate      as many callers as sandboxes, each calling again when it has its answer. They are native, as those of a
              front in native code: what is counted is the scheduler, the sandboxes, the log, the counts and the check
              of the event's JSON
    callers   the same by callers in Python, each a task that makes a whole call of the invoker
    overload  arrivals at ten times what a small concurrency can serve, in an open loop: each is timed from when it was
              due, whatever became of those before, and those that are throttled do not come back
    fairness  a function that is called a few times a second, alone and beside callers of another that never pause

Needs root, as real limits do.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bench.apart import measured_apart
from engine.cli.benching.bed import trivial_code
from engine.cli.benching.comparison import above, percentile, summary
from engine.cli.benching.load import SEED
from engine.cli.benching.scenarios import EVENT
from engine.cli.benching.show import ms
from engine.cli.priority import come_first
from engine.config import Settings
from engine.embedded import Engine
from engine.errors import Throttled
from engine.guest import wire
from engine.model.invocation import InvokeRequest
from engine.model.names import FunctionRef
from engine.sandbox.api import Event
from engine.sandbox.box import Callers
from engine.sandbox.messages import event_frame
from engine.service import Service

MEMORY_MB = 1_769
BLOCK = 25
WARM_UP = 200
CALLERS = 64
_SETTLED = 10
"""Calls of each sandbox before: its memory has come to rest then."""
LIMIT = 4
"""Calls at a time of the engine that is overloaded."""
NAP_S = 0.01
"""How long each of its calls takes: as long as it says, whatever the machine is at."""
TIMES_OVER = 10
QUIET_PER_S = 25.0
"""Of those that come while nothing else does: too few to meet each other often."""
FLOODERS = 32
SLICE_S = 1.0
WITHIN_S = 300
_NAPS = f"import time\n\n\ndef handler(event, context):\n    time.sleep({NAP_S})\n    return event\n"


class Inside:
    """An engine and a function."""

    def __init__(self, engine: Engine) -> None:
        self._invoke = engine._parts.invoker.invoke
        self._engine = engine

    async def call(self, name: str = "echo") -> None:
        """One call. Raises Throttled; RuntimeError where it did not return its event."""
        completion = await self._invoke(InvokeRequest(FunctionRef(name), EVENT))
        if completion.payload != EVENT:
            raise RuntimeError(f"a call ended in {completion}")

    def native(self, callers: int, on_over: Callable[[], None]) -> Callers:
        """So many native callers. Raises RuntimeError where there is no warm sandbox."""
        found = self._engine._parts.pipeline._express.native("echo")
        if found is None:
            raise RuntimeError("there is no warm sandbox")
        return Callers(*found, EVENT, callers, on_over)

    async def together(self, callers: int, name: str = "echo") -> None:
        """So many at once, until as many sandboxes are warm."""
        await asyncio.gather(*(self.call(name) for _ in range(callers)))

    @contextlib.asynccontextmanager
    async def bare(self) -> AsyncIterator[Callable[[], None]]:
        """A bare round trip, by a sandbox that the engine does not look at while this lasts."""
        pipeline, service = self._engine._parts.pipeline, self._engine._service
        assert service is not None
        assert service._pool is not None
        spec = pipeline._specs.get(self._engine._parts.registry.get(FunctionRef("echo"))).spec
        sandbox = await service._pool.start(spec)
        event = Event("00000000-0000-0000-0000-000000000000", EVENT, 60_000, "arn:aws:lambda:::function:echo")
        await sandbox.run(event, _Silent())
        ends = sandbox._parts.control
        sandbox._link._watch(False)
        for fd in (ends.answers, ends.events):
            os.set_blocking(fd, True)
        head, payload = event_frame(event)
        sent, expected = head + payload, wire.frame(wire.RESULT, EVENT)

        def trip() -> None:
            os.write(ends.events, sent)
            answer = os.read(ends.answers, 65_536)
            while len(answer) < len(expected):
                answer += os.read(ends.answers, 65_536)
            if answer != expected:
                raise RuntimeError(f"a bare round trip brought {answer!r}")

        try:
            yield trip
        finally:
            await sandbox.close()


class _Silent:
    """A sink for what nobody reads."""

    def started(self, kind: object) -> None:
        """See RunSink."""

    def initialized(self, failure: object) -> None:
        """See RunSink."""

    def output(self, data: bytes) -> None:
        """See RunSink."""

    def chunk(self, data: bytes) -> None:
        """See RunSink."""


class _Own(Engine):
    """One that has the process to itself."""

    def __init__(self, data_dir: str, **settings: Any) -> None:
        super().__init__(data_dir)
        self._settings = msgspec.convert({"data_dir": data_dir, **settings}, Settings)

    async def start(self) -> None:
        """See Engine.start."""
        come_first()
        self._service = Service(self._settings, own_process=True, doors=False)
        await self._service.start()


@contextlib.asynccontextmanager
async def _engine(**settings: Any) -> AsyncIterator[Inside]:
    with tempfile.TemporaryDirectory(prefix="cleave-bench-") as folder:
        async with _Own(folder, **{"requests_per_concurrency": 0, "burst_sandboxes": 0} | settings) as engine:
            yield await _inside(engine)


async def _inside(engine: Engine) -> Inside:
    await engine.create_function("echo", trivial_code(), handler="app.handler", memory_mb=MEMORY_MB)
    inside = Inside(engine)
    await inside.call()
    gc.collect()
    gc.freeze()  # as an engine does once it serves
    gc.set_threshold(50_000)
    return inside


async def share(rounds: int) -> dict[str, Any]:
    """What a call takes above a bare round trip; microseconds."""
    async with _engine() as inside, inside.bare() as trip:
        for _ in range(WARM_UP):
            await inside.call()
            trip()
        calls: list[list[float]] = []
        trips: list[list[float]] = []
        for _ in range(rounds):
            trips.append([_timed_us(trip) for _ in range(BLOCK)])
            block = []
            for _ in range(BLOCK):
                begun = time.perf_counter_ns()
                await inside.call()
                block.append((time.perf_counter_ns() - begun) / 1000)
            calls.append(block)
    return {
        "name": "inside-share",
        "memory_mb": MEMORY_MB,
        "calls": rounds * BLOCK,
        "inside_us": summary([took for block in calls for took in block]),
        "bare_us": summary([took for block in trips for took in block]),
        "above_bare_us": above(calls, trips),
    }


def _timed_us(trip: Callable[[], None]) -> float:
    begun = time.perf_counter_ns()
    trip()
    return (time.perf_counter_ns() - begun) / 1000


async def rate(seconds: int) -> dict[str, Any]:
    """How many calls a second native CALLERS have answered by as many sandboxes; the first second is not counted.
    Raises RuntimeError where one had another answer, or none."""
    over = asyncio.Event()
    async with _engine() as inside:
        for _ in range(_SETTLED):
            await inside.together(CALLERS)
        callers = inside.native(CALLERS, over.set)
        cpu_s, begin = time.process_time(), time.monotonic_ns() + 10**9
        callers.start(begin, begin + seconds * 10**9)
        await over.wait()
        cpu_s = time.process_time() - cpu_s
    if callers.wrong or callers.refused:
        raise RuntimeError(f"{callers.wrong} calls had another answer; {callers.refused}")
    return _rates("rate", callers.answered, seconds, cpu_s)


async def callers(seconds: int) -> dict[str, Any]:
    """The same of callers in Python."""
    counted = 0
    async with _engine() as inside:
        await inside.together(CALLERS)
        begin = time.monotonic() + 1
        end = begin + seconds

        async def caller() -> None:
            nonlocal counted
            while (now := time.monotonic()) < end:
                await inside.call()
                counted += now >= begin

        cpu_s = time.process_time()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        cpu_s = time.process_time() - cpu_s
    return _rates("callers", counted, seconds, cpu_s)


def _rates(name: str, counted: int, seconds: int, cpu_s: float) -> dict[str, Any]:
    return {
        "name": f"inside-{name}-{CALLERS}",
        "callers": CALLERS,
        "seconds": seconds,
        "calls_per_s": counted / seconds,
        "calls": counted,
        "engine_cpus": cpu_s / (seconds + 1),
    }


async def overload(seconds: int) -> dict[str, Any]:
    """The latency of what is admitted at ten times the load that can be, of what it is where little comes."""
    capacity = LIMIT / NAP_S
    async with _engine(max_concurrency=LIMIT) as inside:
        await inside._engine.create_function("naps", _zip(_NAPS), memory_mb=MEMORY_MB)
        await inside.together(LIMIT, "naps")
        quiet: list[float] = []
        over: list[float] = []
        throttled = 0
        for turn in range(seconds):
            quiet += (await _open_loop(inside, "naps", QUIET_PER_S, SLICE_S, SEED + turn))[0]
            served, refused = await _open_loop(inside, "naps", TIMES_OVER * capacity, SLICE_S, SEED + turn)
            over += served
            throttled += refused
    return {
        "name": "inside-overload",
        "limit": LIMIT,
        "arrivals_per_s": TIMES_OVER * capacity,
        "admitted": len(over),
        "throttled": throttled,
        "unloaded_us": summary(quiet),
        "admitted_us": summary(over),
        "overload_times": _times(over, quiet),
    }


async def fairness(seconds: int) -> dict[str, Any]:
    """The latency of a function that is called now and then, beside a flood of another, of what it is alone."""
    async with _engine() as inside:
        await inside._engine.create_function("rare", trivial_code(), handler="app.handler", memory_mb=MEMORY_MB)
        await inside.together(FLOODERS)
        await inside.together(2, "rare")
        alone: list[float] = []
        beside: list[float] = []
        flood = 0
        for turn in range(seconds):
            alone += (await _open_loop(inside, "rare", QUIET_PER_S, SLICE_S, SEED + turn))[0]
            over = asyncio.Event()

            async def flooder(over: asyncio.Event) -> int:
                calls = 0
                while not over.is_set():
                    await inside.call()
                    calls += 1
                return calls

            flooders = [asyncio.ensure_future(flooder(over)) for _ in range(FLOODERS)]
            beside += (await _open_loop(inside, "rare", QUIET_PER_S, SLICE_S, SEED + turn))[0]
            over.set()
            flood += sum(await asyncio.gather(*flooders))
    return {
        "name": "inside-fairness",
        "calls": len(beside),
        "flood_per_s": flood / (seconds * SLICE_S),
        "alone_us": summary(alone),
        "beside_us": summary(beside),
        "fairness_times": _times(beside, alone),
    }


async def _open_loop(inside: Inside, name: str, per_s: float, lasting_s: float, seed: int) -> tuple[list[float], int]:
    """Microseconds from when each call was due until it was answered, and how many were throttled."""
    took_us: list[float] = []
    throttled = 0

    async def one(due: float) -> None:
        nonlocal throttled
        try:
            await inside.call(name)
        except Throttled:
            throttled += 1
        else:
            took_us.append((time.perf_counter() - due) * 1e6)

    chance = random.Random(seed)
    under_way: set[asyncio.Task[None]] = set()
    begun, at = time.perf_counter(), 0.0
    while (at := at + chance.expovariate(per_s)) < lasting_s:
        due = begun + at
        # A sleep is a millisecond coarse: the rest of the wait is in turns of the loop, which others use.
        while (left := due - time.perf_counter()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left - 0.002 if left > 0.003 else 0)
        task = asyncio.ensure_future(one(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return took_us, throttled


def _times(subject: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """The ratios of their percentiles."""
    return {
        name: round(percentile(subject, percent) / percentile(reference, percent), 3)
        for name, percent in (("p50", 50), ("p99", 99))
    }


def _zip(source: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("app.py"), source)
    return archive.getvalue()


MEASUREMENTS: Mapping[str, Callable[[int], Awaitable[dict[str, Any]]]] = {
    "share": share,
    "rate": rate,
    "callers": callers,
    "overload": overload,
    "fairness": fairness,
}


def measure(name: str, amount: int) -> dict[str, Any]:
    """The row of one of MEASUREMENTS, in a process of its own. Raises RuntimeError with what it printed."""
    return measured_apart("bench.inside", name, amount, WITHIN_S)


HEAD = ("WITHOUT GRPC", "CALLS", "FIGURE", "AND")


def table(rows: Iterable[Mapping[str, Any]]) -> list[Sequence[str]]:
    """One line for each row of this module; milliseconds."""
    found: list[Sequence[str]] = []
    for row in rows:
        if "above_bare_us" in row:
            beyond, whole, bare = row["above_bare_us"], row["inside_us"], row["bare_us"]
            figure = f"{ms(beyond['p50'])} ±{ms(beyond['resolution'])}, p99 {ms(beyond['p99'])}"
            rest = f"above a bare round trip of {ms(bare['p50'])}, p99 {ms(bare['p99'])};"
            rest += f" the whole call {ms(whole['p50'])}, p99 {ms(whole['p99'])}"
            found.append((row["name"], str(row["calls"]), figure, rest))
        elif "engine_cpus" in row and row["name"].startswith("inside-"):
            rest = f"{row['callers']} callers, the engine on {row['engine_cpus']:.2f} CPUs"
            found.append((row["name"], str(row["calls"]), f"{row['calls_per_s']:.0f} /s", rest))
        elif "overload_times" in row:
            times = row["overload_times"]
            rest = (
                f"p50 {ms(row['unloaded_us']['p50'])} → {ms(row['admitted_us']['p50'])}; {row['throttled']} throttled"
            )
            found.append((row["name"], str(row["admitted"]), f"{times['p50']:.2f} times, p99 {times['p99']:.2f}", rest))
        elif "fairness_times" in row:
            times = row["fairness_times"]
            rest = (
                f"p99 {ms(row['alone_us']['p99'])} → {ms(row['beside_us']['p99'])} beside {row['flood_per_s']:.0f} /s"
            )
            found.append(
                (row["name"], str(row["calls"]), f"p99 {times['p99']:.2f} times, p50 {times['p50']:.2f}", rest)
            )
    return found


def main(argv: Sequence[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    row = asyncio.run(_measured(argv[1], int(argv[2])))
    sys.stdout.buffer.write(msgspec.json.encode(row))


async def _measured(name: str, amount: int) -> dict[str, Any]:
    return await MEASUREMENTS[name](amount)


if __name__ == "__main__":
    main(sys.argv)
