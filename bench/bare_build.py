"""The build of the fork server that can also start without isolation: made beside the ordinary one, for the bench.

No release has it and no engine loads it: it lies in build/, is handed to one zygote of the bench's own, and what it can
do more is compiled into nothing else (BOX_BARE in native/box/forkserver.c).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BUILD = ROOT / "build" / "bare"
FORK = _BUILD / "lib" / "engine" / "zygote" / "_fork.abi3.so"


def build() -> Path:
    """Build it if it is not up to date: some seconds. Returns the module's path. Raises RuntimeError with what the
    compiler said."""
    _BUILD.mkdir(parents=True, exist_ok=True)
    with (_BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = [*ROOT.glob("native/box/*.[ch]"), ROOT / "native" / "engine" / "zygote" / "_fork.c"]
        if FORK.exists() and max(source.stat().st_mtime for source in sources) < FORK.stat().st_mtime:
            return FORK
        command = [sys.executable, "setup.py", "-q", "build_ext", "--force"]
        command += [f"--build-lib={_BUILD / 'lib'}", f"--build-temp={_BUILD / 'tmp'}"]
        built = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"CLEAVE_BARE": "1"}, capture_output=True, text=True, check=False
        )
        if built.returncode != 0:
            raise RuntimeError(f"the bench's build failed:\n{built.stderr[-4000:]}")
    return FORK
