"""A function of the engine's own: compiles all modules of the task root, as importing them would, and runs none.

The engine starts it in a sandbox that has a function's code and nothing else of it, for compiling hostile source can
take the compiler's process over. What it returns is as hostile, and goes to sandboxes of the same code alone.

The answer is a stream of records (wire.py). The .pyc files hold whatever their source is (PEP 552): it cannot change.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import (  # type: ignore[attr-defined]
    SourceFileLoader,
    _code_to_hash_pyc,
    cache_from_source,
)

from . import loader, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SOURCE_LIMIT_BYTES = 8_388_608
_BATCH_BYTES = 131_072


def handler(event: Any, context: Any) -> Iterator[bytes]:
    """Yield the records, some at a time. There is none of what does not compile, nor where the bytecode beside a module
    is good."""
    root = os.getcwd()
    sys.path[:] = [path for path in sys.path if path != root]  # what the compiler imports is not the function's
    batch: list[bytes] = []
    size = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = f"{folder}/{name}"
            data = _compiled(path) if name.endswith(".py") else None
            if data is not None:
                place = os.path.relpath(path, root).encode("utf-8", "surrogateescape")
                batch += (wire.RECORD.pack(len(place), len(data)), place, data)
                size += len(data)
            if size >= _BATCH_BYTES:
                yield b"".join(batch)
                batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _compiled(path: str) -> bytes | None:
    try:
        if os.stat(path).st_size > _SOURCE_LIMIT_BYTES or _has_its_own(path):
            return None
        source = loader.read_file(path)
        if source is None:
            return None
        code = compile(source, path, "exec", dont_inherit=True)
        return bytes(_code_to_hash_pyc(code, bytes(8), False))
    except Exception:  # no module of any Python, or of another one
        return None


def _has_its_own(path: str) -> bool:
    """Whether an import would use the bytecode that is there."""
    if not os.path.exists(cache_from_source(path)):
        return False
    own = _Own("", path)
    own.get_code("")
    return not own.compiled


class _Own(SourceFileLoader):
    """Notes whether it had to compile."""

    compiled = False

    def source_to_code(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self.compiled = True
        return super().source_to_code(*args, **options)
