"""What a start cost, step by step, of each kind of start there is; and that nobody else pays for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.model.invocation import NO_COST
from engine.model.outcome import Outcome, StartKind
from engine.sandbox import box
from engine.sandbox.api import Ending
from engine.sandbox.counts import Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from engine.v1 import invocations_pb2
from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import engine
from tests.remains import until
from tests.sandboxes import Collected, event, real_pool, spec, write_code

pytestmark = pytest.mark.privileged

HELLO = "def handler(event, context):\n    return event\n"
GUEST = ["guest_read", "guest_prepared", "guest_imported", "guest_ready", "guest_answered"]
FORGED = """
import os, sys
def handler(event, context):
    os.write(3, (88).to_bytes(4, "little") + bytes([22, 0, 0, 0]) + b"\\xff" * 88)
    return 1
"""


async def asked(sandbox: LinuxSandbox, *, timeline: bool = True) -> Ending:
    return await sandbox.run(replace(event(1), timeline=timeline), Collected())


def phases(ending: Ending) -> list[str]:
    return [phase for phase, _ in sorted(ending.timeline, key=lambda mark: mark[1])]


def in_order(found: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether all of `expected` are in it, in their order."""
    rest = iter(found)
    return all(phase in rest for phase in expected)


async def test_a_fork_tells_each_step_of_the_engine_the_sandbox_and_the_guest(tmp_path: Path) -> None:
    async with real_pool(tmp_path / "pool") as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
        first = await asked(sandbox)
        found = phases(first)
        engines = ["leased", "zygote", "builder", "leaf", "tmp", "network", "descriptors", "forked", "framed"]
        assert in_order(found, [*engines, "initialized", "answered", "weighed"])
        boxes = [f"box_{name}" for name in box.BOOT_MARKS]
        # The guest goes on whether or not the engine has heard from it yet.
        assert in_order(found, ["descriptors", *boxes, *GUEST, "answered"])
        assert in_order(found, ["box_interpreter", "booted", "initialized"])
        assert {"box_cgroups", "box_mounts", "box_seccomp", "box_process_1"} < set(found)
        cost = first.cost
        assert min(cost.boot_minor_faults, cost.init_minor_faults) > 0
        assert min(cost.private_bytes, cost.shared_bytes) > 100_000
        assert cost.private_bytes < 64 << 20
        await sandbox.close()


async def test_a_warm_run_tells_its_own_steps_alone(tmp_path: Path) -> None:
    async with real_pool(tmp_path / "pool") as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
        await asked(sandbox)
        again = await asked(sandbox)
        assert set(phases(again)) == {"framed", "guest_read", "guest_answered", "answered", "weighed"}
        assert again.cost.boot_minor_faults == again.cost.init_minor_faults == 0
        assert again.cost.private_bytes > 0
        await sandbox.close()


async def parked_one(pool: LinuxPool, code: Path) -> LinuxSandbox:
    await until(lambda: pool.counts.alive(Resource.PARKED) >= 1, what="one is parked")
    sandbox = await pool.start(spec(code))
    assert sandbox.kind is StartKind.PARKED
    return sandbox


@pytest.mark.parametrize("own_process", [False, True])
async def test_a_parked_start_tells_its_limits_and_its_code(tmp_path: Path, own_process: bool) -> None:
    park = ParkSettings(floor=1, ceiling=1, rate_per_s=1_000)
    async with real_pool(tmp_path / "pool", park=park, own_process=own_process) as pool:
        sandbox = await parked_one(pool, write_code(tmp_path / "code", HELLO))
        ending = await asked(sandbox)
        found = phases(ending)
        assert in_order(found, ["leased", "limits", "code", "mounted", "assigned", "framed", *GUEST, "answered"])
        assert not [phase for phase in found if phase.startswith("box_")]
        assert ending.cost.init_minor_faults > 0
        await sandbox.close()


async def test_who_does_not_ask_costs_the_guest_nothing(tmp_path: Path) -> None:
    async with real_pool(tmp_path / "pool") as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
        for _ in range(2):
            ending = await asked(sandbox, timeline=False)
            assert not [phase for phase in phases(ending) if phase.startswith(("guest_", "box_", "weighed"))]
            assert ending.cost == NO_COST
        await sandbox.close()


async def test_one_that_ends_with_its_event_has_a_timeline_and_no_memory(tmp_path: Path) -> None:
    source = "import os\ndef handler(event, context):\n    os._exit(3)\n"
    async with real_pool(tmp_path / "pool") as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
        ending = await asked(sandbox)
        assert ending.outcome is Outcome.EXITED
        assert in_order(phases(ending), ["leased", "box_cloned", "booted", "initialized", "answered"])
        assert ending.cost.private_bytes == 0
        await sandbox.close()


async def test_a_guest_that_forges_its_moments_fools_nobody_but_itself(tmp_path: Path) -> None:
    async with real_pool(tmp_path / "pool") as pool:
        code = write_code(tmp_path / "code", FORGED)
        asking = await pool.start(spec(code))
        ending = await asked(asking)
        # Its guest's own come after the forged ones, and count.
        assert ending.outcome is Outcome.OK
        assert in_order(phases(ending), [*GUEST, "answered"])
        await asking.close()
        silent = await pool.start(spec(code))
        assert (await asked(silent, timeline=False)).outcome is Outcome.EXITED
        await silent.close()


async def test_the_report_has_it_over_grpc_on_request_counted_from_acceptance(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        await running.grpc.create("hello", zip_of(HELLO))
        for kind in (pb.START_KIND_FORK, pb.START_KIND_WARM):
            request = invocations_pb2.InvokeRequest(name="functions/hello", timeline=True)
            report = (await running.grpc.invocations.Invoke(request)).report
            assert report.start_kind == kind
            marks = [(mark.offset_us, mark.phase) for mark in report.timeline]
            assert [at for at, _ in marks] == sorted(at for at, _ in marks)
            assert marks[0][0] >= 0
            assert (marks[0][1], marks[-1]) == ("checked", (report.total_us, "recorded"))
            assert in_order([phase for _, phase in marks], ["framed", "guest_read", "guest_answered", "answered"])
            assert report.cost.private_bytes > 0
        answer = await running.grpc.invoke("hello")
        host = await running.grpc.counts()
        counted = {stats.kind: stats for stats in host.starts}
        assert set(counted) == {pb.START_KIND_FORK, pb.START_KIND_WARM}
        assert (counted[pb.START_KIND_FORK].start.count, counted[pb.START_KIND_WARM].start.count) == (1, 0)
        assert counted[pb.START_KIND_WARM].handler.count == 2
        assert counted[pb.START_KIND_FORK].start.sum_us > 0
        assert answer.report is not None
        assert not answer.report.timeline
        assert not answer.report.HasField("cost")
