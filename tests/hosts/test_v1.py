"""Limits hold on a host of cgroup v1, pure or hybrid, and nothing starts on one without cgroups: a real kernel under
qemu that has its controllers mounted so.

Three hosts in one boot, see tests/hosts/guest/boot.sh; to try one thing there:
python -m tests.hosts.machine v1 tests/native -x
"""

from __future__ import annotations

import pytest

from tests.hosts import machine
from tests.hosts.phases import GUEST, NATIVE, SANDBOX, SECURITY, WALLS, boot, check

LEAF = "tests/native/test_leaf.py"
NONE = (f"{GUEST}/test_none.py",)
REDUCED = {
    "none": NONE,
    "v1": (
        f"{GUEST}/test_v1.py",
        LEAF,
        f"{SANDBOX}::test_a_first_call_is_a_fork_and_a_second_one_is_warm_with_its_state_kept",
        f"{SANDBOX}::test_a_timeout_kills_the_whole_tree[128-daemons]",
        f"{SANDBOX}::test_a_timeout_kills_the_whole_tree[1769-stopped]",
        f"{SANDBOX}::test_a_start_that_fails_gives_everything_back",
        f"{WALLS}::test_the_limits_cannot_be_mounted_into_reach",
        f"{WALLS}::test_it_can_neither_raise_nor_leave_its_limits",
        f"{WALLS}::test_its_cgroup_is_the_root_of_what_it_sees",
    ),
    "hybrid": (f"{GUEST}/test_hybrid.py", LEAF),
}
FULL = {
    "none": NONE,
    "v1": (f"{GUEST}/test_v1.py", *NATIVE, SANDBOX, *SECURITY),
    "hybrid": (f"{GUEST}/test_hybrid.py", LEAF, SANDBOX),
}


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> machine.Run:
    """What came of the machine, all phases."""
    return boot(REDUCED, FULL, tmp_path_factory, pytestconfig)


def test_nothing_starts_where_no_cgroups_are_mounted(booted: machine.Run) -> None:
    check(booted, "none", 5)


def test_limits_hold_where_each_controller_is_mounted_as_v1(booted: machine.Run) -> None:
    check(booted, "v1", 25)


def test_limits_hold_where_a_v2_tree_is_beside_them(booted: machine.Run) -> None:
    check(booted, "hybrid", 11)
