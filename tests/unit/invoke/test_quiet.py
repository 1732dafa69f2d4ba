"""Runs that wrote nothing: each is in the log and in the counts once, at its place."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from engine.invoke.quiet import QuietRuns
from tests.unit.invoke.things import House, request

MANY = 50
QUIET = replace(request(), log_tail=False)


async def test_each_is_written_once_in_its_order_without_anybody_asking() -> None:
    written: list[int] = []
    all_written = asyncio.Event()

    def write(number: int) -> None:
        written.append(number)
        if number == MANY + 1:
            all_written.set()

    quiet = QuietRuns(write)
    for number in range(MANY + 2):
        quiet.add(number)
    assert written == []  # whoever waits for the answer is served first
    await asyncio.wait_for(all_written.wait(), 30)
    assert written == list(range(MANY + 2))
    quiet.settle()
    assert written == list(range(MANY + 2))


async def test_one_that_cannot_be_written_does_not_keep_the_others_from_it() -> None:
    written: list[int] = []

    def write(number: int) -> None:
        if number == 1:
            raise ZeroDivisionError
        written.append(number)

    quiet = QuietRuns(write)
    for number in range(3):
        quiet.add(number)
    with pytest.raises(ZeroDivisionError):
        quiet.settle()
    quiet.settle()
    assert written == [0, 2]


async def test_a_thousand_that_each_ask_for_the_others_are_written_one_after_another() -> None:
    written: list[int] = []

    def write(number: int) -> None:
        quiet.settle()
        written.append(number)

    quiet = QuietRuns(write)
    for number in range(1_000):
        quiet.add(number)
    quiet.settle()
    assert written == list(range(1_000))


async def test_quiet_calls_and_one_that_is_followed_are_in_the_log_in_the_order_in_which_they_ran() -> None:
    house = House()
    await house.pipeline.invoke(request())
    ids = [f"00000000-0000-4000-8000-{number:012d}" for number in range(4)]
    for number, request_id in enumerate(ids):
        await house.pipeline.invoke(replace(QUIET, request_id=request_id, log_tail=number == 2))
    house.pipeline.settle()
    said = [line.split()[:3] for line in house.lines()[4:]]
    assert said == [[word, "RequestId:", one] for one in ids for word in ("START", "END", "REPORT")]
    assert [report.request_id for report in house.recorded[1:]] == ids


async def test_the_lines_of_a_quiet_call_are_those_of_any_other() -> None:
    house = House()
    await house.pipeline.invoke(request())
    for asked in (request(), QUIET):
        await house.pipeline.invoke(asked)
        house.pipeline.settle()
    lines = house.lines()
    assert len(lines) == 10
    assert [line.split("\t")[0] for line in lines[4:7]] == [line.split("\t")[0] for line in lines[7:]]


async def test_a_quiet_call_of_a_function_that_is_gone_leaves_no_log() -> None:
    house = House()
    await house.pipeline.invoke(request())
    await house.pipeline.invoke(QUIET)
    house.registry.remove("f")
    house.pipeline.settle()
    assert house.lines() == []
