"""What a load would meet: the native scheduler over virtual sandboxes and a virtual clock, a million calls in seconds.

A load is arrivals in the order of time: when, which function, for how long. Every decision is the native scheduler's
own; what is virtual is the owner: a start, a call and a close take the time that they are said to take. The one
importer of the extension, which is built from native/engine/scheduler/_simulate.pyx.

Leaves to others: where arrivals come from, and how a result is shown (bench.simulate).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.scheduler._simulate import Simulation
from engine.scheduler.core import BURST, REASON_NAMES, WEIGHT

if TYPE_CHECKING:
    from engine.scheduler.core import CoreCounts

Arrival = tuple[int, int, int]
"""When (ns from the beginning), the number of a function from 0 on, and how long its handler takes (ns)."""


@dataclass
class Arrivals:
    """A load, in columns; all of one length, `times_ns` in order."""

    times_ns: array[int] = field(default_factory=lambda: array("q"))
    functions: array[int] = field(default_factory=lambda: array("q"))
    durations_ns: array[int] = field(default_factory=lambda: array("q"))

    @classmethod
    def of(cls, arrivals: Iterable[Arrival]) -> Arrivals:
        """From rows."""
        columns = cls()
        for at, function, duration in arrivals:
            columns.times_ns.append(at)
            columns.functions.append(function)
            columns.durations_ns.append(duration)
        return columns

    def __len__(self) -> int:
        return len(self.times_ns)


@dataclass(frozen=True)
class Alias:
    """What a function is called through: two versions of it, by weight. The first is what it is without one."""

    second_share: float  # of the calls, in millionths at the finest; 0: all stay with the first
    second_provisioned: int = 0  # sandboxes kept ready of the second


@dataclass(frozen=True)
class World:
    """Where the load arrives. The figures are AWS's, with room for as many sandboxes as calls."""

    functions: int
    account_limit: int = 1_000
    room: int = 1_000
    keep_alive_s: float = 600.0
    requests_per_concurrency: int = 10
    burst: int = 1_000  # in 10 seconds, for each function
    start_ms: float = 10.0  # from the decision to start a sandbox until its handler is called
    close_ms: float = 5.0
    crash_every: int = 0  # of so many calls one takes its sandbox along; 0: none
    reserved: Mapping[int, int] = field(default_factory=dict)  # by the number of a function
    provisioned: Mapping[int, int] = field(default_factory=dict)
    aliases: Mapping[int, Alias] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a load."""

    counts: CoreCounts  # the native scheduler's own, at the end
    waits_ns: array[int]  # of each arrival, until its handler was called; -1: throttled
    throttled: Mapping[str, int]  # by AWS's reason, without those that there were none of
    bursts: int  # of them, those by the burst rule
    took_s: float  # real time
    seconds: bytes = b""  # of each arrival: 1 where its alias sent it to the second version

    @property
    def ran(self) -> int:
        """Calls whose handler was called."""
        return self.counts["cold"] + self.counts["warm"]

    @property
    def cold_share(self) -> float:
        """Of the calls that ran, those that a sandbox was started for."""
        return self.counts["cold"] / self.ran if self.ran else 0.0

    def percentiles_ms(self, *shares: float) -> list[float]:
        """Of the time until the handler was called, over the calls that ran."""
        waits = sorted(wait for wait in self.waits_ns if wait >= 0)
        return [waits[min(len(waits) - 1, int(share * len(waits)))] / 1e6 if waits else 0.0 for share in shares]


def simulate(world: World, load: Arrivals) -> Outcome:
    """Raises ValueError where a row of the load is out of order or names no function, or an alias has no share, and
    Rejected where what is reserved or provisioned does not fit."""
    simulation = Simulation(
        world.functions,
        start_ns=round(world.start_ms * 1e6),
        close_ns=round(world.close_ms * 1e6),
        crash_every=world.crash_every,
        account_limit=world.account_limit,
        room=world.room,
        keep_alive_ns=round(world.keep_alive_s * 1e9),
        rate_factor=world.requests_per_concurrency,
        burst=world.burst,
    )
    simulation.limit(world.reserved, world.provisioned)
    for number, alias in world.aliases.items():
        if not 0 <= alias.second_share <= 1:
            raise ValueError(f"the alias of function {number}: {alias.second_share} of the calls is no share")
        simulation.alias(number, round(alias.second_share * WEIGHT), alias.second_provisioned)
    waits, reasons, seconds = array("q", bytes(8 * len(load))), bytearray(len(load)), bytearray(len(load))
    began = time.perf_counter()
    counts = simulation.run(load.times_ns, load.functions, load.durations_ns, waits, reasons, seconds)
    took_s = time.perf_counter() - began
    throttled: dict[str, int] = {}
    for reason, number in enumerate(counts["throttled"]):
        if number:
            throttled[REASON_NAMES[reason]] = throttled.get(REASON_NAMES[reason], 0) + number
    return Outcome(counts, waits, throttled, counts["throttled"][BURST], took_s, bytes(seconds))
