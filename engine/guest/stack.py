"""A traceback as the list of strings of an error document, in the form of traceback.format_list.

Written out here because importing traceback and linecache (and with them re, tokenize and more) costs a function's
first error several milliseconds and its sandbox a megabyte. Guarantees: the frames of the guest itself, of the import
system and of the event loop above the first line of user code, are left out; it reads only regular files, never raises.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

_REPEATS_SHOWN = 3  # as traceback does with a recursion
_SOURCE_LIMIT_BYTES = 4_194_304


def user_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of user code on; None where none is left."""
    while trace is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    return trace


def _is_ours(frame: FrameType) -> bool:
    of = frame.f_globals
    if of.get("__package__") == __package__ or of.get("__name__") == "asyncio.base_events":
        return True  # the second runs coroutines for the guest
    return frame.f_code.co_filename.startswith("<frozen importlib")


def format_trace(trace: TracebackType | None) -> list[str]:
    """One string a frame, oldest first, each ending with a line feed."""
    entries: list[str] = []
    sources: dict[str, list[bytes]] = {}
    last: tuple[str, int, str] | None = None
    count = 0
    trace = user_part(trace)
    while trace is not None:
        frame = trace.tb_frame
        place = (frame.f_code.co_filename, trace.tb_lineno, frame.f_code.co_name)
        if place != last:
            _note_repeats(entries, count)
            last, count = place, 0
        count += 1
        if count <= _REPEATS_SHOWN:
            line = _source_line(frame, trace.tb_lineno, sources)
            entries.append('  File "{}", line {}, in {}\n'.format(*place) + (f"    {line}\n" if line else ""))
        trace = trace.tb_next
    _note_repeats(entries, count)
    return entries


def _note_repeats(entries: list[str], count: int) -> None:
    more = count - _REPEATS_SHOWN
    if more > 0:
        entries.append(f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n")


def _source_line(frame: FrameType, number: int | None, sources: dict[str, list[bytes]]) -> str:
    path = frame.f_code.co_filename
    if path not in sources:
        try:
            sources[path] = _source(frame).split(b"\n")
        except Exception:  # a loader is user code: whatever it raises, there is no line to show
            sources[path] = []
    lines = sources[path]
    if not number or number > len(lines):
        return ""
    try:
        return lines[number - 1].decode().strip()
    except UnicodeDecodeError:
        return lines[number - 1].decode("latin-1").strip()


def _source(frame: FrameType) -> bytes:
    path = frame.f_code.co_filename
    if os.path.isfile(path):
        with open(path, "rb") as file:
            return file.read(_SOURCE_LIMIT_BYTES)
    loader: Any = frame.f_globals.get("__loader__")
    if path.startswith("<") or not hasattr(loader, "get_source"):
        return b""
    return (loader.get_source(frame.f_globals["__name__"]) or "").encode()  # code imported from a zip
