"""Cgroups made by hand, and programs run in them: what a manager other than systemd, or none, would have set up."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.sandbox import box

TREE = Path("/sys/fs/cgroup")
ALL = ("memory", "cpu", "pids")
Make = Callable[..., box.Leaf]


def of_process(pid: int | str = "self") -> Path:
    """The cgroup of a process."""
    return TREE / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


STARTED_IN = of_process()
"""The cgroup that this run was started in, whatever was moved since."""


def make(path: Path, *hands_down: str) -> Path:
    """A cgroup below one that hands down `hands_down`."""
    for name in hands_down:
        (path.parent / "cgroup.subtree_control").write_text(f"+{name}")
    path.mkdir()
    return path


def mark_given(path: Path) -> None:
    """What systemd does for Delegate=."""
    os.setxattr(path, "trusted.delegate", b"1")


def remove(path: Path) -> None:
    """A cgroup with all below it; its processes are killed."""
    if not path.exists():
        return
    (path / "cgroup.kill").write_text("1")
    for folder, _, _ in os.walk(path, topdown=False):
        until = time.monotonic() + 10
        while True:
            try:
                os.rmdir(folder)
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)


def run_in(
    cgroup: Path, program: str, *, before: str = "", uid: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python program whose process is in `cgroup`, as `uid`; `before` is a command to start it by."""
    enter = f'echo $$ > {cgroup}/cgroup.procs && exec {before} "$0" "$@"'
    drop = f"import os; os.setgid({uid}); os.setuid({uid})\n" if uid else ""
    return subprocess.run(
        ["/bin/sh", "-c", enter, sys.executable, "-c", drop + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=300,
    )


def home(host: box.Host) -> Path:
    """The cgroup that an engine's directory is made in."""
    return Path(host.directories["memory"]).parent


def run_unit(name: str, *lines: str) -> None:
    """Run a systemd service to its end; `lines` are of its [Service]. It ends as it likes."""
    text = ["[Unit]", "DefaultDependencies=no", "[Service]", "Type=oneshot", *lines, ""]
    (Path("/run/systemd/system") / f"{name}.service").write_text("\n".join(text))
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", name], check=False, capture_output=True)
