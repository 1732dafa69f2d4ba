"""Where the engine's directory goes in a systemd unit without Delegate=, and what is left of an engine that was killed
in one with it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from engine.sandbox import box
from tests.hosts.guest.cgroups import STARTED_IN, TREE, Make, home, of_process, run_unit


def test_in_a_unit_that_is_systemds_the_engine_makes_nothing_and_uses_the_root(host: box.Host, leaf: Make) -> None:
    assert STARTED_IN.name == "engine-undelegated.service"
    assert home(host) == TREE
    assert of_process() == STARTED_IN
    assert not [path for path in STARTED_IN.iterdir() if path.is_dir()]
    leaf().remove()


def test_when_an_engine_in_its_unit_is_killed_systemd_leaves_nothing_of_it(tmp_path: Path) -> None:
    program = """
import os, pathlib, subprocess, time
from engine.sandbox import box
host = box.Host("cleave-killed")
host.open()
leaf = host.leaf("one", memory_bytes=64 << 20, cpu_quota_us=0, cpu_shares=1024, pids=20)
folder = pathlib.Path(host.directories["memory"]) / "one"
child = subprocess.Popen(["sleep", "600"])
(folder / "cgroup.procs").write_text(str(child.pid))
pathlib.Path("/run/killed").write_text(f"{os.getpid()} {child.pid} {folder}")
os.kill(os.getpid(), 9)
"""
    (tmp_path / "killed.py").write_text(program)
    run_unit(
        "killed",
        "Delegate=yes",
        "KillMode=mixed",
        f"Environment=PYTHONPATH={os.environ['PYTHONPATH']}:/cleave PYTHONDONTWRITEBYTECODE=1",
        f"StandardError=file:{tmp_path}/stderr",
        f"ExecStart={sys.executable} {tmp_path}/killed.py",
    )
    assert Path("/run/killed").exists(), (tmp_path / "stderr").read_text()
    engine, child, folder = Path("/run/killed").read_text().split()
    assert folder == str(TREE / "system.slice/killed.service/cleave-killed/one")
    until = time.monotonic() + 60
    while (TREE / "system.slice/killed.service").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not (TREE / "system.slice/killed.service").exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in (engine, child))
