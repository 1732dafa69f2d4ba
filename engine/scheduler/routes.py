"""Which of an alias' two versions a call goes to: what the native scheduler says.

Leaves to others: what an alias may be (engine.registry.aliases), the decision itself (sched_route in native/sched).
Guarantees: the same random numbers give the same versions; a version gets its share to a millionth; an alias that is
written anew holds with the next call.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from engine.model.alias import Alias
from engine.scheduler.core import FULL, WEIGHT, Core, Rejected
from engine.scheduler.targets import Key, Targets


def random32() -> int:
    """32 random bits."""
    return random.getrandbits(32)


class Routes:
    """The aliases that the native scheduler knows: each from its first call on."""

    def __init__(self, core: Core, targets: Targets, random32: Callable[[], int]) -> None:
        self._core = core
        self._targets = targets
        self._random32 = random32
        self._aliases: dict[tuple[str, str], tuple[int, str, list[int]]] = {}  # native id, etag, native targets

    def route(self, alias: Alias, keys: Sequence[Key], now_ns: int) -> int:
        """See Scheduler.route."""
        name = (alias.function_name, alias.name)
        for key in keys:
            self._targets.of(key, now_ns)  # where there is no room, the last may take the place of the first
        targets = [self._targets.of(key, now_ns) for key in keys]
        held, etag, pointed = self._aliases.get(name, (0, "", []))
        if (etag, pointed) != (alias.etag, targets):
            held = self._point(held, alias, targets)
            self._aliases[name] = (held, alias.etag, targets)
        return targets.index(self._core.route(held, self._random32()))

    def forget(self, function_name: str) -> None:
        """The function is gone."""
        for name in [name for name in self._aliases if name[0] == function_name]:
            self._core.alias_remove(self._aliases.pop(name)[0])

    def _point(self, held: int, alias: Alias, targets: Sequence[int]) -> int:
        weights = [round(share * WEIGHT) for _, share in alias.shares]
        weights[-1] = WEIGHT - sum(weights[:-1])
        routes = list(zip(targets, weights, strict=True))
        try:
            return self._core.alias_set(held, routes)
        except Rejected as rejected:
            if rejected.code != FULL:
                raise
        # Those that nobody calls any more make way; the others are told again.
        for one, _, _ in self._aliases.values():
            self._core.alias_remove(one)
        self._aliases.clear()
        return self._core.alias_set(0, routes)
