"""Pages of a list, with markers that are the last key of the page before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from engine.rest.shapes import Params


def page(keys: Sequence[str], params: Params, *, most: int) -> tuple[Sequence[str], dict[str, str]]:
    """The keys, which are sorted, that Marker and MaxItems ask for, at most `most`; and NextMarker if there are more.
    A marker of which the key is gone goes on behind where it was."""
    after = params.get("Marker") or ""
    start = bisect_right(keys, after) if after else 0
    found = keys[start : start + min(params.get("MaxItems") or most, most)]
    more = start + len(found) < len(keys)
    return found, {"NextMarker": found[-1]} if more and found else {}
