"""Room goes round: who floods gets its share, and nobody who waits is forgotten."""

from __future__ import annotations

from collections import Counter

import pytest

from engine.scheduler import core as native
from tests.native.sched.test_limits import Owner


class Flood(Owner):
    """An owner whose calls end when it says so, the oldest first, and who knows whose they are."""

    def __init__(self, room: int, names: str) -> None:
        super().__init__(room=room, account_limit=60_000)
        self.targets = {name: self.another()[1] for name in names}
        self.running: list[int] = []
        self.whose: dict[int, str] = {}
        self.served: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()

    def send(self, name: str, number: int = 1) -> None:
        for _ in range(number):
            verdict = self.core.submit(self.targets[name], self.now)
            self.whose[self.core.call] = name
            if verdict == native.START:
                self.begin(self.core.sandbox, self.core.call)
            elif verdict == native.RUN:
                self.running.append(self.core.call)

    def begin(self, sandbox: int, call: int) -> None:
        self.core.started(sandbox, self.now)
        self.starts[self.whose[call]] += 1
        self.running.append(call)

    def serve(self) -> str:
        """One more call ends."""
        call = self.running.pop(0)
        self.core.finished(call, True, self.now)
        while (action := self.core.next()) is not None:
            what, next_call, sandbox, _ = action
            if what == native.DO_RUN:
                self.running.append(next_call)
            if what == native.DO_START:
                self.begin(sandbox, next_call)
            if what == native.DO_CLOSE:
                self.core.closed(sandbox, self.now)
        name = self.whose.pop(call)
        self.served[name] += 1
        return name


def test_a_call_beside_a_flood_is_served_before_the_flood_is_over() -> None:
    flood = Flood(4, "ab")
    flood.send("a", 1_000)
    flood.send("b")
    until = next(number for number in range(1_000) if flood.serve() == "b")
    assert until <= 8, "as soon as one of four sandboxes has served"
    assert flood.core.check() == ""


def test_two_floods_share_the_room_and_then_start_no_more_sandboxes() -> None:
    flood = Flood(8, "ab")
    flood.send("a", 2_000)
    flood.send("b", 2_000)
    for _ in range(2_000):
        flood.serve()
    assert flood.served["b"] == pytest.approx(1_000, rel=0.1)
    assert flood.starts == {"a": 8, "b": 4}
    assert flood.core.check() == ""


def test_with_room_for_one_functions_take_turns_and_not_each_call_is_a_start() -> None:
    flood = Flood(1, "abc")
    for name in "abc":
        flood.send(name, 400)
    for _ in range(600):
        flood.serve()
    assert min(flood.served.values()) >= 150
    assert sum(flood.starts.values()) <= 600 // 16 + 3


def test_versions_of_one_function_share_as_functions_do() -> None:
    flood = Flood(4, "a")
    flood.targets["old"] = flood.core.target_add(flood.function)
    flood.targets["new"] = flood.core.target_add(flood.function)
    flood.send("old", 1_000)
    flood.send("new")
    assert next(number for number in range(1_000) if flood.serve() == "new") <= 8


def test_room_that_comes_back_goes_round() -> None:
    flood = Flood(1, "abcd")
    first = flood.core.submit(flood.target, 0)
    assert first == native.START
    sandbox, call = flood.core.sandbox, flood.core.call
    for name in "abcd":
        flood.send(name, 3)
    flood.core.start_failed(sandbox, 0)
    order = []
    for _ in range(12):
        action = flood.core.next()
        assert action is not None
        assert action[0] == native.DO_START
        order.append(flood.whose[action[1]])
        flood.core.start_failed(action[2], 0)
    assert "".join(order) == "abcd" * 3
    assert call not in flood.running
