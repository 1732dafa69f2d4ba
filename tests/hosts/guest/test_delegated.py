"""Where the engine's directory goes in a systemd unit with Delegate=yes."""

from __future__ import annotations

import os
import subprocess

from engine.sandbox import box
from tests.hosts.guest.cgroups import ALL, STARTED_IN, TREE, Make, home, make, of_process


def test_in_a_unit_that_was_given_to_it_the_engine_makes_all_below_that(host: box.Host, leaf: Make) -> None:
    assert STARTED_IN.name == "engine-delegated.service"
    assert home(host) == STARTED_IN
    # One that hands controllers down has no processes: the engine has gone into a leaf.
    assert of_process() == STARTED_IN / "cleave.engine"
    assert (STARTED_IN / "cgroup.procs").read_text() == ""
    assert set((STARTED_IN / "cgroup.subtree_control").read_text().split()) >= set(ALL)
    assert not (TREE / f"cleave-test-{os.getpid()}").exists()
    leaf().remove()


def test_a_second_engine_in_the_same_unit_finds_the_same_place(host: box.Host) -> None:
    second = box.Host(f"cleave-second-{os.getpid()}")
    second.open()
    assert home(second) == home(host) == STARTED_IN
    second.sweep(True)
    assert {path.name for path in STARTED_IN.iterdir() if path.is_dir()} == {
        "cleave.engine",
        f"cleave-test-{os.getpid()}",
    }


def test_what_an_engine_of_this_name_left_at_the_root_is_removed(host: box.Host) -> None:
    left = make(TREE / f"cleave-test-{os.getpid()}", *ALL)
    inside = make(left / "1", *ALL)
    with subprocess.Popen(["sleep", "600"]) as sleeping:
        (inside / "cgroup.procs").write_text(str(sleeping.pid))
        try:
            host.open()
            assert sleeping.wait(60) == -9
        finally:
            sleeping.kill()
    assert not left.exists()
