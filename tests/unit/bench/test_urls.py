"""The row about function URLs: what is read from wrk's account, and what refuses to be one."""

from __future__ import annotations

import shutil

import pytest

from bench import urls
from bench.conftest import TABLES
from bench.urls import Load, loaded, read, table
from engine.cli.problems import Problem

SAID = """Running 2s test @ http://127.0.0.1:40441/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.06ms    3.55ms  38.53ms   96.04%
    Req/Sec    21.02k     3.38k   24.63k    80.00%
  Latency Distribution
     50%  920.00us
     75%    1.49ms
     90%    1.82ms
     99%    1.25s
  41870 requests in 2.00s, 3.19MB read
Requests/sec:  20918.37
Transfer/sec:      1.60MB
"""


def test_a_load_is_what_wrk_says_of_it_in_microseconds() -> None:
    assert read(SAID) == Load(20_918.37, 920.0, 1_250_000.0)


@pytest.mark.parametrize(
    "said",
    [
        SAID + "  Non-2xx or 3xx responses: 3\n",
        SAID + "  Socket errors: connect 0, read 0, write 0, timeout 2\n",
        SAID.replace("99%", "98%"),
        "unable to connect to 127.0.0.1:1 Connection refused",
        "",
    ],
)
def test_a_load_that_was_not_answered_in_full_is_none(said: str) -> None:
    with pytest.raises(Problem, match="not every request was answered"):
        read(said)


def test_without_wrk_or_workerd_the_bench_says_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(Problem, match="wrk is not installed") as missing:
        loaded("127.0.0.1:1", "host", 1)
    assert ".ci/prerequisites bench" in missing.value.text()
    monkeypatch.setattr(urls, "_FOLDER", urls._FOLDER / "nowhere")
    with pytest.raises(Problem, match="workerd is not installed"), urls.workerd():
        pass


def test_each_side_has_a_line_and_the_engines_says_how_many_times_faster_it_is() -> None:
    load = {"per_s": 8_000.0, "p50_us": 2_000.0, "p99_us": 9_000.0}
    row = {
        "name": urls.NAME,
        "turns": 2,
        "by_wrk": {"engine": load, "workerd": load},
        "per_workerd": {"times": 1.0, "resolution": 0.1},
    }
    assert table([{"name": "other"}, row]) == [
        ("function URL", "2", "8,000", "2.00", "9.00", "1.00 ±0.10"),
        ("workerd", "2", "8,000", "2.00", "9.00", ""),
    ]
    result = {"rows": [row], "isolation": []}
    assert [head for head, lines_of in TABLES if lines_of(result)] == [urls.HEAD]
