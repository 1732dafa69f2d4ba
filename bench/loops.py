"""Loads on an engine: closed loops of several callers and open loops of several rates, in turns with the echo server.

A slice of the load goes to the echo server, then the same to the engine, and again: as many clients, at the same
moments. Warm loads are on one function, of which sandboxes were started before by as many callers as may be under way.
Cold ones are on as many functions as it takes for each to be ready again when its turn comes
(engine/cli/benching/targets.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from engine.cli.benching.bed import Bed
from engine.cli.benching.load import SEED, Load, Tally, load_client
from engine.cli.benching.loads import row
from engine.cli.benching.scenarios import EVENT
from engine.cli.benching.targets import Cold, Target, Warm, renewer

SLICE_S = 0.5
SLICES = 4
WARM_UP = Load(0.3, concurrency=16)


@dataclass(frozen=True)
class Loop:
    """One row of the result: a load, and whether each call is a cold start."""

    name: str
    load: Load
    cold: bool = False
    memory_mb: int = 1_769


LOOPS = (
    *(Loop(f"closed-{callers}", Load(SLICE_S, concurrency=callers)) for callers in (1, 4, 16)),
    *(Loop(f"open-{rate}", Load(SLICE_S, rate=rate)) for rate in (100, 400, 1_000)),
    *(Loop(f"cold-closed-{callers}", Load(SLICE_S, concurrency=callers), cold=True) for callers in (1, 4)),
    *(Loop(f"cold-open-{rate}", Load(SLICE_S, rate=rate), cold=True) for rate in (20, 80)),
    Loop("open-400-128", Load(SLICE_S, rate=400), memory_mb=128),
)
"""The number is that of the callers, or of the calls a second."""
_READY_AGAIN_S = 1.0


def measure(loop: Loop, bed: Bed, slices: int = SLICES) -> dict[str, Any]:
    """The row of so many slices."""
    return asyncio.run(_measure(loop, bed, slices))


async def _measure(loop: Loop, bed: Bed, slices: int) -> dict[str, Any]:
    tallies: list[Tally] = []
    echoes: list[Tally] = []
    async with (
        load_client(bed.echo_address) as echo,
        load_client(bed.engine_address) as engine,
        _target(loop, bed) as target,
    ):
        await echo.run(WARM_UP, Warm("functions/echo"), EVENT)
        if loop.cold:
            await engine.run(Load(WARM_UP.duration_s, concurrency=4), target, EVENT)
        else:
            await engine.run(WARM_UP, target, EVENT)
        for turn in range(slices):
            echoes.append(await echo.run(loop.load, Warm("functions/echo"), EVENT, seed=SEED + turn))
            tallies.append(await engine.run(loop.load, target, EVENT, seed=SEED + turn))
    return row(loop.name, loop.memory_mb, loop.load, tallies, echoes, samples=True)


@contextlib.asynccontextmanager
async def _target(loop: Loop, bed: Bed) -> AsyncIterator[Target]:
    if not loop.cold:
        yield Warm(bed.function(loop.memory_mb))
        return
    count = max(8, 2 * loop.load.concurrency, round(loop.load.rate * _READY_AGAIN_S))
    names = [bed.function(loop.memory_mb, copy=copy) for copy in range(1, count + 1)]
    async with renewer(bed.engine_address) as renew:
        yield Cold(names, renew)
