"""Counters by function: each invocation is counted once, by how it ended, and what they take is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from engine.errors import EngineError, NotFound, NotServed, PermissionDenied, SandboxFault, Throttled, Unavailable
from engine.model.function import Function
from engine.model.invocation import Completion, InvokeRequest, LogLine, Moments, Pending, Report, Sink
from engine.model.metrics import OTHERS, ErrorCount, InvocationCount
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.observe.invocations import SERIES, SLOW_EVERY, Counted, Invocations
from engine.observe.recent import RecentInvocations
from tests.unit.invoke.things import Functions, function


class Counting:
    """Invocations of functions in a dictionary, and who else was told."""

    def __init__(self, *names: str, limit: int = 10) -> None:
        self.registry = Functions()
        for name in names:
            self.registry.put(function(name))
        self.told: list[Report] = []
        self.recent = RecentInvocations(1 << 20)
        self.invocations = Invocations(self.registry, self._also, self.recent, limit=limit)

    def _also(self, function: Function, report: Report, moments: Moments) -> None:
        self.told.append(report)

    def ended(self, name: str, **changes: Any) -> None:
        """An invocation ran to its end."""
        report = replace(Report("r", Outcome.OK, StartKind.WARM, 128), **changes)
        self.invocations(function(name), report, Moments(0, 0, 0, 0))

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.invocations.functions()]


def test_an_invocation_is_counted_by_function_version_outcome_and_kind_of_start() -> None:
    counting = Counting("a", "b")
    counting.ended("a", start_kind=StartKind.PARKED, handler_us=150, total_us=900, cpu_us=70, billed_ms=1)
    counting.ended("a", outcome=Outcome.TIMEOUT, handler_us=3_000, total_us=3_100, cpu_us=30, billed_ms=3)
    counting.ended("a", executed_version="7", network_in_bytes=10, network_out_bytes=20)
    counting.ended("a", executed_version="7")
    counting.ended("b")
    a, b = counting.invocations.functions()
    assert (a.name, b.name) == ("a", "b")
    assert a.invocations == (
        InvocationCount("$LATEST", Outcome.OK, StartKind.PARKED, 1),
        InvocationCount("$LATEST", Outcome.TIMEOUT, StartKind.WARM, 1),
        InvocationCount("7", Outcome.OK, StartKind.WARM, 2),
    )
    assert (a.cpu_us, a.billed_ms, a.network_in_bytes, a.network_out_bytes) == (100, 4, 10, 20)
    assert (a.handler.count, a.handler.sum_us, a.total.sum_us) == (4, 3_150, 4_000)
    assert b.invocations == (InvocationCount("$LATEST", Outcome.OK, StartKind.WARM, 1),)
    assert len(counting.told) == 5


def test_what_a_deleted_function_had_is_dropped_and_what_ends_later_is_counted_with_others() -> None:
    counting = Counting("a", "b")
    counting.ended("a")
    counting.registry.remove("a")
    assert counting.names == []
    counting.ended("a")
    counting.ended("b")
    assert counting.names == ["b", OTHERS]
    counting.registry.put(function("a"))
    counting.ended("a")
    assert [one.invocations[0].count for one in counting.invocations.functions() if one.name == "a"] == [1]


def test_functions_beyond_the_limit_are_counted_together() -> None:
    counting = Counting(*(f"f{number}" for number in range(9)), limit=3)
    for number in range(9):
        counting.ended(f"f{number}")
    assert counting.names == ["f0", "f1", "f2", OTHERS]
    assert [one.invocations[0].count for one in counting.invocations.functions()] == [1, 1, 1, 6]


def test_versions_beyond_the_limit_are_counted_together() -> None:
    counting = Counting("a")
    for number in range(3 * SERIES):
        counting.ended("a", executed_version=str(number))
    (a,) = counting.invocations.functions()
    assert len(a.invocations) == SERIES + 1
    assert a.invocations[-1] == InvocationCount(OTHERS, Outcome.OK, StartKind.WARM, 2 * SERIES)
    counting.ended("a", executed_version="0")
    (a,) = counting.invocations.functions()
    assert a.invocations[0].count == 2


def test_what_is_slow_for_its_function_is_kept_as_notable_once_enough_is_known_of_it() -> None:
    counting = Counting("quick", "long")
    counting.ended("quick", total_us=9_000)
    for number in range(SLOW_EVERY):
        counting.ended("quick", total_us=300, request_id=f"quick-{number}")
        counting.ended("long", total_us=900_000, request_id=f"long-{number}")
    counting.ended("quick", total_us=20_000, request_id="slow")
    counting.ended("long", total_us=20_000, request_id="not slow")
    assert [one.report.request_id for one in counting.recent.newest_first() if one.notable] == ["slow"]


Answer = Callable[[InvokeRequest, Sink | None], Awaitable[Completion]]


class Inner:
    """An invoker that does what a test says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def express(self, function_name: str, payload: bytes, request_id: str = "") -> Pending | None:
        return None

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        return await self._answer(request, sink)


class Reader:
    """A sink that keeps chunks."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        self.chunks.append(kind.value.encode())

    def log(self, line: LogLine) -> None:
        self.chunks.append(line.text)

    def chunk(self, data: bytes) -> None:
        self.chunks.append(data)


def raising(error: BaseException) -> Answer:
    async def answer(request: InvokeRequest, sink: Sink | None) -> Completion:
        raise error

    return answer


def request(name: str = "a", payload: bytes = b"{}", **more: Any) -> InvokeRequest:
    return InvokeRequest(FunctionRef(name), payload, **more)


THROTTLED = Throttled("Rate Exceeded.", throttle_reason="TooMany", retry_after_ms=1)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (NotFound("no"), Outcome.REFUSED, "NOT_FOUND"),
        (PermissionDenied("no"), Outcome.REFUSED, "PERMISSION_DENIED"),
        (NotServed("no"), Outcome.REFUSED, "NOT_SERVED"),
        (Unavailable("no"), Outcome.ENGINE_FAULT, "UNAVAILABLE"),
        (SandboxFault("mounts", 1, "no"), Outcome.ENGINE_FAULT, "SANDBOX_FAULT"),
        (EngineError("no"), Outcome.ENGINE_FAULT, "ENGINE_FAULT"),
        (ValueError("no"), Outcome.ENGINE_FAULT, "ENGINE_FAULT"),
        (asyncio.CancelledError(), Outcome.CANCELLED, "CANCELLED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("sink", [None, Reader()], ids=["whole", "stream"])
async def test_what_ends_in_no_answer_is_counted_by_reason_and_raised_on(
    error: BaseException, outcome: Outcome, reason: str, sink: Sink | None
) -> None:
    counting = Counting("a")
    counted = Counted(Inner(raising(error)), counting.invocations)
    with pytest.raises(type(error)) as raised:
        await counted.invoke(request(), sink)
    assert raised.value is error
    assert counting.invocations.errors() == (ErrorCount(outcome, reason, 1),)
    (a,) = counting.invocations.functions()
    assert (a.name, a.invocations) == ("a", (InvocationCount("", outcome, None, 1),))
    assert a.total.count == 0


async def test_throttles_are_counted_by_reason_for_their_function_and_for_all() -> None:
    counting = Counting("a")
    counted = Counted(Inner(raising(THROTTLED)), counting.invocations)
    for _ in range(3):
        with pytest.raises(Throttled):
            await counted.invoke(request())
    (a,) = counting.invocations.functions()
    assert a.throttles == counting.invocations.throttles() == (("TooMany", 3),)
    assert a.invocations == (InvocationCount("", Outcome.THROTTLED, None, 3),)
    assert counting.invocations.errors() == ()
    counting.registry.remove("a")
    assert counting.invocations.throttles() == (("TooMany", 3),)


async def test_names_of_no_function_make_no_entry() -> None:
    counting = Counting("a")
    counted = Counted(Inner(raising(NotFound("no"))), counting.invocations)
    for number in range(100):
        with pytest.raises(NotFound):
            await counted.invoke(request(f"guess-{number}"))
    assert counting.names == [OTHERS]
    assert counting.invocations.errors() == (ErrorCount(Outcome.REFUSED, "NOT_FOUND", 100),)


async def test_bytes_of_events_inputs_results_and_chunks_are_counted() -> None:
    report = Report("r", Outcome.OK, StartKind.WARM, 128)

    async def answer(asked: InvokeRequest, sink: Sink | None) -> Completion:
        if sink is not None:
            sink.started("r", "$LATEST", StartKind.WARM)
            sink.chunk(b"12345")
        if asked.input is not None:
            assert [data async for data in asked.input] == [b"ab", b"c"]
        return Completion(report, b"result")

    async def said() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    counting, reader = Counting("a"), Reader()
    counted = Counted(Inner(answer), counting.invocations)
    await counted.invoke(request())
    await counted.invoke(request(payload=b"1234"), reader)
    await counted.invoke(request(payload=b"", input=said()), reader)
    assert reader.chunks == [b"warm", b"12345"] * 2
    (a,) = counting.invocations.functions()
    assert (a.event_bytes, a.result_bytes) == (2 + 4 + 3, 6 + 11 + 11)
