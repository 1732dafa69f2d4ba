"""Which Pythons this host has, and what a runtime's name therefore means.

A runtime is called as on AWS, python3.9 to python3.14; it exists where an interpreter of that version does. Those that
the operator named come first, then the engine's own, then what is on PATH and where Pythons are commonly installed
(engine.runtimes.places). Each is asked once, by running it: without an environment, and with what a zygote loads.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import InvalidArgument

OLDEST, NEWEST = (3, 9), (3, 14)
_ASK = """
import sys
problem = ""
if sys.version_info >= (3, 9) and sys.argv[1]:
    import _imp
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import ExtensionFileLoader
    try:
        _imp.create_dynamic(ModuleSpec("_fork", ExtensionFileLoader("_fork", sys.argv[1]), origin=sys.argv[1]))
    except ImportError as error:
        problem = str(error)
prefixes = [sys.base_prefix, sys.base_exec_prefix]
sys.stdout.write(repr((sys.implementation.name, sys.version_info[:3], sys.abiflags, prefixes, problem)))
"""
_PACKAGES = "import site, sys; sys.stdout.write(repr(site.getsitepackages(sys.argv[1:])))"
_ANSWER_WITHIN_S = 10
_SHIMS = "shims"  # of a version manager: scripts that need its environment, and take 0.1 s to say so
_OTHERS_MAY_WRITE = 0o002


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that zygotes can be started from."""

    runtime: str  # such as "python3.11"
    path: str  # the executable
    prefixes: tuple[str, ...]  # folders that it needs to see: its standard library, and its virtual environment
    version: str = ""  # in full, such as "3.11.2"
    venv: str = ""  # the folder of the virtual environment whose packages are its own


def examine(path: str, fork_module: Path | None = None) -> Interpreter:
    """What the executable at `path` is. Where it is a virtual environment's, its packages are that environment's.
    `fork_module` is the extension that zygotes load. Raises InvalidArgument if it is no Python that the engine runs."""
    real = os.path.realpath(path)
    if not os.path.isabs(path) or not os.access(real, os.X_OK) or not os.path.isfile(real):
        raise _unusable(path, "there is no such executable file")
    venv = os.path.realpath(os.path.dirname(os.path.dirname(path)))
    if not os.path.exists(os.path.join(venv, "pyvenv.cfg")):
        venv = ""
    try:
        answer = _run(real, _ASK, str(fork_module or ""))
        implementation, (major, minor, micro), flags, prefixes, problem = answer
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise _unusable(path, f"it ended with status {error.returncode}: {said or 'it said nothing'}") from error
    except subprocess.TimeoutExpired as error:
        raise _unusable(path, f"it did not answer within {_ANSWER_WITHIN_S} s") from error
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise _unusable(path, "it does not answer as a Python does") from error
    if implementation != "cpython" or "t" in flags:
        kind = "free-threaded" if implementation == "cpython" else implementation
        raise _unusable(path, f"it is {kind}, and forks are of CPython with its lock")
    if not OLDEST <= (major, minor) <= NEWEST:
        raise _unusable(
            path, f"it is Python {major}.{minor}, and the engine runs {_dotted(OLDEST)} to {_dotted(NEWEST)}"
        )
    if fork_module is not None and problem:
        raise _unusable(path, f"it cannot load what zygotes load: {problem}")
    return Interpreter(
        runtime=f"python{major}.{minor}",
        path=real,
        prefixes=tuple(dict.fromkeys([*prefixes, *([venv] if venv else [])])),
        version=f"{major}.{minor}.{micro}",
        venv=venv,
    )


def packages_of(interpreter: Interpreter) -> tuple[str, ...]:
    """The folders of its installed packages, without those that others than root and the engine's user can change.
    Runs it: 15 ms. Raises InvalidArgument where it does not answer."""
    try:
        folders = _run(interpreter.path, _PACKAGES, *([interpreter.venv] if interpreter.venv else interpreter.prefixes))
    except (OSError, subprocess.SubprocessError, ValueError, SyntaxError) as error:
        raise _unusable(interpreter.path, f"it does not say where its packages are: {error}") from error
    return tuple(folder for folder in dict.fromkeys(folders) if _only_ours(folder))


def _run(path: str, program: str, *arguments: str) -> Any:
    done = subprocess.run(
        [path, "-I", "-S", "-B", "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_ANSWER_WITHIN_S,
        env={"LC_CTYPE": "C.UTF-8"},
        cwd="/",
        check=True,
    )
    return ast.literal_eval(done.stdout.decode())


def ask(path: str, fork_module: Path | None = None) -> Interpreter | None:
    """`examine`, or None if it is no Python that the engine runs."""
    try:
        return examine(path, fork_module)
    except InvalidArgument:
        return None


def own_path() -> str:
    """The engine's own interpreter, outside of its virtual environment: functions see nothing of that."""
    own: str = getattr(sys, "_base_executable", sys.executable)
    return own


def find_interpreters(
    named: Iterable[str],
    search: str,
    *,
    folders: Iterable[str] = (),
    fork_module: Path | None = None,
    refused: Callable[[str, str], None] = lambda _path, _why: None,
) -> Mapping[str, Interpreter]:
    """Interpreters by runtime name, that of the engine's own version first. `search` is a PATH, `folders` are looked at
    after it; what is found there has to be root's or the engine's user's. `refused` is told of each of `named` that
    cannot be a runtime, and why. Runs each candidate: 10 to 30 ms."""
    own = ask(own_path(), fork_module)
    found: dict[str, Interpreter] = {}
    if own is not None:
        found[own.runtime] = own  # the place; it may be another's
    for path in reversed(tuple(named)):
        try:
            interpreter = examine(path, fork_module)
        except InvalidArgument as error:
            refused(path, error.fields["path"])
        else:
            found[interpreter.runtime] = interpreter
    for candidate, trusted in candidates(search, folders):
        if os.path.basename(candidate) in found:
            continue
        other = ask(candidate, fork_module) if trusted or _only_ours(candidate) else None
        if other is not None:
            found.setdefault(other.runtime, other)
    return found


def candidates(search: str, folders: Iterable[str] = ()) -> list[tuple[str, bool]]:
    """The programs that are called as a Python that the engine runs, the newest version first, and whether whoever
    started the engine vouches for where they are."""
    places = [(folder, True) for folder in search.split(os.pathsep) if os.path.basename(folder) != _SHIMS]
    places += [(folder, False) for folder in folders]
    return [
        (candidate, trusted)
        for minor in range(NEWEST[1], OLDEST[1] - 1, -1)
        for folder, trusted in places
        if os.path.isabs(folder) and os.access(candidate := os.path.join(folder, f"python3.{minor}"), os.X_OK)
    ]


def _only_ours(path: str) -> bool:
    """Whether nobody but root and the engine's user can change it: it runs before there is a sandbox."""
    try:
        stats = [os.stat(path), os.stat(os.path.dirname(os.path.realpath(path)))]
    except OSError:
        return False
    return all(stat.st_uid in (0, os.geteuid()) and not stat.st_mode & _OTHERS_MAY_WRITE for stat in stats)


def _unusable(path: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path} cannot be a runtime: {why}",
        fix=f"name a CPython {_dotted(OLDEST)} to {_dotted(NEWEST)} by its absolute path",
        fields={"path": why},
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
