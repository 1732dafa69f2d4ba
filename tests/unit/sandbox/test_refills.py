"""What starts take from pools is made again when they are over, by a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from engine.sandbox.refills import Refills
from tests.remains import until


@pytest.fixture
def refills() -> Iterator[Refills]:
    made = Refills()
    yield made
    made.close()


async def test_nothing_is_made_again_before_the_start_that_took_it_is_over(refills: Refills) -> None:
    done: list[int] = []
    refills.put_off(lambda: done.append(1))
    refills.later(lambda: done.append(2))
    await asyncio.sleep(0.05)  # ten times what it would take
    assert done == []
    refills.started()
    assert done == []
    await until(lambda: done == [1, 2], what="both are done")


async def test_what_is_put_off_after_others_were_done_has_its_turn_too(refills: Refills) -> None:
    done: list[int] = []
    for number in range(3):
        refills.put_off(lambda number=number: done.append(number))  # type: ignore[misc]
        refills.started()
        refills.started()
        await until(lambda: done == list(range(number + 1)), what="the last is done")  # noqa: B023


async def test_what_takes_long_is_another_thread_s(refills: Refills) -> None:
    threads: list[threading.Thread] = []
    refills.put_off(lambda: threads.append(threading.current_thread()))
    refills.later(lambda: threads.append(threading.current_thread()))
    refills.started()
    await until(lambda: len(threads) == 2, what="both are done")
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


async def test_one_whose_thread_has_ended_keeps_no_other_from_its_turn(refills: Refills) -> None:
    done: list[int] = []
    refills.close()
    refills.later(lambda: done.append(0))
    refills.put_off(lambda: done.append(1))
    refills.started()
    await until(lambda: done == [1], what="the other is done")


async def test_in_a_burst_nothing_waits(refills: Refills) -> None:
    done: list[int] = []
    for number in range(3):
        refills.put_off(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    refills.put_off(lambda: done.append(3))
    assert done == [0, 1, 2, 3]
