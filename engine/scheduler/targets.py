"""Functions and their states by name, and the ids that the native scheduler has for them.

Guarantees: what is asked for is there, and what nobody needs any longer makes room when the tables are full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.errors import Unavailable
from engine.sandbox.api import SandboxSpec
from engine.scheduler.core import FULL, Core, Rejected
from engine.scheduler.kept import Follow, Kept

Key = tuple[str, ...]


class Targets:
    """One target for each key, under one function for each name."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._functions: dict[str, int] = {}
        self._keys: dict[str, set[Key]] = {}  # of each function
        self.ids: dict[Key, int] = {}
        self.kept: dict[int, Kept] = {}  # of targets with provisioned concurrency

    def of(self, key: Key, now_ns: int) -> int:
        """The target of a key."""
        target = self.ids.get(key)
        if target is None:
            function = self.function(key[0], now_ns)
            target = self.ids[key] = self._added(lambda: self._core.target_add(function), now_ns)
            self._keys.setdefault(key[0], set()).add(key)
        return target

    def function(self, name: str, now_ns: int) -> int:
        """The function of a name."""
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._added(self._core.function_add, now_ns)
        return function

    def reserve(self, name: str, concurrency: int | None, now_ns: int) -> None:
        """See Scheduler.set_reserved. Raises Rejected."""
        if concurrency is not None:
            self._core.set_reserved(self.function(name, now_ns), concurrency if concurrency >= 0 else -2, now_ns)
        elif name in self._functions:
            self._core.set_reserved(self._functions[name], -1, now_ns)
            if not self._keys.get(name):
                self._drop_function(name, now_ns)

    def retire(self, name: str, keep_etag: str | None, version: str | None, now_ns: int) -> None:
        """See Scheduler.retire."""
        for key in [key for key in self._keys.get(name, ()) if key[2] != keep_etag and version in (None, key[1])]:
            self._forget(key, now_ns)
        if keep_etag is None and version is None and not self._keys.get(name):
            self._drop_function(name, now_ns)

    def _forget(self, key: Key, now_ns: int) -> None:
        target = self.ids.pop(key)
        self._keys[key[0]].discard(key)
        self._leave(target)
        self._core.target_retire(target, now_ns)

    def provision(self, spec: SandboxSpec, sandboxes: int, follow: Follow, now_ns: int) -> None:
        """See Scheduler.set_provisioned. Raises Rejected."""
        target = self.of(spec.key, now_ns)
        self._core.set_provisioned(target, sandboxes, now_ns)
        if sandboxes == 0:
            self._leave(target)
        elif target in self.kept:
            self.kept[target].spec, self.kept[target].follow = spec, follow
        else:
            self.kept[target] = Kept(spec, follow)

    def leave_all(self) -> None:
        """No sandbox is wanted ahead of its event."""
        for kept in self.kept.values():
            kept.drop()

    def waiting(self) -> Iterator[tuple[str, int]]:
        """How many calls of which functions wait."""
        for name, function in self._functions.items():
            count = self._core.function_counts(function)["waiting"]
            if count:
                yield name, count

    def _leave(self, target: int) -> None:
        kept = self.kept.pop(target, None)
        if kept is not None:
            kept.drop()

    def _drop_function(self, name: str, now_ns: int) -> None:
        """Unless something is reserved for it, which outlives its sandboxes."""
        function = self._functions.get(name)
        if function is not None and self._core.function_counts(function)["reserved"] < 0:
            self._core.function_remove(function, now_ns)
            del self._functions[name]
            self._keys.pop(name, None)

    def _added(self, add: Callable[[], int], now_ns: int) -> int:
        try:
            return add()
        except Rejected as rejected:
            if rejected.code != FULL:
                raise
        self._make_room(now_ns)
        try:
            return add()
        except Rejected as rejected:
            raise Unavailable(
                "The scheduler has as many functions as it can hold.", fix="delete some, or try again later"
            ) from rejected

    def _make_room(self, now_ns: int) -> None:
        """Functions without sandboxes and calls are made anew when they are asked for."""
        for name, function in list(self._functions.items()):
            seen = self._core.function_counts(function)
            if seen["sandboxes"] == seen["concurrency"] == seen["provisioned"] == 0 and seen["reserved"] < 0:
                for key in list(self._keys.get(name, ())):
                    self._forget(key, now_ns)
                self._drop_function(name, now_ns)
