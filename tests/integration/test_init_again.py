"""Real functions whose init phase fails: what the second try may take, and that nothing of either is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending
from engine.sandbox.pool import LinuxPool
from engine.scheduler.api import Counts, Work
from engine.scheduler.dispatch import LocalScheduler
from tests.remains import until
from tests.sandboxes import ALL_CPU, Collected, event, real_pool, run_once, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

SLOW = """
    import time
    time.sleep(0.6)
    def handler(event, context):
        return context.get_remaining_time_in_millis()
"""
"""An init phase that takes 0.6 s."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    async with real_pool(tmp_path_factory.mktemp("pool"), cpu=ALL_CPU) as pool:
        yield pool


@pytest.fixture
def scheduler(pool: LinuxPool) -> LocalScheduler:
    return LocalScheduler(pool, max_concurrency=4, max_sandboxes=4, keep_alive_s=600)


class Tries(Collected):
    """Knows what each try wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.begins = [0]

    def initialized(self, failure: Ending | None) -> None:
        super().initialized(failure)
        self.begins.append(len(self.written))

    def speaks(self, number: int) -> bool:
        """Whether this try, the first being 0, has written something."""
        return number < len(self.begins) and len(self.written) > self.begins[number]


def work(folder: Path, source: str, *, timeout_ms: int, init_timeout_ms: int = 10_000, memory_mb: int = 1_769) -> Work:
    wanted = spec(write_code(folder / "code", source), init_timeout_ms=init_timeout_ms, memory_mb=memory_mb)
    return Work(wanted, event(timeout_ms=timeout_ms))


def leaves(pool: LinuxPool) -> list[Path]:
    return [entry for entry in Path(pool.cgroup_directories["pids"]).iterdir() if entry.is_dir()]


async def nothing_left(pool: LinuxPool) -> None:
    """A disk that others keep busy may take its time with a /tmp, which is the janitor's then."""
    await until(lambda: pool.alive == 0 and not leaves(pool), within_s=40, what="nothing is left")


async def test_one_that_is_too_slow_for_its_own_clock_may_use_the_functions(
    pool: LinuxPool, scheduler: LocalScheduler, tmp_path: Path
) -> None:
    sink = Collected()
    done = await scheduler.run(work(tmp_path, SLOW, timeout_ms=30_000, init_timeout_ms=300), sink)
    assert (done.ending.outcome, done.start_kind) == (Outcome.OK, StartKind.FORK)
    failure, success = sink.inits
    assert success is None
    assert failure is not None
    assert (failure.outcome, failure.init_failed, failure.handler_us) == (Outcome.TIMEOUT, True, 0)
    assert failure.init_us >= 300_000
    assert done.ending.init_us == 0
    assert done.ending.handler_us >= 600_000
    # The context's clock runs from the init phase on too.
    assert json.loads(done.ending.payload) <= 30_000 - 600
    await scheduler.drain(0)
    assert scheduler.counts() == Counts(0, 0, 0)
    await nothing_left(pool)


async def test_the_second_try_ends_at_the_functions_timeout_wherever_it_is(
    pool: LinuxPool, scheduler: LocalScheduler, tmp_path: Path
) -> None:
    in_init = await scheduler.run(work(tmp_path / "a", SLOW, timeout_ms=400, init_timeout_ms=300), Collected())
    late = SLOW + "        while True: pass\n"
    late = late.replace("return context", "context")
    in_handler = await scheduler.run(work(tmp_path / "b", late, timeout_ms=1_500, init_timeout_ms=300), Collected())
    assert (in_init.ending.outcome, in_init.ending.init_failed) == (Outcome.TIMEOUT, True)
    assert in_init.ending.handler_us >= 400_000
    assert (in_handler.ending.outcome, in_handler.ending.init_failed) == (Outcome.TIMEOUT, False)
    assert in_handler.ending.handler_us >= 1_500_000
    await scheduler.drain(0)
    await nothing_left(pool)


FAILS = {
    "raises": ("raise KeyError('x')", Outcome.INIT_ERROR, ""),
    "exits": ("import os; os._exit(3)", Outcome.EXITED, "exit status 3"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", Outcome.EXITED, "signal: killed"),
    "runs out of memory": ("x = [bytearray(1 << 20) for _ in range(600)]", Outcome.OUT_OF_MEMORY, "signal: killed"),
    "takes too long": ("while True: pass", Outcome.TIMEOUT, ""),
}


@pytest.mark.parametrize("how", FAILS)
async def test_each_way_to_fail_is_tried_again_and_told_twice(
    pool: LinuxPool, scheduler: LocalScheduler, tmp_path: Path, how: str
) -> None:
    body, outcome, exit_status = FAILS[how]
    source = f"print('{how}', flush=True)\n{body}\n"
    init_timeout_ms, timeout_ms = (300, 400) if outcome is Outcome.TIMEOUT else (60_000, 60_000)
    sink = Collected()
    wanted = work(tmp_path, source, timeout_ms=timeout_ms, init_timeout_ms=init_timeout_ms, memory_mb=256)
    done = await scheduler.run(wanted, sink)
    assert bytes(sink.written) == 2 * f"{how}\n".encode() or outcome is Outcome.INIT_ERROR
    assert bytes(sink.written).count(how.encode()) == 2
    first, second = sink.inits
    assert first is not None
    assert second == done.ending
    for ending in (first, second):
        assert (ending.outcome, ending.exit_status, ending.init_failed) == (outcome, exit_status, True)
    assert (first.handler_us, done.ending.init_us) == (0, 0)
    assert first.init_us > 0
    assert done.ending.handler_us > 0
    await scheduler.drain(0)
    assert scheduler.counts() == Counts(0, 0, 0)
    await nothing_left(pool)


async def test_a_failure_that_passes_is_no_failure_of_the_event(
    pool: LinuxPool, scheduler: LocalScheduler, tmp_path: Path
) -> None:
    """Each try is a sandbox of its own, so that what the first left in its /tmp is not there for the second."""
    source = """
        import os, time
        print("up", flush=True)
        while not os.path.exists("/tmp/go"):
            time.sleep(0.005)
        seen = sorted(os.listdir("/tmp"))
        if open("/tmp/go").read() == "die":
            os._exit(1)
        def handler(event, context):
            return seen
    """

    def only_leaf() -> list[Path]:
        return found if len(found := leaves(pool)) == 1 else []

    sink = Tries()
    wanted = work(tmp_path, source, timeout_ms=60_000, init_timeout_ms=60_000)
    run = asyncio.ensure_future(scheduler.run(wanted, sink))
    for number, text in enumerate(("die", "live")):
        await until(partial(sink.speaks, number), within_s=30)
        (leaf,) = await until(only_leaf, within_s=30)
        process = (leaf / "cgroup.procs").read_text().split()[0]
        folder = Path(f"/proc/{process}/root/tmp")
        (folder / "new").write_text(text)
        (folder / "new").rename(folder / "go")
    done = await run
    assert (done.ending.outcome, json.loads(done.ending.payload)) == (Outcome.OK, ["go"])
    await scheduler.drain(0)


@pytest.mark.parametrize("end", ["cancel", "drain"])
async def test_who_leaves_in_the_second_try_leaves_no_process(
    pool: LinuxPool, scheduler: LocalScheduler, tmp_path: Path, end: str
) -> None:
    source = """
        import os, time
        os.fork() or os.setsid()
        print("up", flush=True)
        while True:
            time.sleep(0.01)
    """
    sink = Tries()
    wanted = work(tmp_path, source, timeout_ms=60_000, init_timeout_ms=500)
    run = asyncio.ensure_future(scheduler.run(wanted, sink))
    await until(lambda: sink.speaks(1), within_s=30, what="the second try is under way")
    if end == "cancel":
        run.cancel()
    await scheduler.drain(0)
    outcome = (await asyncio.gather(run, return_exceptions=True))[0]
    assert type(outcome).__name__ == {"cancel": "CancelledError", "drain": "Unavailable"}[end]
    assert scheduler.counts() == Counts(0, 0, 0)
    await nothing_left(pool)


async def test_the_clock_of_the_init_phase_is_not_the_handlers(pool: LinuxPool, tmp_path: Path) -> None:
    ending, _ = await run_once(pool, tmp_path, SLOW, timeout_ms=500)
    assert ending.outcome is Outcome.OK
    assert ending.init_us > 500_000  # the guest may be some of its 600 ms ahead of the engine's clock
    assert json.loads(ending.payload) <= 500
