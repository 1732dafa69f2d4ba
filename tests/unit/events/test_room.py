"""What becomes of an asynchronous event, from its acceptance to the end. Times are those of the test's own clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.errors import (
    EngineError,
    InvalidArgument,
    NotFound,
    NotInvocable,
    PayloadTooLarge,
    QueueFull,
    SandboxFault,
    Throttled,
    Unavailable,
)
from engine.model.events import EventInvokeChange
from engine.model.function import FunctionState
from engine.model.invocation import Completion, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome
from engine.registry.api import AliasChange
from tests.compat.stub_rooms import completed, failed
from tests.unit.events.conftest import Queue, turns, until

THUMBS = FunctionRef("thumbs")


async def fail(request: InvokeRequest) -> Completion:
    return failed(request, Outcome.HANDLER_ERROR, b"{}")


def throttle() -> Throttled:
    return Throttled("no", throttle_reason="ConcurrentInvocationLimitExceeded", retry_after_ms=1_000)


class Gate:
    """A function that ends when it is let."""

    def __init__(self) -> None:
        self.running: list[asyncio.Future[None]] = []
        self.most = 0

    async def __call__(self, request: InvokeRequest) -> Completion:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.running.append(done)
        self.most = max(self.most, len(self.running))
        try:
            await done
        finally:
            self.running.remove(done)
        return completed(request, b"{}")

    def let(self) -> None:
        """End one."""
        self.running[0].set_result(None)


async def test_an_event_runs_once_and_is_forgotten(queue: Queue) -> None:
    request_id = await queue.put(payload=b"7", tenant_id="blue", trace_id="Root=1", client_context=b"{}")
    assert queue.stored() == [request_id]
    await until(lambda: not queue.stored())
    (request,) = queue.runs
    assert request == InvokeRequest(THUMBS, b"7", request_id, client_context=b"{}", tenant_id="blue", trace_id="Root=1")
    await turns()
    assert (queue.counts.received, queue.counts.succeeded, queue.counts.waiting) == (1, 1, 0)


async def test_it_is_accepted_only_once_it_is_on_the_disk(queue: Queue) -> None:
    real, allowed = queue.disk.run, asyncio.Event()

    async def slow(fn: Any) -> Any:
        await allowed.wait()
        return await real(fn)

    queue.disk.run = slow  # type: ignore[method-assign]
    accepting = asyncio.ensure_future(queue.put())
    await turns()
    assert not accepting.done()
    assert queue.runs == []
    allowed.set()
    assert await accepting


async def test_what_the_disk_does_not_take_is_not_accepted_and_takes_no_room(queue: Queue) -> None:
    async def full(fn: Any) -> Any:
        raise OSError("full")

    real, queue.disk.run = queue.disk.run, full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="full"):
        await queue.put()
    queue.disk.run = real  # type: ignore[method-assign]
    assert (queue.events._line.events, queue.events._line.bytes, queue.stored()) == (0, 0, [])


async def test_a_failed_run_is_followed_by_two_after_one_minute_and_two_more(queue: Queue) -> None:
    queue.rooms.invoker.run = fail
    request_id = await queue.put()
    await until(lambda: len(queue.runs) == 1)
    await turns()
    await queue.later(59)
    assert len(queue.runs) == 1
    await queue.later(1)
    assert len(queue.runs) == 2
    await queue.later(119)
    assert len(queue.runs) == 2
    assert queue.stored() == [request_id]
    await queue.later(1)
    assert [request.request_id for request in queue.runs] == 3 * [request_id]
    await until(lambda: not queue.stored())
    await turns()
    assert queue.counts.dropped == (("RetriesExhausted", 1),)
    assert (queue.counts.retried, queue.counts.age.count) == (2, 3)
    assert queue.counts.age.sum_us == (60 + 180) * 1_000_000
    ((event, fields),) = queue.log.lines
    assert event == "async_event_dropped"
    assert (fields["request_id"], fields["why"], fields["failed_attempts"]) == (request_id, "RetriesExhausted", 3)


async def test_a_configuration_says_how_often_and_how_long(queue: Queue) -> None:
    queue.rooms.invoker.run = fail
    await queue.events.configs.put(THUMBS, EventInvokeChange(0))
    await queue.put()
    await until(lambda: not queue.stored())
    assert len(queue.runs) == 1

    await queue.events.configs.put(THUMBS, EventInvokeChange(2, 100))
    await queue.put()
    await until(lambda: len(queue.runs) == 2)
    await turns()
    await queue.later(60)
    await queue.later(60)
    await queue.later(60)
    assert len(queue.runs) == 3
    assert not queue.stored()
    assert dict(queue.counts.dropped) == {"RetriesExhausted": 1, "EventAgeExceeded": 1}


async def test_those_of_an_alias_are_its_own(queue: Queue) -> None:
    queue.rooms.invoker.run = fail
    await queue.rooms.registry.versions.publish("thumbs")
    await queue.rooms.registry.aliases.create("thumbs", "live", AliasChange("1"))
    await queue.events.configs.put(FunctionRef("thumbs", "live"), EventInvokeChange(0))
    await queue.events.enqueue(InvokeRequest(FunctionRef("thumbs", "live"), b"{}"))
    await until(lambda: not queue.stored())
    await queue.put()
    await until(lambda: len(queue.runs) == 2)
    await turns()
    assert len(queue.stored()) == 1, "the function's own has two retries"


@pytest.mark.parametrize("error", [SandboxFault("clone3", 12, "no"), Unavailable("no"), NotInvocable("no"), OSError()])
async def test_what_is_the_engines_fault_is_tried_again_and_uses_up_no_retry(queue: Queue, error: Exception) -> None:
    failures = 8

    async def broken(request: InvokeRequest) -> Completion:
        if len(queue.runs) <= failures:
            raise error
        return completed(request, b"{}")

    queue.rooms.invoker.run = broken
    await queue.put()
    await until(lambda: len(queue.runs) == 1)
    await turns()
    for backoff in range(failures):
        await queue.later((1 << backoff) - 0.5)
        assert len(queue.runs) == backoff + 1
        await queue.later(0.5)
        assert len(queue.runs) == backoff + 2
    assert not queue.stored()
    assert queue.counts.succeeded == 1


async def test_an_event_that_is_throttled_until_it_is_too_old_is_dropped(queue: Queue) -> None:
    async def full(request: InvokeRequest) -> Completion:
        raise throttle()

    queue.rooms.invoker.run = full
    await queue.put()
    await until(lambda: queue.runs)
    await turns()
    passed = 0
    while queue.stored():
        await queue.later(300)
        passed += 300
        assert passed <= 21_600 + 300
    assert passed >= 21_600
    assert queue.counts.dropped == (("EventAgeExceeded", 1),)


async def test_a_function_stopped_by_a_reservation_of_none_drops_its_events(queue: Queue) -> None:
    await queue.rooms.registry.concurrency.reserve("thumbs", 0)
    await queue.put()
    await until(lambda: not queue.stored())
    await turns()
    assert queue.runs == []
    assert queue.counts.dropped == (("ZeroReservedConcurrency", 1),)


@pytest.mark.parametrize("error", [InvalidArgument("no"), PayloadTooLarge("no")])
async def test_what_may_not_run_any_more_is_dropped_at_once(queue: Queue, error: EngineError) -> None:
    async def refuse(request: InvokeRequest) -> Completion:
        raise error

    queue.rooms.invoker.run = refuse
    await queue.put()
    await until(lambda: not queue.stored())
    await turns()
    assert queue.counts.dropped == (("Refused", 1),)


@pytest.mark.parametrize("queue", [{"async_concurrency": 0}], indirect=True)
async def test_a_name_means_what_it_means_at_delivery(queue: Queue) -> None:
    registry = queue.rooms.registry
    await registry.versions.publish("thumbs")
    await registry.aliases.create("thumbs", "live", AliasChange("1"))
    await registry.aliases.create("thumbs", "gone", AliasChange("1"))
    for alias in ("live", "gone"):
        await queue.events.enqueue(InvokeRequest(FunctionRef("thumbs", alias), b"{}"))
    await registry.aliases.delete("thumbs", "gone")
    queue.settings = type(queue.settings)(data_dir="/nowhere")
    queue.events.reload()
    await until(lambda: not queue.stored())
    await turns()
    assert [request.ref.qualifier for request in queue.runs] == ["live"]
    assert queue.counts.dropped == (("QualifierDeleted", 1),)


@pytest.mark.parametrize("queue", [{"async_concurrency": 3, "max_concurrency": 100}], indirect=True)
async def test_no_more_run_at_a_time_than_the_setting_says(queue: Queue) -> None:
    gate = queue.rooms.invoker.run = Gate()
    for _ in range(9):
        await queue.put()
    for _ in range(9):
        await until(lambda: gate.running)
        await turns()
        gate.let()
        await turns()
    await until(lambda: not queue.stored())
    assert gate.most == 3


@pytest.mark.parametrize("queue", [{"async_concurrency": 100, "max_concurrency": 4}], indirect=True)
async def test_half_of_all_concurrency_is_left_to_those_who_wait(queue: Queue) -> None:
    gate = queue.rooms.invoker.run = Gate()
    for _ in range(5):
        await queue.put()
    await turns()
    assert len(gate.running) == 2


@pytest.mark.parametrize("queue", [{"async_concurrency": 0, "async_queue_events": 10}], indirect=True)
async def test_a_full_queue_refuses_and_says_so(queue: Queue) -> None:
    for _ in range(9):
        await queue.put()
    with pytest.raises(QueueFull, match="10 events"):
        await queue.put()
    assert len(queue.stored()) == 9


@pytest.mark.parametrize("queue", [{"event_limit_bytes": 1_024, "async_event_limit_bytes": 4_096}], indirect=True)
async def test_what_would_be_refused_when_it_is_to_run_is_not_accepted(queue: Queue) -> None:
    with pytest.raises(PayloadTooLarge, match="limit 1024 bytes"):
        await queue.put(payload=b"1" * 1_025)


async def test_an_event_over_its_limit_or_of_no_json_is_refused(queue: Queue) -> None:
    with pytest.raises(PayloadTooLarge, match="too large for the Event invocation type"):
        await queue.put(payload=b"1" * 1_048_577)
    for name, fields, error in (
        ("thumbs", {"payload": b"{"}, InvalidArgument),
        ("thumbs", {"request_id": "mine"}, InvalidArgument),
        ("thumbs", {"tenant_id": ""}, InvalidArgument),
        ("other", {}, NotFound),
    ):
        with pytest.raises(error):
            await queue.put(name, **fields)
    queue.rooms.registry.states = [FunctionState.PENDING]
    with pytest.raises(NotInvocable):
        await queue.put()
    assert queue.stored() == []


@pytest.mark.parametrize("queue", [{"async_concurrency": 0}], indirect=True)
async def test_a_deleted_function_takes_its_events_along_and_the_next_of_its_name_gets_none(queue: Queue) -> None:
    await queue.put()
    await queue.put()
    await queue.rooms.registry.delete("thumbs")
    await until(lambda: not queue.stored())
    await queue.rooms.add_function("thumbs")
    queue.settings = type(queue.settings)(data_dir="/nowhere")
    queue.events.reload()
    await turns()
    assert queue.runs == []
    ((event, fields),) = queue.log.lines
    assert (event, fields["events"], fields["why"]) == ("async_events_dropped", 2, "FunctionDeleted")
    (others,) = queue.events.counts()
    assert others.dropped == (("FunctionDeleted", 2),)


@pytest.mark.parametrize("queue", [{"async_concurrency": 0}], indirect=True)
async def test_events_of_a_function_that_was_deleted_in_the_last_moment_are_dropped_at_the_start(queue: Queue) -> None:
    await queue.put()
    connection = queue.disk._connection
    connection.execute("UPDATE event SET born_us = born_us - 1")
    queue.settings = type(queue.settings)(data_dir="/nowhere")
    again = queue.made()
    await again.resume()
    await turns()
    assert (queue.runs, queue.stored()) == ([], [])
    assert queue.log.lines[-1][1]["why"] == "FunctionDeleted"


async def test_what_waits_goes_on_where_it_was_after_a_start(queue: Queue) -> None:
    queue.rooms.invoker.run = fail
    request_id = await queue.put()
    await until(lambda: len(queue.runs) == 1)
    await turns()
    queue.events.pause()
    queue.events = queue.made()
    await queue.events.resume()
    await queue.later(59)
    assert len(queue.runs) == 1
    ((event,), more) = queue.events.queued(limit=10)
    assert (event.request_id, event.failed_attempts, event.last_error, more) == (request_id, 1, "Any", 0)
    await queue.later(1)
    await queue.later(120)
    assert len(queue.runs) == 3
    assert not queue.stored()


async def test_nothing_runs_before_the_engine_is_up(queue: Queue) -> None:
    queue.events._delivery.pause()
    request_id = await queue.put()
    await turns()
    assert queue.runs == []
    queue.events.begin()
    await until(lambda: queue.runs)
    assert [request.request_id for request in queue.runs] == [request_id]


async def test_a_stop_cuts_a_run_short_and_the_event_stays(queue: Queue) -> None:
    gate = queue.rooms.invoker.run = Gate()
    request_id = await queue.put()
    await until(lambda: gate.running)
    queue.events.pause()
    with pytest.raises(Unavailable):
        await queue.put()
    await queue.events._delivery.close(0)
    assert queue.stored() == [request_id]


async def test_what_is_done_is_not_run_again_because_the_disk_was_full(queue: Queue) -> None:
    real = queue.disk.run
    broken = True

    async def run(fn: Any) -> Any:
        if broken and queue.runs:
            raise OSError("full")
        return await real(fn)

    queue.disk.run = run  # type: ignore[method-assign]
    await queue.put()
    await until(lambda: queue.log.lines)
    broken = False
    await queue.later(1)
    await until(lambda: not queue.stored())
    assert len(queue.runs) == 1


@pytest.mark.parametrize("queue", [{"async_concurrency": 0}], indirect=True)
async def test_the_queue_can_be_looked_through_in_pages(queue: Queue) -> None:
    await queue.rooms.add_function("other")
    ids = [await queue.put(name) for name in ("thumbs", "other", "thumbs", "thumbs")]
    first, after = queue.events.queued(limit=3)
    rest, end = queue.events.queued(limit=3, after=after)
    assert [event.request_id for event in (*first, *rest)] == ids
    assert end == 0
    assert [event.request_id for event in queue.events.queued("other", limit=9)[0]] == [ids[1]]
    assert queue.events.queued("none", limit=9) == ([], 0)


async def test_many_that_come_at_once_share_a_write(queue: Queue) -> None:
    real, writes = queue.disk.run, 0

    async def run(fn: Any) -> Any:
        nonlocal writes
        writes += 1
        await asyncio.sleep(0)
        return await real(fn)

    queue.disk.run = run  # type: ignore[method-assign]
    queue.events.pause()
    queue.events._paused = False
    await asyncio.gather(*(queue.put() for _ in range(100)))
    assert len(queue.stored()) == 100
    assert writes <= 3
