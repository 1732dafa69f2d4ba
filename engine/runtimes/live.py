"""The runtimes of one engine while it runs: found at its start, looked at again, and added to by its operator.

What the operator adds (`cleave runtimes add`) is a list of paths in the data directory, which nobody but the engine's
user can write: naming a program that the engine runs is a right over the host, and the open doors give none of those.
Guarantees: a runtime that is offered had an interpreter when it was last looked at; one whose file changed or went away
is told of, once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from engine.errors import InvalidArgument, StoreUnusable
from engine.fabric.files import make_private_folder, write_atomic
from engine.runtimes.interpreters import Interpreter, candidates, examine, find_interpreters
from engine.runtimes.places import python_folders

ADDED_FILE = "runtimes.json"
"""In the data directory: a JSON list of the paths that were added, the newest last."""
_HIDDEN = ("/tmp/", "/dev/", "/proc/", "/var/task/")
_Stat = tuple[int, int, int, int]
_Print = tuple[_Stat, ...]


class Added:
    """The interpreters that the operator has added to a data directory."""

    def __init__(self, data_dir: Path, fork_module: Path | None = None) -> None:
        self._file = data_dir / ADDED_FILE
        self._fork_module = fork_module

    def paths(self) -> list[str]:
        """The last one first: it is the one that counts for its version. Raises StoreUnusable for a file that no
        engine has written."""
        try:
            paths = orjson.loads(self._file.read_bytes())
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                raise ValueError("it is no list of paths")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise StoreUnusable(
                f"{self._file} cannot be read: {error}", fix="remove it, and add the interpreters again"
            ) from error
        return paths[::-1]

    def add(self, path: str) -> Interpreter:
        """Run it, and remember it if it can be a runtime. Raises InvalidArgument, StoreUnusable."""
        path = os.path.abspath(os.path.expanduser(path))
        interpreter = examine(path, self._fork_module)
        hidden = [prefix for prefix in interpreter.prefixes if prefix.startswith(_HIDDEN)]
        if hidden:
            why = f"{hidden[0]} is where each sandbox has a folder of its own"
            fix = "install it elsewhere, such as below /opt or /usr/local"
            raise InvalidArgument(f"{path} cannot be a runtime: {why}", fix=fix, fields={"path": why})
        self._write([*(known for known in self.paths()[::-1] if known != path), path])
        return interpreter

    def remove(self, path: str) -> None:
        """Forget it. Raises InvalidArgument if it was not added, StoreUnusable."""
        path = os.path.abspath(os.path.expanduser(path))
        paths = self.paths()[::-1]
        if path not in paths:
            listed = ", ".join(paths) or "none was"
            raise InvalidArgument(f"{path} was not added", fix=f"see what was: {listed}", fields={"path": "not added"})
        self._write([known for known in paths if known != path])

    def _write(self, paths: Sequence[str]) -> None:
        try:
            self._file.parent.parent.mkdir(parents=True, exist_ok=True)
            make_private_folder(self._file.parent)
            write_atomic(self._file, orjson.dumps(paths))
        except OSError as error:
            raise StoreUnusable(
                f"{self._file} cannot be written: {error.strerror}", fix="run it as the user that the engine runs as"
            ) from error


class Runtimes(Mapping[str, Interpreter]):
    """Runtime name → interpreter. Reading it is for any thread and costs nothing; `refresh` and `stale` block."""

    def __init__(
        self,
        added: Added,
        named: Sequence[str],
        environ: Mapping[str, str],
        *,
        fork_module: Path | None = None,
        on_change: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        """`on_change` is told, on the thread that looked, of the runtimes whose interpreter is another or gone."""
        self._added = added
        self._named = tuple(named)
        self._environ = environ
        self._search = environ.get("PATH", os.defpath)
        self._fork_module = fork_module
        self.on_change = on_change
        self._turn = threading.Lock()
        self._found: Mapping[str, Interpreter] = {}
        self._prints: Mapping[str, _Print] = {}
        self._seen: Mapping[str, _Stat] = {}
        self.versions: dict[str, str] = {}
        """Runtime name → full version, kept up to date."""
        self.refused: Mapping[str, str] = {}
        """Those that were named or added and cannot be runtimes, by path, and why."""

    def __getitem__(self, runtime: str) -> Interpreter:
        return self._found[runtime]

    def __contains__(self, runtime: object) -> bool:
        return runtime in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._found))

    def __len__(self) -> int:
        return len(self._found)

    def refresh(self) -> None:
        """Look for interpreters again, by running them: 15 ms each. Raises StoreUnusable."""
        with self._turn:
            added = self._added.paths()
            changed = self._refresh(added, self._look(added))
        if changed:
            self.on_change(changed)

    def refresh_if_stale(self) -> None:
        """`refresh` if one was added, installed, changed or removed since; else it costs some 100 stats."""
        with self._turn:
            added = self._added.paths()
            seen = self._look(added)
            stale = seen != self._seen or any(
                _print_of(one) != self._prints[runtime] for runtime, one in self._found.items()
            )
            changed = self._refresh(added, seen) if stale else frozenset()
        if changed:
            self.on_change(changed)

    def _look(self, added: Sequence[str]) -> Mapping[str, _Stat]:
        """The files that may be interpreters, in order."""
        paths = [*added, *self._named, *(path for path, _ in candidates(self._search, self._folders()))]
        return {path: _stat(path) for path in paths}

    def _folders(self) -> Sequence[str]:
        return python_folders(self._environ, self._environ.get("HOME") or os.path.expanduser("~"))

    def _refresh(self, added: Sequence[str], seen: Mapping[str, _Stat]) -> frozenset[str]:
        before, prints = self._found, self._prints
        self._seen = seen
        refused: dict[str, str] = {}
        self._found = find_interpreters(
            [*added, *self._named],
            self._search,
            folders=self._folders(),
            fork_module=self._fork_module,
            refused=refused.__setitem__,
        )
        self.refused = refused
        self.versions |= {runtime: one.version for runtime, one in self._found.items()}
        self._prints = {runtime: _print_of(one) for runtime, one in self._found.items()}
        return frozenset(
            runtime
            for runtime, one in before.items()
            if self._found.get(runtime) != one or self._prints[runtime] != prints[runtime]
        )


def _print_of(interpreter: Interpreter) -> _Print:
    """What changes when an interpreter is replaced, as by an upgrade of its package."""
    minor = interpreter.runtime.removeprefix("python")
    library = (os.path.join(prefix, "lib", f"python{minor}", "os.py") for prefix in interpreter.prefixes)
    return tuple(_stat(path) for path in (interpreter.path, *library))


def _stat(path: str) -> _Stat:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
