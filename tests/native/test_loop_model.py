"""Whatever plain calls, other calls and faults come, by the loop the scheduler decides as its model does."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.guest import wire
from engine.sandbox import box
from engine.scheduler import core as native
from tests.native.loops import ANSWER, EVENT, Bed, Caller
from tests.native.sched.pair import USER, Choice, Pair, play
from tests.native.sched.state import Call, Decision, No, Sandbox, Target

WEIGHTS = {
    "plain": 14,
    "answers": 10,
    "submit": 6,
    "started": 8,
    "finished": 4,
    "closed": 4,
    "odd": 2,
    "leave": 2,
    "left": 3,
    "cancel": 2,
    "died": 1,
    "crash": 1,
    "function": 2,
    "target": 1,
    "target_retire": 1,
    "reserve": 1,
    "again": 1,
    "configure": 1,
    "provision": 1,
    "kill": 1,
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


class LoopPair(Pair):
    """The claimed calls of which are the loop's that wait."""

    joined: Joined

    def told(self, call: Call) -> tuple[int, int, int, int, int] | None:
        return self.joined.went_on(call)

    def started(self, sandbox: Sandbox) -> Decision | None:
        self.joined.sit(sandbox)
        return super().started(sandbox)

    def seat_of(self, sandbox: Sandbox) -> int:
        return self.joined.bed.guests[self.ids[sandbox]].seat.id


class Joined:
    """A pair of schedulers, the native one of which a lane decides by."""

    def __init__(self, **settings: int) -> None:
        self.pair = LoopPair(**settings)
        self.pair.joined = self
        self.pair.now = time.monotonic_ns()
        self.bed = Bed(self.pair.core)
        self.plain: dict[Call, Caller] = {}  # those that the loop runs
        self.waits: dict[Call, Caller] = {}  # those that wait in it
        self.seated: set[Sandbox] = set()
        self.gone: set[Sandbox] = set()  # their guests are, and nobody has noticed
        self.ways: Counter[int] = Counter()  # in which those that waited went on

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
            case "cancel" if ours := [call for call in model.calls if call not in self.plain | self.waits]:
                pair.plain("cancel", ours[first % len(ours)])
            case "left" if self.waits:
                self.left(list(self.waits)[first % len(self.waits)])
            case "crash" if idle := [one for one in self.seated - self.gone if one.state == "idle"]:
                self.crash(min(idle, key=lambda one: pair.ids[one]))
            case "kill" if second % 10 == 0:
                play(pair, [("kill", 0, 0)])
            case "configure":
                play(pair, [("configure", 0, second)])
            case "started" | "closed" | "submit" | "died" | "function" | "target" | "target_retire" | "reserve":
                play(pair, [(what, first, second)])
            case "provision":
                play(pair, [(what, first, second)])
        for sandbox in model.sandboxes:
            if sandbox in self.seated and sandbox.state == "idle":
                self.bed.guests[pair.ids[sandbox]].seat.offer(0, 0, 0, 0)
        pair.check()
        assert self.bed.core.concurrency == len(model.calls)
        assert self.bed.lane.waiting == len(self.waits)
        assert all(caller.told == [] for caller in (*self.waits.values(), *self.plain.values()))

    def sit(self, sandbox: Sandbox) -> None:
        """It is there, and at rest."""
        guest = self.bed.sits(self.pair.ids[sandbox])
        guest.seat.offer(0, 0, 0, 0)
        self.seated.add(sandbox)

    def went_on(self, call: Call) -> tuple[int, int, int, int, int]:
        """One that waits no longer, as its action would say."""
        self.bed.lane.act()
        caller, ids = self.waits.pop(call), self.pair.ids
        self.ways[caller.stands] += 1
        if caller.under_way:
            assert caller.stands == box.RUNS
            self.plain[call] = caller
            self.read(call)
        else:
            assert caller.told == ["handed"]
        what = {box.RUNS: native.DO_RUN, box.CHOSEN: native.DO_RUN, box.STARTS: native.DO_START}
        return what.get(caller.stands, native.DO_REFUSE), ids[call], caller.sandbox_id, 0, USER

    def read(self, call: Call) -> None:
        """Its guest does, and has nothing of any other."""
        assert call.sandbox is not None
        caller = self.plain[call]
        meta, payload = self.bed.guests[self.pair.ids[call.sandbox]].hears()
        assert (meta["request_id"], payload) == (caller.request_id, EVENT)

    def crash(self, sandbox: Sandbox) -> None:
        guest = self.bed.guests[self.pair.ids[sandbox]]
        guest.leaves()
        guest.seat.watch(False)  # or each turn would say so
        self.gone.add(sandbox)

    def left(self, call: Call) -> None:
        caller = self.waits.pop(call)
        self.bed.lane.cancel(caller)
        assert (caller.told, caller.stands) == (["handed"], box.LEFT)
        self.pair.claimed.remove(call)
        self.pair.model.cancel(call, self.pair.now)
        self.pair.act()

    def submit(self, target: Target) -> None:
        pair, caller = self.pair, Caller()
        before = pair.core.counts()
        try:
            expected = pair.model.submit_claimed(target, pair.now)
        except No:
            expected = None
        found = self.bed.submit(self.bed.line(pair.ids[target]), caller)
        if expected is None or expected.call is None:
            assert found == box.ELSEWHERE
            assert pair.core.counts() == before
            return
        pair.ids[expected.call] = caller.call_id
        if expected.sandbox is None:
            assert (found, caller.sandbox_id) == (box.TAKEN, 0)
            self.waits[expected.call] = caller
            pair.claimed.add(expected.call)
        else:
            assert caller.sandbox_id == pair.ids[expected.sandbox]
            assert found == (box.LENT if expected.sandbox in self.gone else box.TAKEN)
            if found == box.TAKEN:
                self.plain[expected.call] = caller
                self.read(expected.call)
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
        while self.plain:
            self.answer([next(iter(self.plain))])
        for call in list(self.waits):
            self.left(call)
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
