"""Arrivals made from a seed: when each call comes, of which function, and how long it runs. For loads on an engine and
for simulations alike.

    steady   calls at random moments of one rate (a Poisson process)
    burst    the same, with a multiple of the rate for a while at the beginning of each period
    diurnal  one day: half of the peak's calls are there at all times, the rest comes and goes with the day
    azure    many functions as those of Azure Functions were in July 2019, by the published fits

What `azure` takes from Shahrad et al., "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload
at a Large Cloud Provider", USENIX ATC 2020 (www.usenix.org/conference/atc20/presentation/shahrad), by its figures:

* 5: 45 % of the applications are called once an hour or less and 81 % once a minute or less; the others, 18.6 %, have
  99.6 % of all calls, and rates range over eight orders of magnitude. Here the logarithm of a function's rate is
  normal, through the first and the last of these shares, which gives 99.9 % for their calls.
* 7: the average execution times of functions are log-normal, with a log mean of -0.38 and a sigma of 2.36, of seconds.
  Here each call of a function takes its average.
* 8: the average memory of applications has a Burr distribution with c = 11.652, k = 0.221 and lambda = 107.083 MB.
* 4: some half of the peak's calls are there at all hours, which is what `diurnal` has.

What the paper has and this has not: a function's own calls come as a Poisson process, without the regularity of timers.

Guarantees that the same arguments give the same trace, on every machine; times never go back.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

HOUR_S, MINUTE_S = 3_600.0, 60.0
_HOURLY, _POPULAR = 0.45, 0.186  # shares of the functions
_Z_HOURLY, _Z_POPULAR = -0.125661, 0.892733  # where the normal distribution has 0.45, and 1 - 0.186
RATE_SIGMA = math.log(HOUR_S / MINUTE_S) / (_Z_POPULAR - _Z_HOURLY)
RATE_LOG_MEAN = -math.log(HOUR_S) - _Z_HOURLY * RATE_SIGMA
"""Of the logarithm of a function's calls a second."""
DURATION_LOG_MEAN, DURATION_SIGMA = -0.38, 2.36
"""Of the logarithm of seconds."""
BURR_C, BURR_K, BURR_LAMBDA_MB = 11.652, 0.221, 107.083
MEMORY_MB = (128, 10_240)
"""The smallest and the largest that a function may have, on AWS Lambda."""
LONGEST_S = 900.0
"""What a call may take, on AWS Lambda."""
BASELINE = 0.5
"""Of a day's peak, what is there at all hours."""


@dataclass(frozen=True)
class Trace:
    """Calls in the order in which they come: the n-th of each array is the n-th call's."""

    name: str
    seed: int
    lasting_s: float
    time_ns: array[int]  # "q": from the beginning
    function: array[int]  # "i": its number, from 0
    duration_ns: array[int]  # "q": how long it runs
    memory_mb: array[int]  # "i", for each function

    def __len__(self) -> int:
        return len(self.time_ns)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(time_ns, function, duration_ns) of each."""
        return zip(self.time_ns, self.function, self.duration_ns, strict=True)

    @property
    def functions(self) -> int:
        """How many there are, called or not."""
        return len(self.memory_mb)


def steady(per_s: float, lasting_s: float, *, functions: int = 1, duration_s: float = 0.01, seed: int = 1) -> Trace:
    """So many calls a second on average, of any of the functions."""
    return _alike("steady", lambda at: per_s, per_s, lasting_s, functions, duration_s, seed)


def burst(
    per_s: float,
    lasting_s: float,
    *,
    functions: int = 1,
    duration_s: float = 0.01,
    seed: int = 1,
    times: float = 10.0,
    burst_s: float = 1.0,
    every_s: float = 10.0,
) -> Trace:
    """So many calls a second, and so many times as many for the first `burst_s` of each `every_s`."""
    rate = lambda at: per_s * times if at % every_s < burst_s else per_s  # noqa: E731
    return _alike("burst", rate, per_s * max(times, 1.0), lasting_s, functions, duration_s, seed)


def diurnal(
    per_s: float,
    lasting_s: float,
    *,
    functions: int = 1,
    duration_s: float = 0.01,
    seed: int = 1,
    day_s: float | None = None,
) -> Trace:
    """So many calls a second at noon, half as many at midnight, with which it begins. A day lasts `day_s`, by default
    all the time there is."""
    day = day_s or lasting_s

    def rate(at: float) -> float:
        return per_s * (BASELINE + (1 - BASELINE) * math.sin(math.pi * at / day) ** 2)

    return _alike("diurnal", rate, per_s, lasting_s, functions, duration_s, seed)


def azure(
    per_s: float, lasting_s: float, *, functions: int = 10_000, seed: int = 1, longest_s: float = LONGEST_S
) -> Trace:
    """So many calls a second of all functions together. Where theirs would be more, the most popular ones have fewer,
    at most the same each; where they would be fewer, all have more. No call takes longer than `longest_s`."""
    chance = random.Random(f"azure {seed}")
    rates = [math.exp(chance.normalvariate(RATE_LOG_MEAN, RATE_SIGMA)) for _ in range(functions)]
    rates = _capped(rates, per_s)
    durations = [
        round(1e9 * min(longest_s, math.exp(chance.normalvariate(DURATION_LOG_MEAN, DURATION_SIGMA))))
        for _ in range(functions)
    ]
    memory_mb = array("i", (_burr_mb(chance.random()) for _ in range(functions)))
    time_ns = _times(chance, lambda at: per_s, per_s, lasting_s)
    numbers = chance.choices(range(functions), cum_weights=list(accumulate(rates)), k=len(time_ns))
    duration_ns = array("q", (durations[number] for number in numbers))
    return Trace("azure", seed, lasting_s, time_ns, array("i", numbers), duration_ns, memory_mb)


class Maker(Protocol):
    """One of the above."""

    def __call__(self, per_s: float, lasting_s: float, *, functions: int, seed: int) -> Trace: ...


TRACES: Mapping[str, Maker] = {"steady": steady, "burst": burst, "diurnal": diurnal, "azure": azure}
"""By their names."""


def _alike(
    name: str,
    rate_at: Callable[[float], float],
    peak: float,
    lasting_s: float,
    functions: int,
    duration_s: float,
    seed: int,
) -> Trace:
    """Calls at these rates of functions that are all alike."""
    chance = random.Random(f"{name} {seed}")
    time_ns = _times(chance, rate_at, peak, lasting_s)
    numbers = array("i", (chance.randrange(functions) for _ in time_ns))
    duration_ns = array("q", [round(duration_s * 1e9)]) * len(time_ns)
    return Trace(name, seed, lasting_s, time_ns, numbers, duration_ns, array("i", [MEMORY_MB[0]]) * functions)


def _times(chance: random.Random, rate_at: Callable[[float], float], peak: float, lasting_s: float) -> array[int]:
    """A Poisson process whose rate changes: one of the highest rate, thinned out (Lewis and Shedler, 1979)."""
    found, at = array("q"), 0.0
    while (at := at + chance.expovariate(peak)) < lasting_s:
        if chance.random() * peak < rate_at(at):
            found.append(round(at * 1e9))
    return found


def _capped(rates: list[float], total: float) -> list[float]:
    """The rates, cut at the height at which they come to `total`; all of them raised where they are less."""
    rising, left = sorted(rates), total
    for passed, rate in enumerate(rising):
        others = len(rising) - passed
        if rate * others > left:
            return [min(one, left / others) for one in rates]
        left -= rate
    return [rate * total / (total - left) for rate in rates]


def _burr_mb(chance: float) -> int:
    """The memory that so large a share of the functions does not exceed, within what a function may have."""
    mb: float = BURR_LAMBDA_MB * ((1 - chance) ** (-1 / BURR_K) - 1) ** (1 / BURR_C)
    return min(max(math.ceil(mb), MEMORY_MB[0]), MEMORY_MB[1])
