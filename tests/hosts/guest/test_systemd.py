"""Limits beside a systemd that goes on managing its own part of the tree, whichever of the two places they are in."""

from __future__ import annotations

import subprocess
from pathlib import Path

from engine.sandbox import box
from tests.hosts.guest.cgroups import Make, run_unit


def test_limits_stay_when_systemd_reloads_and_starts_other_units(host: box.Host, leaf: Make) -> None:
    one = leaf()
    folder = Path(host.directories["memory"]) / one.name
    run_unit("another", "ExecStart=/bin/true", "MemoryMax=64M", "CPUQuota=10%")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert (folder / "memory.max").read_text() == f"{128 << 20}\n"
    assert (folder / "cpu.max").read_text() == "7235 100000\n"
    assert (folder / "pids.max").read_text() == "20\n"
    one.remove()
