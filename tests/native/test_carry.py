"""The carrier of an answer's chunks: every byte once and in order, whatever the guest and the client do."""

from __future__ import annotations

import fcntl
import os
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from engine.guest import wire
from engine.rest import eventstream
from engine.sandbox.box import EMPTY, END, FRAME, FULL, GONE, Carrier

MUCH = 1 << 40


@dataclass
class Pair:
    """A guest's pipe and a client's socket, and the carrier between them."""

    answers: int
    guest: int
    engine: socket.socket
    client: socket.socket
    received: bytearray = field(default_factory=bytearray)

    def carrier(self, *, left: int = MUCH, first: bytes = b"", read: bytes = b"") -> Carrier:
        carrier = Carrier(self.engine.fileno(), first)
        assert carrier.take(self.answers, left, read)
        return carrier

    def receive(self) -> None:
        """What the client has got by now."""
        try:
            while piece := self.client.recv(1 << 20):
                self.received += piece
        except BlockingIOError:
            pass

    def body(self) -> tuple[bytes, int]:
        """What the received pieces of the chunked coding hold, and how many there were: whole ones, without an end."""
        data, pieces, rest = b"", 0, bytes(self.received)
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size, 16)
            assert count
            assert rest[count : count + 2] == b"\r\n"
            data += rest[:count]
            rest = rest[count + 2 :]
            pieces += 1
        return data, pieces


@pytest.fixture
def pair() -> Iterator[Pair]:
    answers, guest = os.pipe2(os.O_NONBLOCK)
    fcntl.fcntl(guest, fcntl.F_SETPIPE_SZ, 1 << 20)
    engine, client = socket.socketpair()
    engine.setblocking(False)
    client.setblocking(False)
    try:
        yield Pair(answers, guest, engine, client)
    finally:
        for fd in (answers, guest):
            os.close(fd)
        engine.close()
        client.close()


def chunk(data: bytes) -> bytes:
    return wire.frame(wire.CHUNK, data)


def test_chunks_that_are_there_leave_as_one_piece(pair: Pair) -> None:
    os.write(pair.guest, chunk(b"one") + chunk(b"two") + chunk(b"3"))
    assert pair.carrier().turn() == EMPTY
    pair.receive()
    assert pair.body() == (b"onetwo3", 1)


def test_a_piece_is_a_message_of_an_event_stream_where_it_has_headers(pair: Pair) -> None:
    os.write(pair.guest, chunk(b"one") + chunk(b"four" * 1_000))
    carrier = Carrier(pair.engine.fileno(), b"first", eventstream.CHUNK_HEADERS)
    assert carrier.take(pair.answers, MUCH, b"")
    assert carrier.turn() == EMPTY
    pair.receive()
    assert pair.body()[0] == b"".join(map(eventstream.payload_chunk, (b"first", b"one" + b"four" * 1_000)))
    with pytest.raises(ValueError, match="too long"):
        Carrier(pair.engine.fileno(), b"", bytes(257))


def test_what_was_read_before_comes_first(pair: Pair) -> None:
    frames = chunk(b"b" * 70_000)
    os.write(pair.guest, frames[40_000:] + chunk(b"c"))
    assert pair.carrier(first=b"a", read=frames[:40_000]).turn() == EMPTY
    pair.receive()
    assert pair.body()[0] == b"a" + b"b" * 70_000 + b"c"


@pytest.mark.parametrize("kind", [wire.RESULT, wire.ERROR, wire.TIMELINE, 0, 255])
def test_another_frame_is_left_with_all_behind_it_once_what_is_before_it_is_written(pair: Pair, kind: int) -> None:
    other = wire.frame(kind, b"{}") + chunk(b"more")
    os.write(pair.guest, chunk(b"a") + other)
    carrier = pair.carrier(left=10)
    assert carrier.turn() == FRAME
    pair.receive()
    assert pair.body() == (b"a", 1)
    assert (carrier.clean, carrier.left_bytes, carrier.rest()) == (True, 9, other)


@pytest.mark.parametrize(
    ("frame", "left"),
    [(chunk(b""), 10), (chunk(b"x" * 11), 10), (wire.HEADER.pack(wire.CHUNK_LIMIT_BYTES + 1, wire.CHUNK), MUCH)],
    ids=["empty", "over what is asked for", "over a chunk's limit"],
)
def test_a_chunk_that_may_not_be_sent_is_left_to_be_judged(pair: Pair, frame: bytes, left: int) -> None:
    os.write(pair.guest, frame)
    carrier = pair.carrier(left=left)
    assert carrier.turn() == FRAME
    pair.receive()
    assert (carrier.rest(), carrier.left_bytes, bytes(pair.received)) == (frame, left, b"")


def test_a_client_that_reads_nothing_stops_it_and_the_guest_behind_it(pair: Pair) -> None:
    carrier = pair.carrier()
    sent, found = 0, EMPTY
    while found == EMPTY:
        sent += os.write(pair.guest, chunk(b"x" * 60_000))
        found = carrier.turn()
    assert (found, carrier.turn(), carrier.flush(), carrier.clean) == (FULL, FULL, FULL, False)
    held_up = False
    while not held_up and sent < 8 << 20:
        try:
            sent += os.write(pair.guest, chunk(b"x" * 60_000))
        except BlockingIOError:
            held_up = True
        assert carrier.turn() == FULL
    assert held_up


def test_a_client_that_is_gone_is_told_and_nobody_is_killed(pair: Pair) -> None:
    pair.client.close()
    os.write(pair.guest, chunk(b"x"))
    carrier = pair.carrier()
    assert carrier.turn() == GONE
    assert carrier.flush() == GONE


def test_of_a_chunk_under_way_the_rest_is_what_is_still_to_come(pair: Pair) -> None:
    frames = chunk(b"abcdef")
    os.write(pair.guest, frames[:-2])
    carrier = pair.carrier(left=10)
    assert carrier.turn() == EMPTY
    pair.receive()
    assert pair.body()[0] == b"abcd"
    assert carrier.left_bytes == 6
    assert carrier.rest() + b"ef" == chunk(b"ef")


def test_the_end_of_the_pipe_is_told_with_what_was_cut_off(pair: Pair) -> None:
    os.write(pair.guest, chunk(b"x") + b"\1\2\3")
    carrier = pair.carrier()
    assert carrier.turn() == EMPTY
    reader, writer = os.pipe()
    os.close(writer)
    os.dup2(reader, pair.answers)
    os.close(reader)
    assert carrier.turn() == END
    assert carrier.rest() == b"\1\2\3"


def test_more_than_it_holds_is_not_taken_over(pair: Pair) -> None:
    assert not Carrier(pair.engine.fileno(), b"").take(pair.answers, MUCH, bytes(400_000))


@pytest.mark.parametrize("seed", range(5))
def test_every_byte_comes_once_and_in_order(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice((1, 7, 900, 65_536, 262_144)) for _ in range(120)]
    data = [chance.randbytes(min(size, chance.randint(1, size))) for size in sizes]
    frames = b"".join(map(chunk, data)) + wire.frame(wire.RESULT, b"{}")
    carrier = pair.carrier(first=b"first")
    at, found = 0, EMPTY
    while found in (EMPTY, FULL):
        try:
            at += os.write(pair.guest, frames[at : at + chance.randint(1, 200_000)])
        except BlockingIOError:
            pass
        if chance.random() < 0.5:
            pair.receive()
        found = carrier.turn()
    assert found == FRAME
    pair.receive()
    assert pair.body()[0] == b"first" + b"".join(data)
    assert carrier.rest() + frames[at:] == wire.frame(wire.RESULT, b"{}")
