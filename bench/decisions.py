"""What a decision costs: where a call runs, and that its sandbox may serve on, asked of the native scheduler.

Blocks of decisions with many functions alternate with blocks with few, so that a busy machine is busy for both; each
function has a warm sandbox, and calls come to functions at random. The figure is the ratio of the two in each turn.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

from engine.scheduler.core import START, Core

FEW, MANY = 10, 10_000
BLOCK = 5_000
"""Decisions in a block: longer than what disturbs a machine, shorter than what changes it."""
PAUSE_NS = 1_000_000_000
"""Between two blocks on the scheduler's clock: the rate of requests is not what is measured."""


@dataclass
class Decisions:
    """A scheduler with so many functions, and the order in which they are called."""

    core: Core
    targets: list[int]
    now_ns: int = 0

    @classmethod
    def with_functions(cls, count: int, seed: int = 1) -> Decisions:
        """Each with a sandbox that idles."""
        core = Core(account_limit=2 * MANY, room=2 * MANY, rate_factor=100)
        targets = [core.target_add(core.function_add()) for _ in range(count)]
        for target in targets:
            assert core.submit(target, 0) == START
            call = core.call
            core.started(core.sandbox, 0)
            core.finished(call, True, 0)
        rng = random.Random(seed)
        # An int for each call, also where there are few functions: what Python keeps is no part of the difference.
        return cls(core, [int(str(rng.choice(targets))) for _ in range(BLOCK)])

    def block(self) -> float:
        """Nanoseconds for a call: submit and finished."""
        self.now_ns += PAUSE_NS
        core, now, submit, finished = self.core, self.now_ns, self.core.submit, self.core.finished
        began = time.perf_counter_ns()
        for target in self.targets:
            submit(target, now)
            finished(core.call, True, now)
        return (time.perf_counter_ns() - began) / BLOCK


def row(few_ns: list[float], many_ns: list[float]) -> dict[str, Any]:
    """The result of turns of both."""
    ratios = [many / few for few, many in zip(few_ns, many_ns, strict=True)]
    return {
        "name": "decision",
        "functions": {"few": FEW, "many": MANY},
        "decision_ns": {"few": round(statistics.median(few_ns), 1), "many": round(statistics.median(many_ns), 1)},
        "ratio": round(statistics.median(ratios), 3),
    }
