"""What is measured: kinds of start, memory tiers and clients, each beside the echo server in turns.

Theory of operation: a scenario runs in rounds. A round is a block of echo calls and then a block of calls of a
function, each with the same client and the same event over its own connection, back to back; a call ahead of each warm
block is not counted, since what it wakes up is not what is asked about. Neighbouring blocks see the same machine, so
their difference stands where the machine drifts. Before a cold call the function is changed, which retires its sandbox,
and the bench waits until that one is gone: taking a sandbox away is not part of starting one.

Guarantees that each counted call was of the kind that its scenario asks for, by the report of the engine, and returned
its event: one that did not ends the run.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.cli.benching.bed import Bed
from engine.cli.benching.callers import AioCaller, Caller, SyncCaller
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.stream_callers import FirstChunkCaller, TalkCaller
from engine.cli.problems import Problem
from engine.cli.render import start_kind
from engine.v1.invocations_pb2 import InvokeRequest, InvokeResponse

EVENT = b'{"key1": "' + b"x" * 116 + b'"}'
"""128 bytes of JSON."""
DEFAULT_ROUNDS = 200
SETTLE_S = 0.010
"""How long a retired sandbox gets to be gone: some three times what it takes."""
CALLERS: dict[str, Callable[[str], Caller]] = {
    "sync": SyncCaller,
    "aio": AioCaller,
    "first-chunk": FirstChunkCaller,
    "talk": TalkCaller,
}
"""By the name that a scenario gives."""
_PARTS = ("queue", "start", "init", "handler", "total")


@dataclass(frozen=True)
class Scenario:
    """One row of the result. `calls` and `echoes` are what is counted in a round."""

    name: str
    start: str  # "warm" or "cold"
    memory_mb: int
    client: str  # of CALLERS
    calls: int
    echoes: int
    handler: str = "handler"  # of bed.HANDLER


SCENARIOS = (
    Scenario("warm-1769", "warm", 1769, "sync", calls=25, echoes=25),
    Scenario("warm-1769-aio", "warm", 1769, "aio", calls=25, echoes=25),
    Scenario("warm-128", "warm", 128, "sync", calls=25, echoes=25),
    Scenario("cold-1769", "cold", 1769, "sync", calls=1, echoes=5),
    Scenario("cold-128", "cold", 128, "sync", calls=1, echoes=5),
    Scenario("stream-1769", "warm", 1769, "first-chunk", calls=25, echoes=25, handler="stream"),
    Scenario("talk-1769", "warm", 1769, "talk", calls=25, echoes=25, handler="talk"),
)


class Trial:
    """One scenario under way. Whoever drives it times `call`, and calls `before` ahead of each."""

    def __init__(self, scenario: Scenario, bed: Bed, engine: Caller, echo: Caller) -> None:
        self.scenario = scenario
        self._engine = engine
        self._echo = echo
        self._request = InvokeRequest(name=bed.function(scenario.memory_mb, scenario.handler), payload=EVENT)
        self._renew: Callable[[], None] | None = None
        if scenario.start == "cold":
            self._renew = bed.renewer(self._request.name)
        self._responses: list[InvokeResponse] = []
        self._echo_blocks: list[list[float]] = []
        self._engine.call(self._request)

    def before(self) -> None:
        """Ahead of each call; where a round begins, measure a block of echo calls, and make ready for what comes."""
        self._engine.settle()
        if len(self._responses) % self.scenario.calls:
            return
        if self._renew is not None:
            self._renew()
            time.sleep(SETTLE_S)
        self._echo.call(self._request)
        self._echo.settle()
        self._echo_blocks.append([_timed_us(self._echo, self._request) for _ in range(self.scenario.echoes)])
        if self._renew is None:
            self._engine.call(self._request)
            self._engine.settle()

    def call(self) -> None:
        """What is timed."""
        self._responses.append(self._engine.call(self._request))

    def row(self, took_us: list[float], *, samples: bool = False) -> dict[str, Any]:
        """The result of the calls, which took this long; with all the times if `samples`. Raises Problem where one
        was not what it had to be."""
        self._engine.settle()
        kinds = self._kinds()
        calls = self.scenario.calls
        blocks = [took_us[at : at + calls] for at in range(0, len(took_us), calls)]
        echo_us = [took for block in self._echo_blocks for took in block]
        reports = [response.report for response in self._responses]
        engine_us = {part: summary([getattr(report, f"{part}_us") for report in reports]) for part in _PARTS}
        outside = [took - report.total_us for took, report in zip(took_us, reports, strict=True)]
        row: dict[str, Any] = {
            "name": self.scenario.name,
            "start": self.scenario.start,
            "kinds": kinds,
            "memory_mb": self.scenario.memory_mb,
            "client": self.scenario.client,
            "event_bytes": len(EVENT),
            "rounds": len(blocks),
            "calls": len(took_us),
            "echoes": len(echo_us),
            "call_us": summary(took_us),
            "echo_us": summary(echo_us),
            "above_echo_us": above(blocks, self._echo_blocks),
            "engine_us": {**engine_us, "outside": summary(outside)},
        }
        if samples:
            row["samples_us"] = {
                "call": [round(took, 1) for took in took_us],
                "echo": [round(took, 1) for took in echo_us],
            }
        return row

    def _kinds(self) -> dict[str, int]:
        kinds = Counter(start_kind(response.report) for response in self._responses)
        failed = [response for response in self._responses if response.payload != EVENT]
        if failed:
            error = failed[0].function_error.document.decode(errors="replace")
            raise Problem(
                "cannot measure", f"{len(failed)} of {kinds.total()} calls failed, one with {error}", "cleave doctor"
            )
        wrong = kinds["warm"] if self.scenario.start == "cold" else kinds.total() - kinds["warm"]
        if wrong:
            raise Problem(
                f"cannot measure {self.scenario.name}",
                f"{wrong} of {kinds.total()} calls that had to be {self.scenario.start} were not: {dict(kinds)}",
                "let nobody else use the engine that is measured, and try again",
            )
        return dict(kinds)


@contextlib.contextmanager
def trial(scenario: Scenario, bed: Bed) -> Iterator[Trial]:
    """A scenario with its two connections."""
    caller = CALLERS[scenario.client]
    with caller(bed.engine_address) as engine, caller(bed.echo_address) as echo:
        yield Trial(scenario, bed, engine, echo)


def _timed_us(caller: Caller, request: InvokeRequest) -> float:
    begun = time.perf_counter_ns()
    caller.call(request)
    took_us = (time.perf_counter_ns() - begun) / 1000
    caller.settle()
    return took_us
