"""Where the engine's directory goes on a tree that nobody manages, and in places made by hand: a cgroup that was given
to it, a container, another user's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sandbox import box
from tests.hosts.guest.cgroups import ALL, STARTED_IN, TREE, home, make, mark_given, of_process, remove, run_in

OPEN = """
    import os, pathlib
    from engine.errors import SandboxFault
    from engine.sandbox import box
    host = box.Host("cleave-placed")
    try:
        host.open()
        leaf = host.leaf("one", memory_bytes=64 << 20, cpu_quota_us=50_000, cpu_shares=1024, pids=20)
        folder = pathlib.Path(host.directories["memory"])
        print(folder.parent, pathlib.Path("/proc/self/cgroup").read_text().strip(),
              (folder / "one/memory.max").read_text().strip())
    except SandboxFault as fault:
        print(fault.stage, "-", fault.message)
    finally:
        host.sweep(True)
"""


@pytest.fixture
def above() -> Iterator[Path]:
    """A cgroup that nobody manages."""
    path = make(TREE / "above", *ALL)
    yield path
    remove(path)


def test_in_the_root_of_a_tree_the_engine_stays_where_it_is(host: box.Host) -> None:
    assert STARTED_IN == TREE
    assert home(host) == TREE
    assert of_process() == TREE


def test_in_a_cgroup_that_was_given_to_it_the_engine_goes_below(above: Path) -> None:
    given = make(above / "given", *ALL)
    mark_given(given)
    done = run_in(given, OPEN)
    assert done.stdout.split() == [str(given), "0::/above/given/cleave.engine", str(64 << 20)], done.stderr


def test_in_a_group_inside_of_what_was_given_the_engine_stays(above: Path) -> None:
    given = make(above / "given", *ALL)
    mark_given(given)
    own = make(given / "own")  # systemd's DelegateSubgroup=
    done = run_in(own, OPEN)
    assert done.stdout.split() == [str(given), "0::/above/given/own", str(64 << 20)], done.stderr


def test_in_a_cgroup_that_is_another_managers_the_engine_uses_the_root(above: Path) -> None:
    mark_given(above)
    deep = make(make(above / "session") / "scope")
    done = run_in(deep, OPEN)
    assert done.stdout.split() == [str(TREE), "0::/above/session/scope", str(64 << 20)], done.stderr


def test_in_a_container_the_engine_uses_the_root_that_it_sees(above: Path) -> None:
    contained = make(above / "contained", *ALL)
    view = "umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec"
    inside = f'unshare --cgroup --mount /bin/sh -c \'{view} "$0" "$@"\''
    done = run_in(contained, OPEN, before=inside)
    assert done.stdout.split() == [str(TREE), "0::/cleave.engine", str(64 << 20)], done.stderr
    assert (contained / "cleave.engine").is_dir()


def test_a_user_who_is_not_root_uses_what_belongs_to_them(above: Path) -> None:
    given = make(above / "given", *ALL)
    for path in (given, *(given / name for name in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"))):
        os.chown(path, 1_000, 1_000)
    done = run_in(given, OPEN, uid=1_000)
    assert done.stdout.split() == [str(given), "0::/above/given/cleave.engine", str(64 << 20)], done.stderr


def test_a_user_to_whom_nothing_was_given_is_told(above: Path) -> None:
    done = run_in(make(above / "another", *ALL), OPEN, uid=1_000)
    assert done.stdout.startswith("cgroup"), (done.stdout, done.stderr)
    assert "Permission denied" in done.stdout


def test_a_missing_controller_is_named(above: Path) -> None:
    given = make(above / "given", "memory", "pids")
    (above / "cgroup.subtree_control").write_text("-cpu")
    mark_given(given)
    done = run_in(given, OPEN)
    assert "cgroup controllers - " in done.stdout, (done.stdout, done.stderr)
    assert "/above/given has no cpu controller" in done.stdout
    assert not (given / "cleave-placed").exists()


def test_a_place_with_other_processes_is_refused_with_what_to_do(above: Path) -> None:
    given = make(above / "given", *ALL)
    mark_given(given)
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            (given / "cgroup.procs").write_text(str(other.pid))
            done = run_in(given, OPEN)
            assert other.poll() is None
        finally:
            other.kill()
    assert f"{given} has processes beside the engine: give it a unit of its own" in done.stdout, done.stderr
    assert not (given / "cleave-placed").exists()
