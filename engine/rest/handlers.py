"""The operations that are served: the one list of their rooms."""

from __future__ import annotations

from engine.rest.functions import Functions
from engine.rest.invocations import Invocations
from engine.rest.table import Operation, Rooms, table


def served(rooms: Rooms) -> dict[str, Operation]:
    """Every operation that has a handler; the one that streams is engine.rest.streams'."""
    return table(
        rooms,
        Functions,
        Invocations,
    )
