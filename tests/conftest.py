"""What holds for every test: counts that are printed, a time limit, privilege, and nothing left behind.

* `counts` gives the number of repetitions, reduced or full by CLEAVE_COUNTS; the header of the run says which.
* A test has 60 seconds, or what `@pytest.mark.time_limit(seconds)` says; at the limit it fails where it stands.
* `@pytest.mark.privileged` skips where the process is not root, and fails there when CI=true. With CLEAVE_TEST_ACCEPT,
  in which weaker forms are named, it runs without root too: tests/security/test_without_root.py starts such runs.
* At its end the run compares the host with how it found it (tests/leftovers.py) and fails for what it left.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import hypothesis
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from tests import leftovers
from tests.sandboxes import ACCEPTED

DEFAULT_LIMIT_S = 60.0
LAST_RESORT_S = 240.0  # after its time limit a test that does not stop ends the run
CI = os.environ.get("CI", "").lower() == "true"


class Count(NamedTuple):
    """How often something is repeated by `make test` and by `make test-full`."""

    reduced: int
    full: int


COUNTS: dict[str, Count] = {
    "sandboxes": Count(100, 20_000),  # started one after another, to find what each leaves
    "kills": Count(6, 200),  # kill -9 of a writer or an engine, at random instants
    "frames": Count(500, 20_000),  # hostile frames and requests sent to a reader
    "examples": Count(50, 1_000),  # of one property, by hypothesis
    "log_lines": Count(100_000, 1_000_000),  # written by one function
    "updates": Count(25, 1_000),  # of one function while it is called
    "stream_mb": Count(128, 1_024),  # through one stream
    "waiting": Count(10_000, 100_000),  # calls that are cancelled at once
    "threads": Count(200, 4_000),  # what each of several threads does beside the others
    "simulated": Count(50_000, 1_000_000),  # calls of ten thousand functions on virtual sandboxes
    "soak_calls": Count(750, 100_000),  # of several functions, while sandboxes and zygotes are killed
}


def full_counts() -> bool:
    """Whether this run is `make test-full`."""
    kind = os.environ.get("CLEAVE_COUNTS", "reduced")
    if kind not in ("reduced", "full"):
        raise pytest.UsageError(f"CLEAVE_COUNTS={kind!r}: use reduced or full")
    return kind == "full"


@pytest.fixture(scope="session")
def counts() -> Mapping[str, int]:
    """How often to repeat, by the names of COUNTS."""
    full = full_counts()
    return {name: count.full if full else count.reduced for name, count in COUNTS.items()}


def pytest_configure(config: pytest.Config) -> None:
    full = full_counts()
    hypothesis.settings.register_profile(
        "cleave",
        max_examples=COUNTS["examples"].full if full else COUNTS["examples"].reduced,
        deadline=None,  # Timings of a shared machine are no property of the code.
        derandomize=not full,  # `make test` finds the same on each machine; the full run looks further.
        print_blob=True,
    )
    hypothesis.settings.load_profile("cleave")


def pytest_report_header(config: pytest.Config) -> str:
    if full_counts():
        return "counts: full (" + ", ".join(f"{name} {count.full:,}" for name, count in COUNTS.items()) + ")"
    shares = ", ".join(f"{name} {count.reduced:,} of {count.full:,}" for name, count in COUNTS.items())
    return f"counts: reduced ({shares}); make test-full runs all"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("privileged") and os.geteuid() != 0 and not ACCEPTED:
        reason = "needs root: the limits of a real sandbox are set here"
        if CI:
            pytest.fail(f"{reason}; under CI a privileged test may not be skipped", pytrace=False)
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI, a privileged test that skips itself for another reason fails too."""
    report = yield
    if CI and report.skipped and item.get_closest_marker("privileged") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"
    return report


class TimeLimitExceeded(BaseException):
    """The test's time is up. Not an Exception, so that no code under test swallows it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    marker = item.get_closest_marker("time_limit")
    limit_s = float(marker.args[0]) if marker else DEFAULT_LIMIT_S

    def expire(signum: int, frame: FrameType | None) -> None:
        raise TimeLimitExceeded(f"the test took over {limit_s:g} s")

    if limit_s > DEFAULT_LIMIT_S:
        # The last resort of pyproject.toml is later here, too: it would end the whole run.
        stderr = item.config.stash.get(fault_handler_stderr_fd_key, 2)
        faulthandler.dump_traceback_later(limit_s + LAST_RESORT_S, exit=True, file=stderr)
    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        return (yield)
    except TimeLimitExceeded as expired:
        pytest.fail(str(expired))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


FOUND = pytest.StashKey[leftovers.Host]()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[FOUND] = leftovers.look()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What closes late (a loop device, a cgroup) gets a few seconds; then it counts as left."""
    found = session.config.stash[FOUND]
    roots = _own_folders(session.config)
    until = time.monotonic() + 5
    while (left := leftovers.left(found, leftovers.look(), roots, alone=CI)) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        session.config.stash[LEFT] = left
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


LEFT = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(LEFT, None):
        terminalreporter.section("left behind on this host by the run", red=True)
        for line in left:
            terminalreporter.line(line)


def _own_folders(config: pytest.Config) -> tuple[Path, ...]:
    """The folders in which this run's engines keep their data."""
    factory = getattr(config, "_tmp_path_factory", None)
    return (factory.getbasetemp(),) if isinstance(factory, pytest.TempPathFactory) else ()
