"""Whatever plain calls, other calls and faults come, by the loop the scheduler decides as its model does."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.guest import wire
from engine.sandbox import box
from tests.native.loops import ANSWER, Bed, Caller
from tests.native.sched.pair import Choice, Pair, play
from tests.native.sched.state import Call, No, Sandbox, Target

WEIGHTS = {
    "plain": 14,
    "answers": 10,
    "submit": 6,
    "started": 8,
    "finished": 4,
    "closed": 4,
    "odd": 2,
    "leave": 2,
    "cancel": 2,
    "died": 1,
    "function": 2,
    "target": 1,
    "target_retire": 1,
    "reserve": 1,
    "again": 1,
    "configure": 1,
}
INPUTS = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
numbers = st.integers(0, 59)
choices = st.lists(st.tuples(st.sampled_from(INPUTS), numbers, numbers), max_size=100)
settings = st.fixed_dictionaries(
    {
        "account_limit": st.sampled_from([2, 6, 12, 40]),
        "room": st.sampled_from([1, 2, 4, 8, 40]),
        "min_unreserved": st.sampled_from([0, 3]),
    }
)


class Joined:
    """A pair of schedulers, the native one of which a lane decides by."""

    def __init__(self, **settings: int) -> None:
        self.pair = Pair(**settings)
        self.pair.now = time.monotonic_ns()
        self.bed = Bed(self.pair.core)
        self.plain: dict[Call, Caller] = {}  # those that the loop has
        self.seated: set[Sandbox] = set()

    def one(self, what: str, first: int, second: int) -> None:
        pair, model = self.pair, self.pair.model
        pair.now = time.monotonic_ns()
        others = [call for call in model.calls if call.state == "running" and call not in self.plain]
        plain = list(self.plain)
        match what:
            case "plain" if model.targets:
                self.submit(model.targets[first % len(model.targets)])
            case "answers" if plain:
                self.answer([plain[(first + step) % len(plain)] for step in range(min(len(plain), 1 + second % 4))])
            case "odd" if plain:
                self.odd(plain[first % len(plain)], second)
            case "leave" if plain:
                self.leave(plain[first % len(plain)])
            case "finished" | "again" if others:
                call = others[first % len(others)]
                if what == "again":
                    pair.again(call, ("dead", "refused", "init")[second % 3])
                else:
                    pair.plain("finished", call, second % 4 > 0)
            case "cancel" if waits := [call for call in model.calls if call not in self.plain]:
                pair.plain("cancel", waits[first % len(waits)])
            case "configure":
                play(pair, [("configure", 0, second)])
            case "started" | "closed" | "submit" | "died" | "function" | "target" | "target_retire" | "reserve":
                play(pair, [(what, first, second)])
        self.seat()
        pair.check()
        assert self.bed.core.concurrency == len(model.calls)

    def seat(self) -> None:
        """Those that have come get their seats, those that are gone lose them."""
        model, ids = self.pair.model, self.pair.ids
        for sandbox in model.sandboxes:
            if sandbox not in self.seated and sandbox.state != "starting":
                guest = self.bed.sits(ids[sandbox])
                self.pair.core.set_user(ids[sandbox], guest.seat.id)
                guest.seat.offer(0, 0, 0, 0)
                self.seated.add(sandbox)
            elif sandbox in self.seated and sandbox.state == "idle":
                self.bed.guests[ids[sandbox]].seat.offer(0, 0, 0, 0)

    def submit(self, target: Target) -> None:
        pair, caller = self.pair, Caller()
        before = pair.core.counts()
        try:
            expected = pair.model.submit_warm(target, pair.now)
        except No:
            expected = None
        found = self.bed.submit(self.bed.line(pair.ids[target]), caller)
        if expected is None or expected.call is None:
            assert found == box.ELSEWHERE
            assert pair.core.counts() == before
            return
        assert found == box.TAKEN
        assert expected.sandbox is not None
        assert caller.sandbox_id == pair.ids[expected.sandbox]
        pair.ids[expected.call] = caller.call_id
        self.plain[expected.call] = caller
        pair.act()

    def answer(self, calls: list[Call]) -> None:
        """All of them are there before the loop looks."""
        for call in calls:
            self.bed.guests[self.pair.ids[call.sandbox]].says(ANSWER)
        self.bed.turn()
        for call in calls:
            self.pair.model.finished(call, True, self.pair.now)
            assert self.plain.pop(call).told == [b'{"a":1}']
        self.pair.act()

    def odd(self, call: Call, how: int) -> None:
        guest = self.bed.guests[self.pair.ids[call.sandbox]]
        guest.says((b"noise", ANSWER[:-1], wire.frame(wire.ERROR, b"{}"), wire.HEADER.pack(2**32 - 1, 18))[how % 4])
        self.bed.turn()
        assert self.plain.pop(call).told == ["handed"]
        self.pair.check()
        self.pair.plain("finished", call, how % 4 == 2)
        guest.data.clear()

    def leave(self, call: Call) -> None:
        self.bed.lane.cancel(self.plain[call])
        assert self.plain.pop(call).told == ["handed"]
        self.pair.plain("cancel", call)

    def ended(self) -> None:
        for call in list(self.plain):
            self.answer([call])
        self.bed.close()


def played(inputs: list[Choice], **settings: int) -> Joined:
    joined = Joined(**settings)
    try:
        for _ in range(2):
            joined.one("function", 0, 0)
        for which in range(6):  # sandboxes that are warm, of both
            joined.one("submit", which, 0)
        for what in ["started"] * 6 + ["finished"] * 6:
            joined.one(what, 0, 1)
        for what, first, second in inputs:
            joined.one(what, first, second)
    finally:
        joined.ended()
    return joined


@given(choices, settings)
def test_every_decision_is_the_models(inputs: list[Choice], set_to: dict[str, Any]) -> None:
    played(inputs, **set_to)


def test_a_history_of_the_usual_comes_to_every_kind_of_end() -> None:
    rounds: list[Choice] = [("plain", 0, 0), ("answers", 0, 0), ("plain", 0, 0), ("odd", 0, 2), ("plain", 0, 0)]
    joined = played([*rounds, ("leave", 0, 0)])
    assert joined.bed.lane.counts == (3, 1, 2)
