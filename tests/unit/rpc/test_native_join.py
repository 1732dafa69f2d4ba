"""Plain calls between the engine's own front and the dispatch loop: each is answered once, by whoever has it."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from engine.guest import wire as guest_wire
from engine.v1 import invocations_pb2 as pb
from tests.remains import until
from tests.unit.rpc import wire
from tests.unit.rpc.joins import EVENT, PLAIN, Join, answer, joined
from tests.unit.rpc.native import PATH
from tests.unit.rpc.wire import CALL, DATA, END_HEADERS, END_STREAM, HEADERS, Client, frame, headers, message

ID = "6f0C0c5e-7f57-4d6e-a1c8-1d6c1f1f2b3a"
LEFT = (1, 0, 0, 1)
TOLD = (1, 1, 0, 0)


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    async with joined() as join:
        yield join


async def test_a_plain_call_goes_to_its_guest_and_back_past_the_servicer(join: Join) -> None:
    guest = join.open(memory_mb=128, version="$LATEST")
    call = join.call(request_id=ID)
    await join.taken()
    meta, payload = guest.hears()
    assert (meta["request_id"], payload) == (ID, EVENT)
    answer(guest)
    response = pb.InvokeResponse.FromString(await call)
    assert response.payload == b'{"a":1}'
    report = response.report
    assert (report.request_id, report.memory_mb, report.executed_version) == (ID, 128, "$LATEST")
    await join.idle()
    assert join.native.counts == TOLD
    assert (join.all, join.methods.contexts) == ([], [])
    (record,) = join.records
    assert (record[1], record[-2:]) == (ID, (len(EVENT), 7))
    assert join.bed.core.concurrency == 0


async def test_an_id_is_made_where_none_is_given(join: Join) -> None:
    guest = join.open()
    call = join.call()
    await join.taken()
    meta, _ = guest.hears()
    answer(guest)
    assert pb.InvokeResponse.FromString(await call).report.request_id == meta["request_id"]


@pytest.mark.parametrize(
    "changed",
    [
        {"payload": b""},
        {"payload": b"{"},
        {"payload": b'"\xc3\xa4"'},
        {"payload": b'"' + b"x" * 65_000 + b'"'},
        {"payload": b'"' + b"x" * 200_000 + b'"'},
        {"request_id": "x" * 36},
        {"request_id": "6f0c"},
        {"client_context": b"{}"},
        {"log_mode": pb.LOG_MODE_NONE},
        {"timeline": True},
        {"payload_encoding": pb.PAYLOAD_ENCODING_JSON},
        {"tenant_id": ""},
        {"identity": pb.CognitoIdentity()},
        {"name": "functions/g"},
        {"name": "functions/f/versions/1"},
        {"name": "functions/f\0"},
        {"name": "f"},
    ],
    ids=lambda changed: "-".join(f"{name}={str(value)[:20]}" for name, value in changed.items()),
)
async def test_what_is_not_plain_is_the_servicers(join: Join, changed: dict[str, Any]) -> None:
    guest = join.open()
    request = pb.InvokeRequest(**{"name": "functions/f", "payload": EVENT} | changed).SerializeToString()
    assert await join.channel.unary_unary(PATH)(request, timeout=60) == request
    await join.idle()
    assert join.native.counts == (0, 0, 0, 0)
    assert join.bed.core.busy(guest.sandbox) == 0


async def test_a_call_of_a_function_that_is_dropped_is_the_servicers(join: Join) -> None:
    join.open()
    join.door.drop("f")
    await join.call()
    assert len(join.methods.contexts) == 1


async def test_a_call_while_all_sandboxes_are_busy_is_the_servicers(join: Join) -> None:
    guest = join.open()
    first = join.call()
    await join.taken()
    second = join.call()
    await second
    assert len(join.methods.contexts) == 1
    answer(guest)
    await first
    assert join.native.counts == TOLD


async def test_a_call_that_waits_for_a_sandbox_tells_for_how_long(join: Join) -> None:
    guest = join.open()
    join.bed.core.configure(time.monotonic_ns(), room=1)
    calls = []
    for number in range(2):
        calls.append(join.call())
        await join.taken(number + 1)
    await asyncio.sleep(0.002)
    for call in calls:
        guest.hears()
        answer(guest)
        report = pb.InvokeResponse.FromString(await call).report
        assert (report.queue_us >= 1_000) is (call is calls[1])
        assert report.total_us >= report.queue_us + report.handler_us
    assert join.native.counts == (2, 2, 0, 0)


@pytest.mark.parametrize("timeout", ["1H", "50m"], ids=["left", "late"])
async def test_a_call_that_waits_may_be_given_up(join: Join, timeout: str) -> None:
    guest = join.open()
    join.bed.core.configure(time.monotonic_ns(), room=1)
    first = join.call()
    await join.taken()
    client = await Client.open(join.port)
    client.say(frame(HEADERS, END_HEADERS, 1, headers([*CALL, ("grpc-timeout", timeout)])))
    client.say(frame(DATA, END_STREAM, 1, message(PLAIN)))
    await join.taken(2)
    if timeout == "1H":
        client.say(frame(wire.RST_STREAM, 0, 1, b"\0\0\0\x08"))
    else:
        await client.until(HEADERS, 1)
        assert client.fields["grpc-status"] == "4"
    await until(lambda: join.native.counts == (2, 0, 0, 1), what="it is cancelled")
    assert join.bed.lane.waiting == 0
    guest.hears()
    answer(guest)
    await first
    await client.close()
    await join.idle()
    assert join.native.counts == (2, 1, 0, 1)


@pytest.mark.parametrize("size", [1, 5, 1_000])
async def test_a_call_that_comes_in_parts_is_answered_all_the_same(join: Join, size: int) -> None:
    guest = join.open()
    client = await Client.open(join.port)
    said = frame(HEADERS, END_HEADERS, 1, headers(CALL)) + frame(DATA, END_STREAM, 1, message(PLAIN))
    for at in range(0, len(said), size):
        client.say(said[at : at + size])
        await client.writer.drain()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await until(lambda: join.native.counts[0] or join.methods.contexts, what="it is there")
    if not join.methods.contexts:
        answer(guest)
    assert (await client.until(HEADERS, 1)).flags & END_STREAM == 0
    await client.until(HEADERS, 1)
    assert client.fields["grpc-status"] == "0"
    await client.close()
    await join.idle()


async def test_calls_that_come_together_are_answered_together(join: Join) -> None:
    client = await Client.open(join.port)

    def submit(number: int) -> None:
        client.say(frame(HEADERS, END_HEADERS, 2 * number + 1, headers(CALL)))
        client.say(frame(DATA, END_STREAM, 2 * number + 1, message(PLAIN)))

    for guest in await join.all_taken(8, submit):
        answer(guest)
    for _ in range(8):
        while not (await client.until(HEADERS)).flags & END_STREAM:
            pass
        assert client.fields["grpc-status"] == "0"
    await client.close()
    await join.idle()
    assert join.native.counts == (8, 8, 0, 0)


async def test_a_client_who_gives_a_call_up_has_it_cancelled(join: Join) -> None:
    join.open()
    call = join.call()
    await join.taken()
    call.cancel()
    await join.idle()
    assert join.native.counts == LEFT
    assert [standing.left for standing in join.all] == [1]
    assert join.handed == join.all


async def test_a_connection_that_is_lost_cancels_its_calls(join: Join) -> None:
    client = await Client.open(join.port)

    def submit(number: int) -> None:
        client.say(frame(HEADERS, END_HEADERS, 2 * number + 1, headers(CALL)))
        client.say(frame(DATA, END_STREAM, 2 * number + 1, message(PLAIN)))

    await join.all_taken(3, submit)
    client.writer.transport.abort()
    await join.idle()
    assert join.native.counts == (3, 0, 0, 3)
    assert [standing.left for standing in join.all] == [1, 1, 1]


async def test_deadlines_end_their_calls_and_no_other(join: Join) -> None:
    client = await Client.open(join.port)
    timeouts = ["400m", "200m", "1H", "300m"]

    def submit(number: int) -> None:
        fields = headers([*CALL, ("grpc-timeout", timeouts[number])])
        client.say(frame(HEADERS, END_HEADERS, 2 * number + 1, fields))
        client.say(frame(DATA, END_STREAM, 2 * number + 1, message(PLAIN)))

    guests = await join.all_taken(4, submit)
    for _ in range(3):
        assert (await client.until(HEADERS)).stream != 5
        assert client.fields["grpc-status"] == "4"
    await until(lambda: join.native.counts[3] == 3, what="all three are cancelled")
    assert sum(standing.left for standing in join.all) == 3
    for guest in guests:
        answer(guest)
    await client.until(DATA, 5)
    assert join.native.counts == (4, 1, 0, 3)
    await client.close()


@pytest.mark.parametrize("timeout", ["1n", "0S", "100u", "30m"])
async def test_the_server_ends_a_call_whose_client_does_not(join: Join, timeout: str) -> None:
    join.open()
    client = await Client.open(join.port)
    client.say(
        frame(HEADERS, END_HEADERS, 1, headers([*CALL, ("grpc-timeout", timeout)])),
        frame(DATA, END_STREAM, 1, message(PLAIN)),
    )
    assert (await client.until(HEADERS, 1)).flags & END_STREAM
    assert client.fields["grpc-status"] == "4"
    assert client.fields["grpc-message"] == "Deadline Exceeded"
    await client.close()
    await join.idle()
    assert [standing.left for standing in join.all] == [1]


@pytest.mark.parametrize("timeout", ["99999999H", "99999999S", "1H"])
async def test_a_deadline_that_is_far_off_does_nothing(join: Join, timeout: str) -> None:
    guest = join.open()
    client = await Client.open(join.port)
    client.say(
        frame(HEADERS, END_HEADERS, 1, headers([*CALL, ("grpc-timeout", timeout)])),
        frame(DATA, END_STREAM, 1, message(PLAIN)),
    )
    await join.taken()
    answer(guest)
    await client.until(HEADERS, 1)
    await client.until(HEADERS, 1)
    assert client.fields["grpc-status"] == "0"
    await client.close()


@pytest.mark.parametrize("timeout", ["1", "S", "123456789S", "1x", "-1S", "1.5S"])
async def test_a_timeout_that_is_none_is_refused_as_the_servicers_are(join: Join, timeout: str) -> None:
    join.open()
    client = await Client.open(join.port)
    client.say(
        frame(HEADERS, END_HEADERS, 1, headers([*CALL, ("grpc-timeout", timeout)])),
        frame(DATA, END_STREAM, 1, message(PLAIN)),
    )
    assert (await client.until(HEADERS, 1)).flags & END_STREAM
    assert client.fields["grpc-status"] == "13"
    await client.close()
    assert join.native.counts == (0, 0, 0, 0)


async def test_an_answer_that_its_client_does_not_read_holds_no_sandbox(join: Join) -> None:
    guest = join.open()
    client = await Client.open(join.port, (4, 0))  # SETTINGS_INITIAL_WINDOW_SIZE
    client.say(frame(HEADERS, END_HEADERS, 1, headers(CALL)), frame(DATA, END_STREAM, 1, message(PLAIN)))
    await join.taken()
    answer(guest, b'"' + b"x" * 9_000 + b'"')
    await until(lambda: join.bed.core.concurrency == 0, what="its sandbox is free")
    assert join.native.counts == TOLD
    assert join.native.under_way == 1
    client.say(frame(wire.WINDOW_UPDATE, 0, 1, struct.pack(">I", 1 << 20)))
    size = 0
    while size < 9_000:
        size += len((await client.until(DATA, 1)).body)
    await client.until(HEADERS, 1)
    assert client.fields["grpc-status"] == "0"
    await client.close()
    await join.idle()


async def test_a_client_who_leaves_an_answer_unread_leaves_nothing(join: Join) -> None:
    guest = join.open()
    client = await Client.open(join.port, (4, 0))
    client.say(frame(HEADERS, END_HEADERS, 1, headers(CALL)), frame(DATA, END_STREAM, 1, message(PLAIN)))
    await join.taken()
    answer(guest)
    await until(lambda: join.native.counts[1] == 1, what="it is answered")
    client.writer.transport.abort()
    await join.idle()
    assert join.native.counts == TOLD


async def test_what_the_loop_hands_over_goes_on_in_python(join: Join) -> None:
    guest = join.open()
    call = join.call()
    await join.taken()
    guest.says(guest_wire.frame(guest_wire.ERROR, b"{}"))
    await until(lambda: join.handed, what="it is handed over")
    assert join.native.counts == (1, 0, 1, 0)
    assert (join.begun, join.native.under_way, len(join.server.calls)) == (1, 0, 1)
    join.handed[0].future.set_result(b"from Python")
    assert await call == b"from Python"
    await join.idle()
    assert join.handed[0].left == 0


async def test_a_client_of_what_was_handed_over_may_leave_too(join: Join) -> None:
    guest = join.open()
    call = join.call()
    await join.taken()
    guest.says(guest_wire.frame(guest_wire.ERROR, b"{}"))
    await until(lambda: join.handed, what="it is handed over")
    call.cancel()
    await join.idle()
    assert join.handed[0].future.cancelled()


async def test_a_call_that_was_handed_over_keeps_its_deadline(join: Join) -> None:
    guest = join.open()
    call = join.call(timeout=0.3)
    await join.taken()
    guest.says(guest_wire.frame(guest_wire.ERROR, b"{}"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await join.idle()
    assert join.handed[0].future.cancelled()


async def test_a_call_whose_sandbox_is_lent_is_pythons_at_once(join: Join) -> None:
    line_of = join.open()
    line_of.seat.take()  # warm, and nobody's of the loop
    call = join.call()
    await until(lambda: join.handed, what="it is handed over")
    join.handed[0].future.set_result(b"lent")
    assert await call == b"lent"
    assert join.native.counts == (1, 0, 1, 0)


async def test_a_server_that_stops_ends_what_is_under_way(join: Join) -> None:
    join.open()
    call = join.call()
    await join.taken()
    await join.server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert caught.value.details() == "the server has stopped the call"
    assert [standing.left for standing in join.all] == [1]
    assert join.none == 1


async def test_a_server_that_stops_waits_for_what_is_under_way(join: Join) -> None:
    guest = join.open()
    call = join.call()
    await join.taken()
    stopping = asyncio.ensure_future(join.server.stop(60))
    await asyncio.sleep(0.05)
    answer(guest)
    assert pb.InvokeResponse.FromString(await call).payload == b'{"a":1}'
    await stopping
    assert join.native.counts == TOLD


async def test_a_join_that_is_shut_leaves_all_to_the_servicer(join: Join) -> None:
    join.open()
    join.native.shut()
    await join.call()
    assert len(join.methods.contexts) == 1
    assert join.native.counts == (0, 0, 0, 0)
