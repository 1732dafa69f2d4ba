"""What follows from a change of a function: its former states serve no more, and a deleted one leaves nothing.

A published version is one state for ever: its sandboxes serve until it, or its function, is deleted.

Leaves to others: when sandboxes end (the scheduler lets what runs end first).
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from engine.errors import EngineError
from engine.invoke.specs import Specs
from engine.model.function import Function
from engine.model.invocation import LogBatch
from engine.registry.api import Change, Changed
from engine.scheduler.api import Scheduler


class Logs(Protocol):
    """What is asked of engine.observe.function_logs.FunctionLogs."""

    def append(self, function_name: str, batch: LogBatch) -> None:
        """Keep lines; never blocks."""

    def forget(self, function_name: str) -> None:
        """Drop what is kept of a function."""


class Retirer:
    """A listener of the registry (engine.registry.api.ChangeListener), and by `changed` an observer."""

    def __init__(self, scheduler: Scheduler, specs: Specs, logs: Logs) -> None:
        self._scheduler = scheduler
        self._specs = specs
        self._logs = logs

    def __call__(self, function_name: str, function: Function | None) -> None:
        """The function is `function` from here on, or gone."""
        if function is None:
            self._specs.drop(function_name)
            self._scheduler.retire(function_name, None)
            self._logs.forget(function_name)
        else:
            self._specs.drop(function_name, function.version)
            self._scheduler.retire(function_name, function.etag, function.version)
            # Ahead of its next invocation, which is a cold start. Whether its code is there is for that one to say.
            with contextlib.suppress(EngineError):
                self._specs.get(function)

    def changed(self, change: Change) -> None:
        """A ChangeObserver: a version that is deleted serves no more."""
        if change.what is Changed.VERSION and change.gone:
            self._specs.drop(change.function_name, change.qualifier)
            self._scheduler.retire(change.function_name, None, change.qualifier)
