"""A lane that decides by a real scheduler, and guests that are the other ends of real pipes."""

from __future__ import annotations

import json
import os
import select
import time
from dataclasses import dataclass, field
from typing import Any

from engine.guest import wire
from engine.sandbox import box
from engine.scheduler import core as native

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
ANSWER = wire.frame(wire.RESULT, b'{"a":1}')
EVENT = b'{"b":2}'


class Caller(box.Call):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.then: Any = None  # called by `answered`

    def answered(self, body: bytes) -> None:
        self.told.append(body)
        if self.then is not None:
            self.then()

    def handed(self) -> None:
        self.told.append("handed")

    def failed(self, error: BaseException) -> None:
        self.told.append(error)


@dataclass
class Guest:
    """A sandbox: its seat, and the far ends of its pipes."""

    sandbox: int
    seat: box.Seat
    answers: int
    events: int
    log: int
    own: list[int]
    data: list[bytes | None]
    answered: list[tuple[bytes, bool]]
    caller: Caller | None = None

    def says(self, data: bytes) -> None:
        os.write(self.answers, data)

    def hears(self) -> tuple[dict[str, Any], bytes]:
        """The next event: its meta and its payload."""
        length, kind = wire.HEADER.unpack(os.read(self.events, wire.HEADER.size))
        body = os.read(self.events, length)
        assert (kind, len(body)) == (wire.EVENT, length)
        (size,) = wire.META.unpack_from(body)
        return json.loads(body[4 : 4 + size]), body[4 + size :]

    def leaves(self) -> None:
        """Both pipes are closed at its side."""
        for fd in (self.answers, self.events):
            os.close(fd)
        self.own = [fd for fd in self.own if fd not in (self.answers, self.events)]


@dataclass
class Bed:
    """All of it. `core` may be another's."""

    core: native.Core = field(default_factory=lambda: native.Core(room=65_536, account_limit=65_536, rate_factor=0))
    lane: box.Lane = field(default_factory=box.Lane)
    guests: dict[int, Guest] = field(default_factory=dict)
    timeout_ms: int = 60_000
    given_back: int = 0
    made: int = 0

    def __post_init__(self) -> None:
        self.lane.join(self.core, self._given_back)

    def _given_back(self) -> None:
        self.given_back += 1

    def target(self) -> int:
        return self.core.target_add(self.core.function_add())

    def line(self, target: int) -> box.Line:
        return box.Line(target, self.timeout_ms, 10_000, ARN, None)

    def sits(self, sandbox: int) -> Guest:
        """Pipes and a seat for a sandbox that the scheduler has."""
        own: list[int] = []
        for _ in range(3):
            own += os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        answers, answers_far, events_far, events, log, log_far = own
        data: list[bytes | None] = []
        answered: list[tuple[bytes, bool]] = []
        seat = box.Seat(
            self.lane,
            answers,
            events,
            log,
            None,
            None,
            lambda body, at_ns, logged, *used: answered.append((body, logged)),
            data.append,
            data.append,  # type: ignore[arg-type]
        )
        seat.watch(True)
        guest = self.guests[sandbox] = Guest(sandbox, seat, answers_far, events_far, log_far, own, data, answered)
        return guest

    def warm(self, target: int, *, offered: bool = True) -> Guest:
        """A sandbox that has served one event."""
        now = time.monotonic_ns()
        assert self.core.submit(target, now) == native.START
        call, sandbox = self.core.call, self.core.sandbox
        guest = self.sits(sandbox)
        self.core.started(sandbox, now, guest.seat.id)
        if offered:
            guest.seat.offer(0, 0, 0, 0)
        self.core.finished(call, True, now)
        return guest

    def submit(self, line: box.Line, caller: Caller, payload: bytes = EVENT) -> int:
        self.made += 1
        request_id = f"{self.made:08X}-0000-4000-8000-00000000000a"
        found = self.lane.submit(caller, line, payload, request_id, time.monotonic_ns())
        if caller.sandbox_id:
            self.guests[caller.sandbox_id].caller = caller
        return found

    def ready(self, within_s: float = 0) -> bool:
        """Whether the lane says that it has something to do."""
        return bool(select.select([self.lane.fileno()], [], [], within_s)[0])

    def turn(self) -> None:
        """Until there is nothing more to do."""
        while self.ready() and self.lane.turn():
            pass

    def close(self) -> None:
        for guest in self.guests.values():
            guest.seat.close()
        self.lane.close()
        for guest in self.guests.values():
            for fd in guest.own:
                os.close(fd)
