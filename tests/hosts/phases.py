"""Boots the machine of a test file and judges what its phases came to.

What is judged is the word of the tests in it: a machine that froze twice, took too long or ended early has said nothing
about them, and has failed.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Mapping, Sequence

import pytest

from tests.conftest import full_counts
from tests.hosts import machine

GUEST = "tests/hosts/guest"
SANDBOX = "tests/integration/test_sandbox.py"
WALLS = "tests/security/test_walls.py"
NATIVE = ("tests/native", "--ignore=tests/native/test_sanitized.py")
"""Without what skips itself in an ordinary build: a skip in the machine is a failure."""
SECURITY = (
    WALLS,
    "tests/security/test_memory_bombs.py",
    "tests/security/test_exhaustion.py::test_a_fork_bomb_stops_at_the_limit",
    "tests/security/test_exhaustion.py::test_threads_count_as_processes",
)
WITHOUT = "cleave-host without v1: "
REDUCED_LIMIT_S, FULL_LIMIT_S = 600.0, 3_000.0


def boot(
    reduced: Mapping[str, Sequence[str]],
    full: Mapping[str, Sequence[str]],
    factory: pytest.TempPathFactory,
    config: pytest.Config,
) -> machine.Run:
    """What came of a machine with these phases; each has the arguments of its pytest. `pytest -v` shows what it says
    as it says it."""
    try:
        image = machine.image()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    faulthandler.cancel_dump_traceback_later()  # pytest's last resort; the machine has a time limit of its own
    folder = factory.mktemp("machine")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    def hear(line: str) -> None:
        if reporter is not None and capture is not None and config.get_verbosity() > 0:
            with capture.global_and_fixture_disabled():
                reporter.write_line(f"  | {line}")

    job = {
        phase: ("-v", "--tb=short", "--durations=10", *chosen)
        for phase, chosen in (full if full_counts() else reduced).items()
    }
    tree = machine.tree_disk(folder, job, "full" if full_counts() else "reduced")
    limit_s = FULL_LIMIT_S if full_counts() else REDUCED_LIMIT_S
    return machine.boot(image, tree, folder, limit_s=limit_s, hear=hear)


def check(booted: machine.Run, phase: str, at_least: int) -> None:
    """Fail unless every test of the phase passed, so many or more."""
    came_to = booted.phases.get(phase)
    without = [line for line in booted.output.splitlines() if line.startswith(WITHOUT)]
    if came_to is None and booted.phases and without:
        pytest.skip(f"a kernel without v1's limits: {without[0].removeprefix(WITHOUT)}")
    if came_to is None:
        why = "froze" if booted.frozen else "took too long" if booted.expired else "ended early"
        pytest.fail(f"the machine {why}, after {booted.total_s:.0f} s; it said:\n{booted.output}", pytrace=False)
    if came_to.exit != 0 or came_to.failed or came_to.skipped or came_to.passed < at_least:
        pytest.fail(f"{came_to}\n{booted.of(phase)}", pytrace=False)
