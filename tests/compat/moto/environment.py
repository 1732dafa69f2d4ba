"""What moto's tests run in, under build/moto: an environment by requirements/moto.lock, and moto's source distribution.

Both come from the package index through pip, which checks every hash. A stamp with the digest of the lock is written
last, so that an interrupted run starts again and a second run fetches nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "requirements" / "moto.lock"
CACHE = ROOT / "build" / "moto"
_ENTRY = re.compile(r"^moto==(?P<version>\S+) \\\n(?:    --hash=\S+(?: \\)?\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Environment:
    """A Python that has moto and its server, and the folder of moto's source distribution."""

    python: Path
    source: Path


def environment() -> Environment:
    """The environment, made where it is not there. Raises CalledProcessError where pip fails."""
    CACHE.mkdir(parents=True, exist_ok=True)
    entry = _ENTRY.search(LOCK.read_text())
    assert entry is not None, f"{LOCK} has no moto"
    made = Environment(CACHE / "venv" / "bin" / "python", CACHE / f"moto-{entry['version']}")
    stamp = CACHE / "made-of"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    with _alone():
        if not stamp.exists() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            _make(made, entry[0])
            stamp.write_text(digest)
    return made


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(made: Environment, entry: str) -> None:
    shutil.rmtree(made.source, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", CACHE / "venv"], check=True)
    pip = [str(made.python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--require-hashes", "--only-binary", ":all:", "-r", LOCK], check=True)
    wanted = CACHE / "source.txt"
    wanted.write_text(entry)
    # pip asks the distribution for its metadata, which its build backend answers: setuptools, from the lock.
    flags = ["--require-hashes", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    subprocess.run([*pip, "download", *flags, "--dest", CACHE, "-r", wanted], check=True)
    with tarfile.open(made.source.with_name(made.source.name + ".tar.gz")) as archive:
        archive.extractall(CACHE, filter="data")
