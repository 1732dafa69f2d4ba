"""Which handler answers which operation.

A room of operations is a class over Rooms with a method `operations`; engine.rest.handlers lists them all.
Guarantees that no operation has two handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from engine.events.room import Events
from engine.model.invocation import Invoker
from engine.registry.api import CodeStore, Registry
from engine.registry.attached import Attached
from engine.rest.configuration import Documents
from engine.rest.messages import Request
from engine.rest.named import Named
from engine.rest.shapes import Params

Operation = Callable[[Params, Request], Awaitable[dict[str, Any]]]
"""Takes the members of an operation's input, gives those of its output."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What handlers work with."""

    registry: Registry
    code: CodeStore
    invoker: Invoker
    documents: Documents
    named: Named
    attached: Attached
    events: Events
    stop_on_disconnect: bool = False


class Handlers(Protocol):
    """Some operations of the API."""

    def operations(self) -> Mapping[str, Operation]:
        """The handlers, by the names of their operations."""


def table(rooms: Rooms, *served: Callable[[Rooms], Handlers]) -> dict[str, Operation]:
    """Every operation of these."""
    found: dict[str, Operation] = {}
    for make in served:
        for name, operation in make(rooms).operations().items():
            if name in found:
                raise ValueError(f"{name} has two handlers")
            found[name] = operation
    return found
