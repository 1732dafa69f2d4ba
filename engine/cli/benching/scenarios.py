"""What is measured: kinds of start, memory tiers and clients, each beside the echo server in turns.

Theory of operation: a scenario runs in rounds. A round is a block of echo calls and then a block of calls of a
function, each with the same client and the same event over its own connection, back to back; a call ahead of each warm
block is not counted, since what it wakes up is not what is asked about. Neighbouring blocks see the same machine, so
their difference stands where the machine drifts. Before a cold call the function is changed, which retires its sandbox,
and the bench waits until that one is gone: taking a sandbox away is not part of starting one.

A block of parked starts is of several functions, one call each, so that these too are back to back. The scenario that
is called rested makes one start after the engine had nothing to do for SETTLE_S while the echo server was kept busy: on
a machine whose CPUs sleep deeply, that difference alone is a good part of what it shows.

Guarantees that each counted call was of the kind that its scenario asks for, by the report of the engine, and returned
its event. One that did not return it ends the run, and so does a warm call among cold ones or the other way round. A
cold start of another kind, such as a fork where nothing was parked, is not counted, and the row says how many there
were; where most are, the run ends.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.cli.benching.bed import Bed
from engine.cli.benching.callers import AioCaller, Caller, SyncCaller
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.stream_callers import FirstChunkCaller, TalkCaller
from engine.cli.problems import Problem
from engine.cli.render import start_kind
from engine.v1.invocations_pb2 import InvokeRequest, InvokeResponse
from engine.v1.resources_pb2 import FunctionConfig

EVENT = b'{"key1": "' + b"x" * 116 + b'"}'
"""128 bytes of JSON."""
DEFAULT_ROUNDS = 200
SETTLE_S = 0.010
"""How long a retired sandbox gets to be gone: some three times what it takes."""
PARK_S = 0.020
"""How long it gets besides for each further one, in whose place another is parked."""
REFILL_S = 0.25
"""How long the engine gets to park sandboxes again after a start that found none."""
FIRST_WITHIN_S = 10.0
"""Until when the first start of the kind has to have come: an engine fills its pool once it is up."""
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
    start: str  # "warm", "parked", "fork" or "exec", or "cold" for any but warm
    memory_mb: int
    client: str  # of CALLERS
    calls: int
    echoes: int
    handler: str = "handler"  # of the function's code
    code: str = ""  # of Bed.codes
    engine: str = ""  # of bed.ENGINES
    functions: int = 1  # that a round's calls go to in turn; with several, each call of a round is a start
    own_layout: bool = False
    share: float = 1.0  # of the rounds that are asked for

    def rounds(self, asked: int) -> int:
        """How many it gets where so many are asked for."""
        return max(2, round(asked * self.share))


_CONFIG_FIELDS = FunctionConfig.DESCRIPTOR.fields_by_name
_PARKED = Scenario("parked-1769", "parked", 1769, "sync", calls=4, echoes=4, functions=4, share=0.5)
_RESTED = replace(_PARKED, name="parked-1769-rested", calls=1, echoes=5, functions=1, share=0.5)
_FORK = replace(_RESTED, name="fork-1769", start="fork", engine="unparked")
_EXEC = replace(_FORK, name="exec-1769", start="exec", own_layout=True, share=0.15)
SCENARIOS = (
    Scenario("warm-1769", "warm", 1769, "sync", calls=25, echoes=25),
    Scenario("warm-1769-aio", "warm", 1769, "aio", calls=25, echoes=25, share=0.5),
    Scenario("warm-128", "warm", 128, "sync", calls=25, echoes=25, share=0.5),
    _PARKED,
    replace(_PARKED, name="parked-128", memory_mb=128),
    _RESTED,
    _FORK,
    replace(_FORK, name="fork-128", memory_mb=128),
    # Only an engine that gives sandboxes a layout of their own starts any from nothing.
    *((_EXEC, replace(_EXEC, name="exec-128", memory_mb=128)) if "own_layout" in _CONFIG_FIELDS else ()),
    Scenario("stream-1769", "warm", 1769, "first-chunk", calls=25, echoes=25, handler="stream", share=0.5),
    Scenario("talk-1769", "warm", 1769, "talk", calls=25, echoes=25, handler="talk", share=0.5),
)
OF_A_RUNNING_ENGINE = tuple(
    replace(scenario, name=scenario.name.replace("parked", "cold"), start="cold")
    if scenario.start == "parked"
    else scenario
    for scenario in SCENARIOS
    if not scenario.engine
)
"""What can be asked of an engine whose settings are not the bench's: whether it parks is its operator's affair."""


class Trial:
    """One scenario under way. Whoever drives it times `call`, and calls `before` ahead of each."""

    def __init__(self, scenario: Scenario, bed: Bed, engine: Caller, echo: Caller, event: bytes = EVENT) -> None:
        self.scenario = scenario
        self._engine = engine
        self._echo = echo
        several = scenario.functions > 1
        each = range(1, scenario.functions + 1) if several else (0,)
        names = [
            bed.function(scenario.memory_mb, scenario.handler, scenario.code, copy=one, own_layout=scenario.own_layout)
            for one in each
        ]
        self._requests = [InvokeRequest(name=name, payload=event) for name in names]
        self._request = self._requests[0]
        self._renewers = [] if scenario.start == "warm" else [bed.renewer(name) for name in names]
        # A warm call ahead of what is counted, as with warm calls: an engine at work is what is asked about.
        self._waker: InvokeRequest | None = None if self._renewers else self._request
        if several:
            self._waker = InvokeRequest(name=bed.function(scenario.memory_mb), payload=EVENT)
            self._engine.call(self._waker)
        self._responses: list[InvokeResponse] = []
        self._echo_blocks: list[list[float]] = []
        self._make_ready()

    def before(self) -> None:
        """Ahead of each call; where a round begins, measure a block of echo calls, and make ready for what comes."""
        self._engine.settle()
        if len(self._responses) % self.scenario.calls:
            return
        if self._renewers:
            self._renew()
            if self._responses and not self._asked_for(self._responses[-1]):
                time.sleep(REFILL_S)
        self._echo.call(self._request)
        self._echo.settle()
        self._echo_blocks.append([_timed_us(self._echo, self._request) for _ in range(self.scenario.echoes)])
        if self._waker is not None:
            self._engine.call(self._waker)
            self._engine.settle()

    def call(self) -> None:
        """What is timed."""
        request = self._requests[len(self._responses) % len(self._requests)]
        self._responses.append(self._engine.call(request))

    def row(self, took_us: list[float], *, samples: bool = False) -> dict[str, Any]:
        """The result of the calls, which took this long; with all the times if `samples`. Raises Problem where one
        was not what it had to be."""
        self._engine.settle()
        kinds = self._kinds()
        calls = self.scenario.calls
        blocks, echo_blocks, reports = [], [], []
        counted = self.counted()
        for turn, echo_block in enumerate(self._echo_blocks):
            block = slice(turn * calls, (turn + 1) * calls)
            if all(counted[block]):
                blocks.append(took_us[block])
                echo_blocks.append(echo_block)
                reports += [response.report for response in self._responses[block]]
        call_us = [took for block in blocks for took in block]
        echo_us = [took for block in echo_blocks for took in block]
        engine_us = {part: summary([getattr(report, f"{part}_us") for report in reports]) for part in _PARTS}
        outside = [took - report.total_us for took, report in zip(call_us, reports, strict=True)]
        row: dict[str, Any] = {
            "name": self.scenario.name,
            "start": self.scenario.start,
            "kinds": kinds,
            "left_out": len(took_us) - len(call_us),
            "memory_mb": self.scenario.memory_mb,
            "client": self.scenario.client,
            "event_bytes": len(self._request.payload),
            "rounds": len(blocks),
            "calls": len(call_us),
            "echoes": len(echo_us),
            "call_us": summary(call_us),
            "echo_us": summary(echo_us),
            "above_echo_us": above(blocks, echo_blocks),
            "engine_us": {**engine_us, "outside": summary(outside)},
        }
        if samples:
            row["samples_us"] = {
                "call": [round(took, 1) for took in call_us],
                "echo": [round(took, 1) for took in echo_us],
            }
        return row

    def counted(self) -> list[bool]:
        """Of each call so far, whether it started as the scenario wants it."""
        return [self._asked_for(response) for response in self._responses]

    def _make_ready(self) -> None:
        """Call it until it starts as it is asked to: the pool of an engine that has just begun is filled by then."""
        until = time.monotonic() + FIRST_WITHIN_S
        self._engine.call(self._request)
        while self._renewers and time.monotonic() < until:
            self._renew()
            responses = [self._engine.call(request) for request in self._requests]
            self._engine.settle()
            if all(self._asked_for(response) or not response.payload for response in responses):
                break
            time.sleep(REFILL_S)

    def _renew(self) -> None:
        for renew in self._renewers:
            renew()
        # As many sandboxes go, and as many are parked in their place.
        time.sleep(SETTLE_S + PARK_S * (len(self._renewers) - 1))

    def _asked_for(self, response: InvokeResponse) -> bool:
        """Whether the sandbox came to be as the scenario wants it."""
        kind = start_kind(response.report)
        return kind != "warm" if self.scenario.start == "cold" else kind == self.scenario.start

    def _kinds(self) -> dict[str, int]:
        kinds = Counter(start_kind(response.report) for response in self._responses)
        failed = [response for response in self._responses if response.payload != self._request.payload]
        if failed:
            error = failed[0].function_error.document.decode(errors="replace")
            raise Problem(
                "cannot measure", f"{len(failed)} of {kinds.total()} calls failed, one with {error}", "cleave doctor"
            )
        asked = self.scenario.start
        wrong = kinds.total() - kinds["warm"] if asked == "warm" else kinds["warm"]
        others = sum(not self._asked_for(response) for response in self._responses)
        if wrong or 2 * others > kinds.total():
            raise Problem(
                f"cannot measure {self.scenario.name}",
                f"{wrong or others} of {kinds.total()} calls that had to be {asked} were not: {dict(kinds)}",
                "let nobody else use the engine that is measured, and try again",
            )
        return dict(kinds)


@contextlib.contextmanager
def trial(scenario: Scenario, bed: Bed, event: bytes = EVENT) -> Iterator[Trial]:
    """A scenario with its two connections."""
    caller = CALLERS[scenario.client]
    with caller(bed.engine_address) as engine, caller(bed.echo_address) as echo:
        yield Trial(scenario, bed, engine, echo, event)


def _timed_us(caller: Caller, request: InvokeRequest) -> float:
    begun = time.perf_counter_ns()
    caller.call(request)
    took_us = (time.perf_counter_ns() - begun) / 1000
    caller.settle()
    return took_us
