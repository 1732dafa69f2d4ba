"""Limits hold on a pure cgroup v2 host: the tests of the box and of a sandbox, run by a real v2 kernel under qemu.

Three hosts in one boot, see tests/hosts/guest/boot.sh; to try one thing there:
python -m tests.hosts.machine bare tests/native -x
"""

from __future__ import annotations

import pytest

from tests.hosts import machine
from tests.hosts.phases import GUEST, NATIVE, SANDBOX, SECURITY, WALLS, boot, check

FOLDERS = "tests/native/test_scratch_folders.py"
QUOTAS = "tests/security/test_tmp_quota.py"
REDUCED = {
    "bare": (
        f"{GUEST}/test_by_hand.py",
        f"{GUEST}/test_limits.py",
        f"{GUEST}/test_without_root.py",
        "tests/native/test_leaf.py",
        f"{SANDBOX}::test_a_first_call_is_a_fork_and_a_second_one_is_warm_with_its_state_kept",
        f"{SANDBOX}::test_a_timeout_kills_the_whole_tree[128-daemons]",
        f"{SANDBOX}::test_a_timeout_kills_the_whole_tree[1769-stopped]",
        f"{SANDBOX}::test_a_start_that_fails_gives_everything_back",
        f"{WALLS}::test_its_cgroup_is_the_root_of_what_it_sees",
        f"{GUEST}/test_tmp.py",
        # btrfs is in the kernels that the other tests run in.
        *(
            f"{FOLDERS}::{test}[{kind}]"
            for kind in ("ext4", "xfs")
            for test in (
                "test_a_file_of_the_whole_quota_fits_and_no_more_does",
                "test_files_past_the_limit_are_refused",
                "test_its_end_leaves_nothing_of_any_shape_of_tree",
                "test_what_a_killed_engine_left_the_next_start_removes",
            )
        ),
        *(
            f"{QUOTAS}::test_inside_no_request_takes_a_file_out_of_its_quota[{kind}-{how}]"
            for kind in ("ext4", "xfs")
            for how in ("give it to a project", "end the inheritance by its flag")
        ),
        f"{WALLS}::test_the_limits_cannot_be_mounted_into_reach",
        f"{WALLS}::test_it_can_neither_raise_nor_leave_its_limits",
    ),
    "delegated": (
        f"{GUEST}/test_delegated.py",
        f"{GUEST}/test_limits.py::test_every_limit_is_there_in_the_words_of_v2",
        f"{GUEST}/test_limits.py::test_a_sandbox_is_born_in_its_leaf_and_its_zygote_is_not_in_it",
        f"{GUEST}/test_limits.py::test_memory_over_the_tier_is_told_from_every_other_death",
    ),
    "undelegated": (f"{GUEST}/test_undelegated.py", f"{GUEST}/test_systemd.py"),
}
FULL = {
    "bare": (
        f"{GUEST}/test_by_hand.py",
        f"{GUEST}/test_limits.py",
        f"{GUEST}/test_tmp.py",
        f"{GUEST}/test_without_root.py",
        *NATIVE,
        SANDBOX,
        *SECURITY,
        QUOTAS,
    ),
    "delegated": (
        f"{GUEST}/test_delegated.py",
        f"{GUEST}/test_systemd.py",
        f"{GUEST}/test_limits.py",
        *NATIVE,
        SANDBOX,
    ),
    "undelegated": (f"{GUEST}/test_undelegated.py", f"{GUEST}/test_systemd.py", f"{GUEST}/test_limits.py", *NATIVE),
}


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> machine.Run:
    """What came of the machine, all phases."""
    return boot(REDUCED, FULL, tmp_path_factory, pytestconfig)


def test_limits_hold_where_nobody_manages_the_tree(booted: machine.Run) -> None:
    check(booted, "bare", 48)


def test_limits_hold_in_a_systemd_unit_that_was_given_to_the_engine(booted: machine.Run) -> None:
    check(booted, "delegated", 6)


def test_limits_hold_in_a_systemd_unit_that_was_not(booted: machine.Run) -> None:
    check(booted, "undelegated", 3)
