"""Where a /tmp rests that the kernel still holds something of."""

from __future__ import annotations

from typing import cast

from engine.sandbox import box
from engine.sandbox.scratch_resting import REST_S, Resting


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def one() -> box.Scratch:
    return cast(box.Scratch, object())


def test_none_is_due_before_it_has_rested() -> None:
    clock = Clock()
    resting = Resting(8, monotonic=clock)
    scratch = one()
    assert resting.put(scratch, 512)
    clock.now += REST_S / 2
    assert resting.due() is None
    clock.now += REST_S
    assert (resting.due() or ())[:2] == (scratch, 512)
    assert resting.due() is None


def test_one_that_stays_held_rests_a_few_times_and_no_more() -> None:
    clock = Clock()
    resting = Resting(8, monotonic=clock)
    scratch, times = one(), 1
    assert resting.put(scratch, 512)
    while True:
        clock.now += REST_S
        due = resting.due()
        assert due is not None
        if not resting.put(*due):
            break
        times += 1
    assert 2 <= times <= 10
    assert len(resting) == 0


def test_no_more_rest_than_the_limit() -> None:
    resting = Resting(2)
    kept = [one(), one()]
    assert [resting.put(scratch, 512) for scratch in (*kept, one())] == [True, True, False]
    assert resting.clear() == kept
    assert len(resting) == 0
