"""A function of the engine's own: compiles all modules of the task root, as importing them would, and runs none.

The engine starts it in a sandbox that has a function's code and nothing else of it, for compiling hostile source can
take the compiler's process over. What it returns is as hostile, and goes to sandboxes of the same code alone.

The answer is a stream of records (wire.py). The .pyc files hold whatever their source is (PEP 552): it cannot change.
Those of a layer (`{"layer": true}`) are checked against the source: another layer may put another source in its place.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import (  # type: ignore[attr-defined]
    MAGIC_NUMBER,
    SourceFileLoader,
    _code_to_hash_pyc,
    cache_from_source,
)
from _imp import source_hash

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
    checked = isinstance(event, dict) and bool(event.get("layer"))
    batch: list[bytes] = []
    size = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = f"{folder}/{name}"
            data = _compiled(path, checked) if name.endswith(".py") else None
            if data is not None:
                place = os.path.relpath(path, root).encode("utf-8", "surrogateescape")
                batch += (wire.RECORD.pack(len(place), len(data)), place, data)
                size += len(data)
            if size >= _BATCH_BYTES:
                yield b"".join(batch)
                batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _compiled(path: str, checked: bool) -> bytes | None:
    try:
        if os.stat(path).st_size > _SOURCE_LIMIT_BYTES or _has_its_own(path, checked):
            return None
        source = loader.read_file(path)
        if source is None:
            return None
        code = compile(source, path, "exec", dont_inherit=True)
        digest = source_hash(int.from_bytes(MAGIC_NUMBER, "little"), source) if checked else bytes(8)
        return bytes(_code_to_hash_pyc(code, digest, checked))
    except Exception:  # no module of any Python, or of another one
        return None


def _has_its_own(path: str, checked: bool) -> bool:
    """Whether an import would use the bytecode that is there, and may."""
    cached = cache_from_source(path)
    if not os.path.exists(cached):
        return False
    if checked and (loader.read_file(cached) or b"").startswith(loader.UNCHECKED):
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
