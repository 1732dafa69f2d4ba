"""What runs is reported, logged and recorded as on AWS Lambda."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from msgspec.structs import replace

from engine.errors import NotFound
from engine.invoke.logtail import FINISH_LINES
from engine.invoke.specs import Specs
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, RunSink
from engine.sandbox.stub import Gate, behind
from tests.unit.invoke.things import REQUEST_ID, WALL_NS, Code, Front, House, function, request


async def test_an_event_comes_back_with_a_report_and_the_log() -> None:
    house = House()
    done = await house.pipeline.invoke(request(b'{"a": 1}'))
    assert done.payload == b'{"a": 1}'
    assert done.error is None
    report = done.report
    assert (report.request_id, report.outcome, report.start_kind) == (REQUEST_ID, Outcome.OK, StartKind.FORK)
    assert (report.start_us, report.init_us, report.handler_us, report.billed_ms) == (1_000, 2_000, 3_000, 5)
    assert report.memory_mb == 128
    assert report.executed_version == "$LATEST"
    assert report.total_us > 0
    assert report.timeline == ()
    digest = house.lines()[0].rpartition(":")[2]
    assert len(digest) == 64
    assert house.lines() == [
        f"INIT_START Runtime Version: python:3.11.2\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:{digest}",
        f"START RequestId: {REQUEST_ID} Version: $LATEST",
        f"END RequestId: {REQUEST_ID}",
        f"REPORT RequestId: {REQUEST_ID}\tDuration: 3.00 ms\tBilled Duration: 5 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 1 MB\tInit Duration: 2.00 ms\t",
    ]
    assert done.log_tail.decode().splitlines() == house.lines()[1:], "AWS's tail begins after INIT_START"
    assert house.recorded == [report]


async def test_what_a_sandbox_used_is_in_the_report_field_by_field() -> None:
    used = {"peak_memory_bytes": 1, "cpu_us": 2, "tmp_written_bytes": 3, "network_in_bytes": 4, "network_out_bytes": 5}

    async def script(event: Event, sink: RunSink) -> Ending:
        return replace(Ending(Outcome.OK, True, b"1"), **used)

    house = House(script)
    report = (await house.pipeline.invoke(request())).report
    assert {name: getattr(report, name) for name in used} == used


async def test_a_warm_invocation_has_no_init_in_its_report() -> None:
    house = House()
    await house.pipeline.invoke(request())
    report = (await house.pipeline.invoke(request())).report
    assert (report.start_kind, report.start_us, report.init_us, report.billed_ms) == (StartKind.WARM, 0, 0, 3)
    assert "Init Duration" not in house.lines()[-1]
    assert [line.split()[0] for line in house.lines()[4:]] == ["START", "END", "REPORT"]


async def test_the_front_hears_of_the_start_before_anything_else_and_of_the_rest_in_order() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        sink.output(b"one\ntw")
        sink.chunk(b"part")
        sink.output(b"o\nthree")
        return b"null"

    front, house = Front(), House(script)
    await house.pipeline.invoke(request(), front)
    assert front.seen[1][1] == house.lines()[0]
    assert front.seen[:1] + front.seen[2:7] == [
        ("started", (REQUEST_ID, "$LATEST", StartKind.FORK)),
        ("log", f"START RequestId: {REQUEST_ID} Version: $LATEST"),
        ("log", "one"),
        ("chunk", b"part"),
        ("log", "two"),
        ("log", "three"),
    ]
    assert [kind for kind, _ in front.seen[7:]] == ["log", "log"]


async def test_the_sandbox_gets_what_the_function_is() -> None:
    seen: list[Event] = []

    async def script(event: Event, sink: RunSink) -> bytes:
        seen.append(event)
        return b"null"

    house = House(script)
    house.registry.put(function(environment={"MINE": "1", "AWS_REGION": "no"}))
    await house.pipeline.invoke(request(b"", client_context=b'{"a":1}'))
    spec = house.pool.sandboxes[0].spec
    assert spec.key == ("f", "$LATEST", "1")
    assert spec.code_path == "/code/" + "a" * 64
    assert spec.environment["MINE"] == "1"
    assert spec.environment["AWS_REGION"] == "us-east-1"
    assert spec.environment["AWS_LAMBDA_LOG_STREAM_NAME"].startswith("2026/11/23/[$LATEST]")
    event = seen[0]
    assert event.payload == b"{}"
    assert event.function_arn == "arn:aws:lambda:us-east-1:000000000000:function:f"
    assert event.client_context == b'{"a":1}'
    assert event.timeout_ms == 60_000
    seconds = f"{WALL_NS // 1_000_000_000:08x}"
    assert event.trace_id == f"Root=1-{seconds}-6f0a2c1e98d14c5e9d4f1f2e;Parent=9d4f1f2e3d4c5b6a;Sampled=0"
    await house.pipeline.invoke(replace(request(), trace_id="Root=1-2-3;Sampled=1"))
    assert seen[1].trace_id == "Root=1-2-3;Sampled=1", "of a caller who is traced"


async def test_a_request_without_an_id_gets_one() -> None:
    done = await House().pipeline.invoke(request(request_id=""))
    assert str(uuid.UUID(done.report.request_id)) == done.report.request_id


async def test_a_function_that_writes_much_and_returns_has_all_of_it_in_the_log_before_the_end() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        sink.output(b"".join(b"%d\n" % number for number in range(5_000)))
        return b"null"

    house = House(script)
    await house.pipeline.invoke(request())
    assert house.lines()[2:-2] == [str(number) for number in range(5_000)]
    assert house.logs.lost == 0


async def test_lines_that_came_too_fast_are_counted_for_who_keeps_them() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        sink.output(b"".join(b"%d\n" % number for number in range(3 * FINISH_LINES)))
        return b"null"

    house = House(script)
    await house.pipeline.invoke(request())
    (said,) = (line for line in house.lines() if "log lines dropped here" in line)
    assert said.startswith(f"[{house.logs.lost} log lines")


def test_what_is_prepared_belongs_to_the_state_asked_for() -> None:
    specs = Specs(Code(), region="us-east-1", account="0", wall_ns=lambda: 0, new_uuid=lambda: "0-0")
    first = specs.get(function(etag="1"))
    assert specs.get(function(etag="1")) is first
    second = specs.get(function(etag="2"))
    assert second.spec.key == ("f", "$LATEST", "2")
    assert (specs.holds(first), specs.holds(second)) == (False, True)


async def test_the_timeline_is_given_on_request_in_the_order_of_time_since_acceptance() -> None:
    house = House()
    done = await house.pipeline.invoke(request(timeline=True))
    phases = [phase for phase, _ in done.report.timeline]
    offsets = [offset for _, offset in done.report.timeline]
    assert phases == ["checked", "started", "recorded"]
    assert offsets == sorted(offsets)
    assert offsets[0] >= 0
    assert offsets[-1] == done.report.total_us


async def test_the_warm_path_prepares_nothing_again() -> None:
    house = House()
    for _ in range(5):
        await house.pipeline.invoke(request())
    assert house.code.gets == 1
    assert house.registry.gets == 5  # once an invocation, from memory
    assert len(house.pool.sandboxes) == 1


async def test_an_update_retires_the_sandboxes_of_the_former_state() -> None:
    house = House()
    await house.pipeline.invoke(request())
    house.registry.put(function(etag="2", environment={"V": "2"}))
    done = await house.pipeline.invoke(request())
    assert done.report.start_kind is StartKind.FORK
    assert house.pool.sandboxes[1].spec.environment["V"] == "2"
    assert house.scheduler.counts().idle == 1
    await house.scheduler.drain(0)
    assert [sandbox.closes for sandbox in house.pool.sandboxes] == [1, 1]


async def test_an_invocation_that_outlives_its_function_leaves_no_log() -> None:
    gate = Gate()
    house = House(behind(gate))
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    house.registry.remove("f")
    gate.open()
    assert (await run).report.outcome is Outcome.OK
    assert house.lines() == []


async def test_the_log_of_an_updated_function_stays() -> None:
    gate = Gate()
    house = House(behind(gate))
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    house.registry.put(function(etag="2"))
    gate.open()
    await run
    assert len(house.lines()) == 4


async def test_a_delete_ends_the_sandboxes_and_forgets_the_log() -> None:
    house = House()
    await house.pipeline.invoke(request())
    house.registry.remove("f")
    assert house.lines() == []
    assert house.scheduler.counts().idle == 0
    with pytest.raises(NotFound):
        await house.pipeline.invoke(request())


async def test_when_nobody_wants_the_tail_the_answer_comes_first_and_the_last_lines_follow_at_once() -> None:
    house = House()
    await house.pipeline.invoke(replace(request(), log_tail=False))
    assert [line.split()[0] for line in house.lines()] == ["INIT_START", "START"]
    await asyncio.sleep(0)
    assert [line.split()[0] for line in house.lines()] == ["INIT_START", "START", "END", "REPORT"]
