"""`cleave timeline`: one invocation as a picture, or a list of those that are known."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from engine.v1 import reports_pb2, timelines_pb2

from .conftest import Cleave, StubEngine, report


@pytest.fixture
def known(engine: StubEngine) -> StubEngine:
    engine.past = [
        timelines_pb2.PastInvocation(
            name="functions/hello", end_time=Timestamp(seconds=1_767_225_600, nanos=5_000_000), report=report()
        )
    ]
    return engine


def test_one_is_shown_as_a_picture_with_its_report(cleave: Cleave, known: StubEngine) -> None:
    request_id = known.past[0].report.request_id
    ran = cleave("timeline", request_id)
    assert (ran.code, ran.err) == (0, "")
    first, head, *_, last = ran.out.splitlines()
    assert (first, head) == ("hello, ended 2026-01-01 00:00:00.005", "A fork start: where 5.900 ms went")
    assert last.startswith(f"REPORT RequestId: {request_id}")
    assert "answered" in ran.out
    document = cleave("timeline", request_id, "-o", "json").document["invocation"]
    assert [mark["phase"] for mark in document["report"]["timeline"]] == ["admitted", "answered"]


def test_those_that_are_known_are_listed(cleave: Cleave, known: StubEngine) -> None:
    ran = cleave("timeline", "--function", "hello", "--slowest", "-n", "7")
    head, row = ran.out.splitlines()
    assert head.split()[:2] == ["ENDED", "(UTC)"]
    assert row.split()[2:6] == [known.past[0].report.request_id, "hello", "fork", "ok"]
    assert row.split()[-1] == "6.00"
    (asked,) = known.listed
    assert (asked.name, asked.limit, asked.slowest) == ("functions/hello", 7, True)
    assert len(cleave("timeline", "-o", "json").document["invocations"]) == 1


def test_one_that_no_sandbox_had_says_so(cleave: Cleave, known: StubEngine) -> None:
    known.past[0].report.start_kind = reports_pb2.START_KIND_UNSPECIFIED
    assert cleave("timeline").out.splitlines()[1].split()[4] == "-"
    assert "No sandbox had it: where 5.900 ms went" in cleave("timeline", known.past[0].report.request_id).out


def test_none_that_is_known_and_one_that_is_not_are_said(cleave: Cleave) -> None:
    ran = cleave("timeline")
    assert (ran.code, ran.out, ran.err) == (0, "", "No invocation is known.\n")
    ran = cleave("timeline", "nothing")
    assert (ran.code, ran.out) == (1, "")
    assert "Fix: cleave timeline" in ran.err


def test_an_id_and_a_choice_from_the_list_do_not_go_together(cleave: Cleave) -> None:
    assert cleave("timeline", "some-id", "--slowest").code == 2
