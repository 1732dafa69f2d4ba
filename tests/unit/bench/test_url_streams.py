"""The rows about HTTP beside a bare server: what counts as a whole stream, and what the bare server sends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import boto3_calls, url_streams, urls
from bench.asgi_server import STREAM, asgi_server
from bench.conftest import TABLES
from bench.figures import markdown
from bench.url_streams import Chunked, Place, read_stream, table
from bench.web import lambda_client
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.scenarios import EVENT
from engine.cli.problems import Problem

CODED = b"10\r\n" + b"x" * 16 + b"\r\n" + b"3\r\nabc\r\n" + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def bare() -> Iterator[str]:
    with asgi_server() as address:
        yield address


@pytest.mark.parametrize("step", range(1, len(CODED) + 1))
def test_a_chunked_body_is_counted_however_it_is_cut_into_reads(step: int) -> None:
    chunked = Chunked()
    for at in range(0, len(CODED), step):
        assert chunked.received <= 19
        chunked.feed(memoryview(CODED[at : at + step]))
    assert (chunked.received, chunked.ended) == (19, True)


def test_a_chunked_body_without_its_end_has_not_ended() -> None:
    chunked = Chunked()
    chunked.feed(memoryview(CODED[:-5]))
    assert (chunked.received, chunked.ended) == (19, False)


def test_the_bare_server_streams_what_it_is_asked_for(bare: str) -> None:
    request = f"GET {STREAM}3 HTTP/1.1\r\nHost: {bare}\r\nConnection: close\r\n\r\n"
    assert read_stream(Place(bare, request.encode())) == 3 << 20


def test_a_stream_that_is_none_is_no_measurement(bare: str) -> None:
    with pytest.raises(Problem, match="a stream was refused"):
        read_stream(Place(bare, f"GET / HTTP/1.1\r\nHost: {bare}\r\nConnection: close\r\n\r\n".encode()))


def test_the_bare_server_is_a_function_that_returns_its_event_to_boto3(bare: str) -> None:
    answer = lambda_client(bare).invoke(FunctionName="any", Payload=EVENT)
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["Payload"].read() == EVENT


def test_a_row_has_a_line_beside_rows_of_others() -> None:
    speed = {"engine": 1_000.4, "bare": 2_000.0}
    stream = {"name": url_streams.URL, "stream_mb": 256, "turns": 4, "http_mb_per_s": speed, "ratio": 0.5}
    times = {"boto3_us": summary([900.0]), "bare_us": summary([800.0]), "above_asgi_us": above([[900.0]], [[800.0]])}
    calls = {"name": boto3_calls.NAME, "memory_mb": 1_769, "calls": 10, **times}
    assert table([calls, stream]) == [("function URL", "256", "4", "1,000", "2,000", "0.50")]
    assert boto3_calls.table([calls, stream]) == [
        ("Invoke", "1769", "10", "0.800", "0.900", "0.900", "0.100 ±0.000"),
    ]
    result = {"rows": [calls, stream], "isolation": []}
    assert [head for head, lines_of in TABLES if lines_of(result)] == [boto3_calls.HEAD, url_streams.HEAD]


def test_the_readmes_table_has_a_line_for_each_row_over_http_that_was_measured() -> None:
    speed = {"engine": 1_000.4, "bare": 2_000.0}
    load = {side: {"per_s": 8_000.4} for side in ("engine", "workerd")}
    rows = [
        {"name": boto3_calls.NAME, "boto3_us": summary([900.0]), "bare_us": summary([800.0])},
        {"name": urls.NAME, "by_wrk": load},
        {"name": url_streams.URL, "http_mb_per_s": speed},
    ]
    table = markdown({"rows": rows, "cpu": "x", "cpus_usable": 4, "kernel": "6", "python": "3", "date": "2026-01-01"})
    assert table.splitlines()[5:8] == [
        "| boto3's `invoke`, warm, p50 | 0.90 ms | 0.80 ms of a bare ASGI server |",
        "| function URL, 32 connections | 8,000 requests/s | 8,000 of workerd |",
        "| function URL, streaming | 1,000 MB/s | 2,000 of a bare uvicorn |",
    ]
