"""How a call becomes an RPC of engine.v1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rpc:
    """`read` takes the answer apart; `paged`: a page is a list, and next_page_token leads to the next; `make` makes the
    request, where a call's fields are not those of it. `slow`: it takes as long as an upload may."""

    stub: Callable[[Any], Any]
    messages: Any
    read: Callable[[Any], Any]
    paged: bool = False
    make: Callable[[Mapping[str, Any]], Any] | None = None
    slow: bool = False
