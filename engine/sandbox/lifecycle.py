"""The states of a sandbox and the one gate between them.

Leaves to others: what is done in a state. Guarantees: a sandbox changes its state by `Lifecycle.move` alone, which
refuses every pair that TRANSITIONS does not have.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType

from engine.errors import SandboxFault


class SandboxState(enum.Enum):
    """Where a sandbox is in its life."""

    STARTING = "starting"  # its processes and its isolation are being made; no code of a user has run
    READY = "ready"  # the guest is there and waits for its first event
    INITIALIZING = "initializing"  # it has its first event, or is made ready for it; the function's module code runs
    RUNNING = "running"  # the handler has an event
    IDLE = "idle"  # has served or been made ready, waits for the next event
    ENDED = "ended"  # it was killed or ended by itself; what is left of it waits for `close`
    CLOSING = "closing"  # processes, mounts, cgroups and files are being taken away
    DEAD = "dead"  # nothing of it is left

    __hash__ = object.__hash__  # in C: enum's own is a call of Python's for each look into a table


TRANSITIONS: Mapping[SandboxState, frozenset[SandboxState]] = MappingProxyType(
    {
        SandboxState.STARTING: frozenset({SandboxState.READY, SandboxState.ENDED, SandboxState.CLOSING}),
        SandboxState.READY: frozenset({SandboxState.INITIALIZING, SandboxState.ENDED, SandboxState.CLOSING}),
        SandboxState.INITIALIZING: frozenset(
            {SandboxState.RUNNING, SandboxState.IDLE, SandboxState.ENDED, SandboxState.CLOSING}
        ),
        SandboxState.RUNNING: frozenset({SandboxState.IDLE, SandboxState.ENDED, SandboxState.CLOSING}),
        SandboxState.IDLE: frozenset({SandboxState.RUNNING, SandboxState.ENDED, SandboxState.CLOSING}),
        SandboxState.ENDED: frozenset({SandboxState.CLOSING}),
        SandboxState.CLOSING: frozenset({SandboxState.DEAD}),
        SandboxState.DEAD: frozenset(),
    }
)
"""Where each state may lead."""

OVER = frozenset({SandboxState.ENDED, SandboxState.CLOSING, SandboxState.DEAD})
"""The states in which a sandbox runs nothing more."""

MoveListener = Callable[[SandboxState, SandboxState], None]
"""Called after a move with the state left and the state entered."""


class Lifecycle:
    """The state of one sandbox."""

    __slots__ = ("_listeners", "_state")

    def __init__(self, state: SandboxState = SandboxState.STARTING) -> None:
        self._state = state
        self._listeners: tuple[MoveListener, ...] = ()

    @property
    def state(self) -> SandboxState:
        """Where it is."""
        return self._state

    @property
    def over(self) -> bool:
        """Whether it runs nothing more."""
        return self._state in OVER

    def listen(self, listener: MoveListener) -> None:
        """Tell `listener` of every move from here on, after those that listen already."""
        self._listeners += (listener,)

    def move(self, to: SandboxState) -> None:
        """Enter `to`. Raises SandboxFault, changing nothing, if the state that it is in does not lead there."""
        state = self._state
        if to not in TRANSITIONS[state]:
            raise SandboxFault(
                "lifecycle", 0, f"a sandbox cannot go from {state.value} to {to.value}", fix="report it as a bug"
            )
        self._state = to
        for listener in self._listeners:
            listener(state, to)

    def end(self) -> bool:
        """Enter ENDED, unless it runs nothing more anyway. Whether it idled until then."""
        idled = self._state is SandboxState.IDLE
        if not self.over:
            self.move(SandboxState.ENDED)
        return idled
