"""What a run of pytest inside the machine does beside testing: give slow tests time, and leave its counts for the end.

Loaded by tests/hosts/guest/phase.sh, which says in CLEAVE_TEST_SLOWER how much slower than a host the machine is.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

RESULTS = Path("/run/cleave-host")
_SLOWER = int(os.environ.get("CLEAVE_TEST_SLOWER", "1"))
_ORDINARY_LIMIT_S = 60.0
_STARTED = time.monotonic()
_COUNTS: Counter[str] = Counter()


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Multiply each test's time limit."""
    for item in items:
        marker = item.get_closest_marker("time_limit")
        limit_s = float(marker.args[0]) if marker else _ORDINARY_LIMIT_S
        item.add_marker(pytest.mark.time_limit(limit_s * _SLOWER), append=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count each test once, by how it ended."""
    if report.when == "call" or report.outcome != "passed":
        _COUNTS[report.outcome] += 1


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> Generator[None, None, None]:
    """Leave one line of JSON, and say that this is the end of the phase, also where another plugin fails at its end."""
    session = config.pluginmanager.get_plugin("session")
    exit_status = int(getattr(session, "exitstatus", pytest.ExitCode.INTERNAL_ERROR))
    try:
        yield
    except BaseException:
        exit_status = exit_status or int(pytest.ExitCode.INTERNAL_ERROR)
        raise
    finally:
        name = os.environ["CLEAVE_HOST_PHASE"]
        result = {
            "exit": exit_status,
            **{outcome: _COUNTS[outcome] for outcome in ("passed", "failed", "skipped")},
            "seconds": round(time.monotonic() - _STARTED, 1),
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(result))
        print(f"cleave-host phase {name}: over", flush=True)
