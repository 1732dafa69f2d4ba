"""Sandboxes that have their init phase ahead of any event, and those that end while they idle, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.errors import SandboxFault
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending
from engine.sandbox.counts import Resource
from engine.sandbox.lifecycle import SandboxState
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.messages import event_frame
from engine.sandbox.pool import LinuxPool
from engine.sandbox.ready import provisioned, why_not
from engine.scheduler import core as native
from engine.scheduler.api import Counts, Work
from tests.remains import until
from tests.sandboxes import Collected, event, real_pool, run, spec, write_code
from tests.unit.scheduler.things import scheduler

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

HELLO = """
    import os, threading, time
    print("module code", os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"])
    calls = 0
    AFTER = {
        "exits": lambda: os._exit(3),
        "writes garbage": lambda: os.write(3, b"x" * 100),
        "answers an event that there is not": lambda: os.write(3, bytes((1, 0, 0, 0, 18, 0, 0, 0)) + b"1"),
        "closes its pipes": lambda: (os.close(3), os.close(4)),
    }

    def handler(event, context):
        global calls
        calls += 1
        print("call", calls)
        if "after" in event:
            threading.Thread(target=then, args=[AFTER[event["after"]]]).start()
        return calls

    def then(do):
        while not os.path.exists("/tmp/go"):
            time.sleep(0.002)
        do()
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    async with real_pool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


async def start(
    pool: LinuxPool, folder: Path, source: str = HELLO, limit_ms: int = 60_000, **changes: Any
) -> LinuxSandbox:
    return await pool.start(provisioned(spec(write_code(folder / "code", source), **changes), limit_ms))


async def prepare(sandbox: LinuxSandbox) -> tuple[Ending, Collected]:
    sink = Collected()
    return await sandbox.prepare(sink), sink


def let_go(sandbox: Any) -> None:
    """Have what is to be done after an answer done."""
    Path(f"/proc/{sandbox.pid}/root/tmp/go").touch()


class Sunk(Collected):
    """An ExpressSink."""

    def __init__(self) -> None:
        super().__init__()
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def ended(self, ending: Ending | None, error: BaseException | None = None) -> None:
        self.future.set_result(ending)


async def test_its_first_event_is_a_warm_one_that_pays_for_no_start_and_no_init_phase(
    pool: LinuxPool, tmp_path: Path
) -> None:
    sandbox = await start(pool, tmp_path)
    ready, init = await prepare(sandbox)
    assert (ready.outcome, ready.reusable, sandbox.state) == (Outcome.OK, True, SandboxState.IDLE)
    assert ready.init_us > 0
    assert ready.cpu_us > 0
    assert (init.kind, init.inits) == (StartKind.FORK, [None])
    assert bytes(init.written) == b"module code provisioned-concurrency\n"
    first, seen = await run(sandbox)
    assert (json.loads(first.payload), seen.kind, seen.inits) == (1, StartKind.WARM, [])
    assert (first.start_us, first.init_us) == (0, 0)
    assert bytes(seen.written) == b"call 1\n"
    assert first.cpu_us < ready.cpu_us + first.cpu_us, "what init used is not the event's"
    await sandbox.close()


async def test_it_takes_its_first_event_by_the_short_way(pool: LinuxPool, tmp_path: Path) -> None:
    sandbox = await start(pool, tmp_path)
    await prepare(sandbox)
    sink, one = Sunk(), event()
    assert sandbox.express(*event_frame(one), one, sink)
    ending = await sink.future
    assert json.loads(ending.payload) == 1
    await sandbox.close()


FAILURES = {
    "hangs": ("while True: pass", Outcome.TIMEOUT, "Sandbox.Timedout"),
    "hangs deaf": (
        "import signal, time\n[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]\nwhile True: time.sleep(1)",
        Outcome.TIMEOUT,
        "Sandbox.Timedout",
    ),
    "raises": ("raise ValueError('no good')", Outcome.INIT_ERROR, "ValueError"),
    "has no handler": ("x = 1", Outcome.INIT_ERROR, "Runtime.HandlerNotFound"),
    "exits well": ("import sys; sys.exit()", Outcome.EXITED, "Runtime.ExitError"),
    "exits": ("import os; os._exit(7)", Outcome.EXITED, "Runtime.ExitError (exit status 7)"),
    "crashes": ("import ctypes; ctypes.string_at(0)", Outcome.EXITED, "Runtime.ExitError (signal: segmentation fault)"),
    "is out of memory": (
        "x = [bytearray(1 << 20) for _ in range(1000)]",
        Outcome.OUT_OF_MEMORY,
        "Runtime.OutOfMemory (signal: killed)",
    ),
    "never reports": (
        "import os, time\nos.close(3)\nwhile True: time.sleep(1)",
        Outcome.EXITED,
        "Runtime.ExitError (signal: killed)",
    ),
    "writes garbage": (
        "import os, time\nos.write(3, b'x' * 100)\ntime.sleep(60)",
        Outcome.EXITED,
        "Runtime.ExitError (signal: killed)",
    ),
    "writes half a frame": (
        "import os\nos.write(3, b'\\0\\0')\nos.close(3)\nos.kill(os.getpid(), 9)",
        Outcome.EXITED,
        "Runtime.ExitError (signal: killed)",
    ),
    "answers an event that there is not": (
        "import os, time\nos.write(3, b'\\1\\0\\0\\0\\x12\\0\\0\\0' + b'1')\ntime.sleep(60)",
        Outcome.EXITED,
        "Runtime.ExitError (signal: killed)",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_each_way_in_which_it_fails_has_its_outcome_and_its_reason(
    pool: LinuxPool, tmp_path: Path, name: str
) -> None:
    source, outcome, reason = FAILURES[name]
    limit_ms = 300 if outcome is Outcome.TIMEOUT else 60_000
    sandbox = await start(pool, tmp_path, source, limit_ms, memory_mb=256)
    leaf = Path(pool.cgroup_directories["pids"]) / sandbox.id
    ending, seen = await prepare(sandbox)
    assert (ending.outcome, ending.reusable, ending.init_failed) == (outcome, False, True)
    assert why_not(ending) == f"FUNCTION_ERROR_INIT_FAILURE: {reason}"
    assert (len(seen.inits), ending.handler_us) == (1, 0)
    with pytest.raises(SandboxFault):
        await run(sandbox)
    await sandbox.close()
    assert not leaf.exists()


async def test_one_that_is_not_wanted_any_longer_is_killed_in_its_init_phase(pool: LinuxPool, tmp_path: Path) -> None:
    sandbox = await start(pool, tmp_path, "print('on', flush=True)\nwhile True: pass")
    sink = Collected()
    preparing = asyncio.ensure_future(sandbox.prepare(sink))
    await until(lambda: sink.written, within_s=30, what="the init phase")
    sandbox.kill()
    ending = await preparing
    assert (ending.outcome, ending.reusable) == (Outcome.CANCELLED, False)
    await sandbox.close()


@pytest.mark.parametrize(
    "how", ["killed", "exits", "writes garbage", "answers an event that there is not", "closes its pipes"]
)
async def test_one_that_ends_while_it_idles_is_told_of_at_once_and_leaves_nothing(
    pool: LinuxPool, tmp_path: Path, how: str
) -> None:
    sandbox = await start(pool, tmp_path)
    told = asyncio.Event()
    sandbox.on_end = told.set
    await prepare(sandbox)
    if how == "killed":
        os.kill(sandbox.pid, signal.SIGKILL)
    else:
        assert (await run(sandbox, {"after": how}))[0].outcome is Outcome.OK
        let_go(sandbox)
    await asyncio.wait_for(told.wait(), 10)
    assert sandbox.dead
    await sandbox.close()


async def test_one_that_is_closed_has_not_ended_by_itself(pool: LinuxPool, tmp_path: Path) -> None:
    sandbox = await start(pool, tmp_path)
    ends: list[int] = []
    sandbox.on_end = lambda: ends.append(1)
    await prepare(sandbox)
    await sandbox.close()
    await asyncio.sleep(0)
    assert ends == []


async def test_what_ends_while_it_idles_is_gone_before_any_event_or_timer(pool: LinuxPool, tmp_path: Path) -> None:
    sched = scheduler(pool, keep_alive_s=86_400)
    wanted = provisioned(spec(write_code(tmp_path / "code", HELLO)), 10_000)
    done = await sched.run(Work(wanted, event({"after": "exits"})), Collected())
    assert done.ending.outcome is Outcome.OK
    (held,) = sched._held.values()
    let_go(held.sandbox)
    await until(lambda: sched.counts() == Counts(0, 0, 0), what="its room is free")
    assert pool.counts.alive(Resource.SANDBOXES) == 0
    await sched.drain(0)


async def test_the_first_event_of_a_provisioned_one_pays_the_request_rate_once(pool: LinuxPool, tmp_path: Path) -> None:
    sched = scheduler(pool, max_concurrency=200, max_sandboxes=200, requests_per_concurrency=1, clock=lambda: 0)
    wanted = provisioned(spec(write_code(tmp_path / "code", HELLO)), 10_000)
    sched.set_reserved("probe", 2)
    sched.set_provisioned(wanted, 2)
    await until(lambda: sched.allocation(wanted.key).available == 2, what="two are ready")
    core, target = sched._core, sched._target_ids[wanted.key]
    for _ in range(2):  # two a second, and the clock stands still
        assert core.submit_claimed(target, 0) == native.RUN
        call, sandbox, one, sink = core.call, sched._held[core.sandbox].sandbox, event(), Sunk()
        assert sandbox.express(*event_frame(one), one, sink), "else it would be asked for once more"
        assert (await sink.future).outcome is Outcome.OK
        core.finished(call, True, 0)
    assert core.submit_claimed(target, 0) == native.NOTHING
    await sched.drain(0)
