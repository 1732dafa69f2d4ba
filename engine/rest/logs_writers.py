"""Which functions log to which group, as the registry has it now.

A function logs to the group of its LoggingConfig, by default /aws/lambda/<name>; its versions log where $LATEST does.
Kept up to date by the registry's news, so that asking for a group costs the same with 5 functions and with 5,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from engine.model.function import Function
from engine.registry.api import Registry
from engine.rest.configuration import log_group_of

_FUNCTIONS_AT_A_TIME = 1_000
_NONE: Mapping[str, int] = MappingProxyType({})


class LogWriters:
    """Groups and the functions that log to them."""

    def __init__(self, registry: Registry) -> None:
        self._groups: dict[str, dict[str, int]] = {}
        self._of: dict[str, str] = {}
        registry.subscribe(self._changed)
        after = ""
        while True:
            some, after = registry.list(limit=_FUNCTIONS_AT_A_TIME, after=after)
            for function in some:
                self._changed(function.name, function)
            if not after:
                return

    def group(self, function_name: str) -> str | None:
        """The one to which a function logs; None for a function that is gone."""
        return self._of.get(function_name)

    def of(self, group: str) -> Mapping[str, int]:
        """The functions that log to a group, with the time of their creation in milliseconds since the epoch."""
        return self._groups.get(group, _NONE)

    def _changed(self, name: str, function: Function | None) -> None:
        before = self._of.pop(name, None)
        if before is not None:
            del self._groups[before][name]
            if not self._groups[before]:
                del self._groups[before]
        if function is not None:
            group = self._of[name] = log_group_of(function)
            self._groups.setdefault(group, {})[name] = int(function.create_time.timestamp() * 1_000)
