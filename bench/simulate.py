"""What the scheduler would do under a load, without running it: cold starts, throttles, waits, sandboxes.

    python -m bench.simulate                              10,000 functions, a million calls in half an hour
    python -m bench.simulate --calls 100000 --over-s 60 --account-limit 200
    python -m bench.simulate --trace azure --aliases 100 --second-share 0.1 --provisioned 2

The very scheduler of an engine decides (engine.scheduler.simulation); sandboxes and the clock are virtual. The load
that is built in is a Poisson process whose functions are called by Zipf's law, for times that are spread lognormally.
Others are the traces of engine.cli.benching.traces by their names, and any module's function `arrivals(functions,
calls, over_s, seed)` that yields (ns, function, ns), named with --trace MODULE:NAME. The first functions may be called
through aliases of two versions, which the scheduler chooses from by weight, with sandboxes kept ready of both.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from engine.cli.benching.traces import TRACES
from engine.scheduler.simulation import Alias, Arrival, Arrivals, Outcome, World, simulate

SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)
SPREAD = 1.0
"""Of the durations' logarithm: a factor of e up or down is one standard deviation."""


def arrivals(functions: int, calls: int, over_s: float, seed: int, mean_ms: float = 100.0) -> Iterator[Arrival]:
    """The load that is built in."""
    rng = random.Random(seed)
    popular = list(itertools.accumulate(1 / rank for rank in range(1, functions + 1)))
    at, gap = 0.0, over_s * 1e9 / max(1, calls)
    names = rng.choices(range(functions), cum_weights=popular, k=calls)
    for function in names:
        at += rng.expovariate(1 / gap)
        yield round(at), function, round(rng.lognormvariate(0, SPREAD) * mean_ms * 1e6)


def traced(name: str) -> Callable[[int, int, float, int], Iterable[Arrival]]:
    """The trace of this name, with so many calls on average."""
    return lambda functions, calls, over_s, seed: TRACES[name](calls / over_s, over_s, functions=functions, seed=seed)


def lines(outcome: Outcome, world: World) -> Iterator[str]:
    """The result, to be read."""
    counts = outcome.counts
    asked = counts["submitted"]
    yield f"calls          {asked:,} of {world.functions:,} functions in {outcome.took_s:.2f} s of real time"
    yield f"cold starts    {100 * outcome.cold_share:.2f} % of {outcome.ran:,} calls that ran"
    if counts["provisioned_runs"] or world.provisioned:
        yield f"provisioned    {counts['provisioned_runs']:,} calls found a sandbox that was kept ready"
    if world.aliases:
        second = sum(outcome.seconds)
        yield f"versions       {second:,} calls ({100 * second / max(1, asked):.2f} %) went to a second one"
    refused = sum(outcome.throttled.values())
    yield f"throttled      {refused:,} ({100 * refused / max(1, asked):.2f} %)"
    for reason, number in sorted(outcome.throttled.items()):
        yield f"               {number:,} {reason}"
    if outcome.bursts:
        yield f"               {outcome.bursts:,} of them by the burst of starts"
    waits = outcome.percentiles_ms(*SHARES)
    shown = "  ".join(f"p{100 * share:g} {wait:.1f}" for share, wait in zip(SHARES, waits, strict=True))
    yield f"until handler  {shown} ms; {counts['waited']:,} waited for room"
    yield f"at the most    {counts['peak_sandboxes']:,} sandboxes, {counts['peak_concurrency']:,} calls at once"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--over-s", type=float, default=1_800.0, help="the time that the calls come in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", default="", help=f"{', '.join(TRACES)}, or MODULE:NAME of another load; see above")
    parser.add_argument("--aliases", type=int, default=0, help="so many functions are called through an alias")
    parser.add_argument("--second-share", type=float, default=0.1, help="of an alias's calls, for its second version")
    parser.add_argument("--provisioned", type=int, default=0, help="sandboxes kept ready of each version of an alias")
    parser.add_argument("--account-limit", type=int, default=1_000)
    parser.add_argument("--room", type=int, default=0, help="sandboxes at once; as many as calls unless it is given")
    parser.add_argument("--keep-alive-s", type=float, default=600.0)
    parser.add_argument("--start-ms", type=float, default=10.0, help="what a cold start takes")
    parser.add_argument("--crash-every", type=int, default=0, help="of so many calls one takes its sandbox along")
    given = parser.parse_args(argv)
    source: Callable[[int, int, float, int], Iterable[Arrival]] = arrivals
    if given.trace in TRACES:
        source = traced(given.trace)
    elif given.trace:
        module, _, name = given.trace.partition(":")
        source = getattr(importlib.import_module(module), name)
    world = World(
        given.functions,
        account_limit=given.account_limit,
        room=given.room or given.account_limit,
        keep_alive_s=given.keep_alive_s,
        start_ms=given.start_ms,
        crash_every=given.crash_every,
        provisioned=dict.fromkeys(range(given.aliases), given.provisioned) if given.provisioned else {},
        aliases=dict.fromkeys(range(given.aliases), Alias(given.second_share, given.provisioned)),
    )
    load = Arrivals.of(source(given.functions, given.calls, given.over_s, given.seed))
    for line in lines(simulate(world, load), world):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
