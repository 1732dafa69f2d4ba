"""The debug build of the extensions, with the step counter: made beside the ordinary one when its sources are newer."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_BUILD = ROOT / "build" / "steps"
BOX = _BUILD / "lib" / "engine" / "sandbox" / f"_box{EXTENSION_SUFFIXES[0]}"
FORK = _BUILD / "lib" / "engine" / "zygote" / "_fork.abi3.so"


def build() -> None:
    """Build it if it is not up to date: some seconds. Raises RuntimeError with what the compiler said."""
    _BUILD.mkdir(parents=True, exist_ok=True)
    with (_BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _newest(ROOT / "native", ROOT / "setup.py") < min(_age(BOX), _age(FORK)):
            return
        command = [sys.executable, "setup.py", "-q", "build_ext", "--force"]
        command += [f"--build-lib={_BUILD / 'lib'}", f"--build-temp={_BUILD / 'tmp'}"]
        built = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"CLEAVE_STEPS": "1"}, capture_output=True, text=True, check=False
        )
        if built.returncode != 0:
            raise RuntimeError(f"the debug build failed:\n{built.stderr[-4000:]}")


def _age(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _newest(*paths: Path) -> float:
    return max(_age(file) for path in paths for file in (path, *path.rglob("*.[chp]*")) if file.is_file())
