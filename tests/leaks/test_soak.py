"""Calls of several functions by many callers while sandboxes and zygotes are killed from outside, at random by a seed:
each call has one outcome, none fails that no kill has hit, and at rest the engine holds what it held before.

There are as many callers as may call at once, so that one right to run that did not come back throttles somebody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.v1 import reports_pb2 as pb
from tests.doors import Refused, zip_of
from tests.engines import Served, served
from tests.leaks import test_parked as parked
from tests.leaks.test_sandboxes import NOISE_BYTES, Held, assert_no_growth
from tests.remains import members_of, nothing_left

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(3_600)]

CALLERS = 12
CALLS_A_KILL = 25
"""On average."""
ZYGOTE_EVERY = 6
"""So many kills are one of a zygote, and the others of sandboxes."""
MEMORY_BYTES = 2 * NOISE_BYTES
"""What the buffers of so many callers and of as many starts go up and down by besides."""
FLAGS = {**parked.FLAGS, "max_concurrency": CALLERS, "max_sandboxes": CALLERS + 4, "keep_alive_s": 1}
ANSWER = """
    import os, time
    {module}
    def handler(event, context):
        {body}
        return event["n"]
"""
# Zipped once: a code has its mount for as long as it is kept, which is longer than a function of it.
CODES = {
    "quick": zip_of(ANSWER.format(module="", body="")),
    "naps": zip_of(ANSWER.format(module="", body="time.sleep(0.02)")),
    "initializes": zip_of(ANSWER.format(module="time.sleep(0.02)", body="")),
    "forks": zip_of(
        ANSWER.format(
            module="os.fork() or time.sleep(1_000)",
            body="open('/tmp/some', 'w').write('x' * 100_000)\n        print('a line of its log')",
        )
    ),
}


@dataclass
class Tally:
    """What was done and what came of it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    sandboxes_killed: int = 0
    zygotes_killed: int = 0


class Soak:
    """Calls and kills, each what the seed makes it."""

    def __init__(self, running: Served, seed: int) -> None:
        self._running = running
        self._chance = random.Random(seed)
        self.tally = Tally()
        self._to_come = 0
        self._until_kill = CALLS_A_KILL
        self._begun = 0
        self._kills: set[asyncio.Task[None]] = set()

    async def run(self, calls: int) -> None:
        """So many more."""
        self._to_come = calls
        await asyncio.gather(*(self._caller() for _ in range(CALLERS)))
        await asyncio.gather(*self._kills)

    async def _caller(self) -> None:
        while self._to_come:
            self._to_come -= 1
            name = self._chance.choice(tuple(CODES))
            n = self._chance.getrandbits(32)
            call = asyncio.ensure_future(self._call(name, n))
            self._until_kill -= 1
            if self._until_kill == 0:
                self._until_kill = self._chance.randint(1, 2 * CALLS_A_KILL)
                kill = asyncio.ensure_future(self._kill())
                self._kills.add(kill)
                kill.add_done_callback(self._kills.discard)
            await call

    async def _call(self, name: str, n: int) -> None:
        try:
            answer = await self._running.grpc.invoke(name, json.dumps({"n": n}).encode())
        except Refused as refused:
            self.tally.outcomes["engine_fault"] += 1
            if not (refused.code == "INTERNAL" and "before its guest had the event" in refused.message):
                self.tally.unexpected.append(str(refused))
            return
        assert answer.report is not None
        outcome = pb.Outcome.Name(answer.report.outcome).removeprefix("OUTCOME_").lower()
        self.tally.outcomes[outcome] += 1
        if outcome == "ok":
            if answer.json() != n:
                self.tally.unexpected.append(f"{name} answered {n} with {answer.payload!r}")
        elif outcome != "exited" or "signal: killed" not in answer.payload.decode():
            self.tally.unexpected.append(f"{name}: {outcome} {answer.payload!r}")

    async def _kill(self) -> None:
        await asyncio.sleep(self._chance.random() * 0.01)
        self._begun += 1
        if self._begun % ZYGOTE_EVERY == 0:
            zygotes = sorted(one.pid for one in (await self._running.grpc.counts()).zygotes if one.pid)
            if zygotes and killed(self._chance.choice(zygotes), self._running.process.pid):
                self.tally.zygotes_killed += 1
            return
        firsts = [pid for pid in members_of(self._running.instance) if is_first(pid)]
        if firsts and killed(self._chance.choice(firsts), self._running.process.pid):
            self.tally.sandboxes_killed += 1


def is_first(pid: int) -> bool:
    """Whether it is process 1 of a sandbox."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1] == "1"
    return False


def killed(pid: int, parent: int) -> bool:
    """Kill -9 a child of the engine, and no other process that has its number since."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == parent:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return True
        finally:
            os.close(pidfd)
    return False


async def recorded(running: Served, calls: int) -> Counter[str]:
    """How so many invocations ended by the engine's own count, which comes a moment after the answer."""
    async with asyncio.timeout(30):
        while True:
            found: Counter[str] = Counter()
            for start in (await running.grpc.counts()).starts:
                for one in start.outcomes:
                    found[pb.Outcome.Name(one.outcome).removeprefix("OUTCOME_").lower()] += one.count
            if found.total() >= calls:
                return found


async def deployed(running: Served) -> None:
    for name, code in CODES.items():
        await running.grpc.create(name, code, memory_mb=1_769, timeout_ms=60_000)


async def at_rest(running: Served) -> Held:
    """What the engine holds without a call, a function and a sandbox of one."""
    host = await running.grpc.counts()
    assert host.concurrency == 0
    assert host.sandboxes <= FLAGS["max_sandboxes"]
    for name in CODES:
        await running.grpc.delete(name)
    async with asyncio.timeout(60):
        while True:
            while (await running.grpc.counts()).sandboxes:
                pass
            held = await parked.settled(running)
            if any(one.pid for one in (await running.grpc.counts()).zygotes):
                return held
            # One that was killed soon after it had begun is made again when it is needed: for what is parked next.
            await running.grpc.create("quick", CODES["quick"])
            await running.grpc.invoke("quick")
            await running.grpc.delete("quick")


async def soaked(running: Served, seed: int, calls: int) -> None:
    """So many calls amid kills, each held to what may come of it."""
    await deployed(running)
    before = await recorded(running, 0)
    soak = Soak(running, seed)
    await soak.run(calls)
    tally = soak.tally
    print(tally)
    assert tally.unexpected == []
    assert tally.outcomes.total() == calls
    assert calls - tally.outcomes["ok"] <= tally.sandboxes_killed
    assert min(tally.sandboxes_killed, tally.zygotes_killed) > 0
    del tally.outcomes["engine_fault"]  # has no report
    assert await recorded(running, (before + tally.outcomes).total()) - before == tally.outcomes


async def test_calls_amid_kills_have_one_outcome_each_and_leave_nothing(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    data, calls = tmp_path / "data", counts["soak_calls"]
    async with served(data, flags=FLAGS) as running:
        await soaked(running, 5, calls // 3)
        first = await at_rest(running)
        await soaked(running, 6, calls - calls // 3)
        await at_rest(running)
        await assert_no_growth(first, running, noise_bytes=MEMORY_BYTES)
        await running.stopped()
    await nothing_left(data)
