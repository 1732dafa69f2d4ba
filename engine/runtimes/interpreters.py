"""Which Pythons this host has, and what a runtime's name therefore means.

A runtime is called as on AWS, python3.9 to python3.14; it exists where an interpreter of that version does. The
engine's own interpreter comes first, then those the operator names, then what is on PATH. Each is asked once, by
running it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OLDEST, NEWEST = (3, 9), (3, 14)
_ASK = (
    'import sys; sys.stdout.write(\'["%d.%d.%d", "%s", "%s"]\' % '
    "(sys.version_info[:3] + (sys.base_prefix, sys.base_exec_prefix)))"
)
_ANSWER_WITHIN_S = 10


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that zygotes can be started from."""

    runtime: str  # such as "python3.11"
    path: str  # the executable
    prefixes: tuple[str, ...]  # folders that it needs to see: its standard library
    version: str = ""  # in full, such as "3.11.2"


def ask(path: str) -> Interpreter | None:
    """What the executable at `path` is, or None if it is no Python that the engine runs."""
    try:
        answer = subprocess.run(
            [path, "-I", "-S", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_WITHIN_S,
            env={},
            check=True,
        )
        version, *prefixes = json.loads(answer.stdout)
        major, minor, _ = (int(part) for part in version.split("."))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if not OLDEST <= (major, minor) <= NEWEST:
        return None
    folders = tuple(dict.fromkeys(prefixes))
    return Interpreter(f"python{major}.{minor}", os.path.realpath(path), folders, version)


def find_interpreters(named: Iterable[str], search: str) -> Mapping[str, Interpreter]:
    """Interpreters by runtime name, the engine's own first. `search` is a PATH. Runs each candidate: milliseconds."""
    own = getattr(sys, "_base_executable", sys.executable)
    candidates = [own, *named]
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        candidates += [os.path.join(folder, f"python3.{minor}") for folder in search.split(os.pathsep) if folder]
    found: dict[str, Interpreter] = {}
    for candidate in candidates:
        stem = os.path.basename(candidate)
        if stem in found and candidate not in named:
            continue
        if os.access(candidate, os.X_OK):
            interpreter = ask(candidate)
            if interpreter is not None:
                found.setdefault(interpreter.runtime, interpreter)
    return found
