"""Uses up, in a zygote, the free room between its objects, so that what a fork makes lies side by side.

CPython hands out memory by size from pools (Objects/obmalloc.c), and takes a new one only where no other of the size
has room. A zygote's have room here and there: a fork would write a page of each, and copy it for that. Leaves
everything else to the interpreter: one that has no such pools loses some memory, and nothing else.
"""

from __future__ import annotations

import sys

_STEP = 16
_LARGEST = 512
_HEADER = 33  # of a bytes object, with the zero behind it
_POOL = 16_384 if sys.version_info >= (3, 10) else 4_096
_POOL_HEADER = 48
_MOST = 4_096
"""Objects of a size, at most."""
_ROOM = 32_768


def use_up() -> object:
    """Returns what keeps the room in use, for as long as it is kept."""
    kept: list[object] = [None] * _ROOM  # so large that it is no part of the heap, whose room it would change
    count = 0
    for size in range(_STEP, _LARGEST + 1, _STEP):
        count = _fill(size, kept, count)
    return kept


def _fill(size: int, kept: list[object], count: int) -> int:
    """Make objects of a size until they have filled a pool that was new, which is when no other has room."""
    run = 0  # of objects one after the other
    before = 0
    for place in range(count, min(count + _MOST, _ROOM)):
        kept[place] = made = _object_of(size)
        run = run + 1 if id(made) == before + size else 1
        before = id(made)
        if run >= (_POOL - _POOL_HEADER) // size and before % _POOL + 2 * size > _POOL:
            return place + 1
    return min(count + _MOST, _ROOM)


def _object_of(size: int) -> object:
    if size == _STEP:
        return object()
    if size == 2 * _STEP:
        return float(size)
    return bytes(size - _HEADER)
