"""Where an invocation's time went, as a picture in the terminal: a bar for each step, one below the other.

Theory of operation: a mark of a report says what had just been done. Three do things, in part at the same time: the
engine, the sandbox that sets itself up, and the guest in it. So the bar of a step begins at the mark before it of the
same one; the first of each begins at the last mark of anybody. Plain text where the terminal knows no blocks.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

from engine.cli.render import size, start_kind
from engine.v1 import reports_pb2

_ACTORS = {"box": "sandbox", "guest": "guest"}
"""By the first word of a phase; all others are the engine's."""
_BLOCKS = "▏▎▍▌▋▊▉█"
_BAR_LEAST, _BAR_MOST = 20, 60


@dataclass(frozen=True, slots=True)
class Step:
    """What one of them did, from when to when: microseconds since the engine accepted the request."""

    actor: str
    name: str
    begin_us: int
    end_us: int


def steps(report: reports_pb2.Report) -> list[Step]:
    """In the order of their ends."""
    found: list[Step] = []
    lasts = {"engine": 0}
    last = 0
    for mark in sorted(report.timeline, key=lambda mark: mark.offset_us):
        word, _, rest = mark.phase.partition("_")
        actor, name = (_ACTORS[word], rest) if word in _ACTORS else ("engine", mark.phase)
        found.append(Step(actor, name.replace("_", " "), lasts.get(actor, last), mark.offset_us))
        lasts[actor] = last = mark.offset_us
    return found


def picture(report: reports_pb2.Report) -> list[str]:
    """Its lines, for standard error; none where no timeline was asked for."""
    found = steps(report)
    if not found:
        return []
    whole_us = max(1, found[-1].end_us)
    names = max(len(step.name) for step in found)
    head = f"{'at ms':>9}  {'took ms':>8}  {'who':<7}  {'what':<{names}}  "
    room = min(_BAR_MOST, max(_BAR_LEAST, shutil.get_terminal_size((80, 24)).columns - len(head) - 1))
    scale = f"{whole_us / 1000:.3f} ms"
    what = f"A {start_kind(report)} start" if report.start_kind else "No sandbox had it"
    lines = [f"{what}: where {scale} went", f"{head}0{scale:>{room - 1}}"]
    for step in found:
        at, took = step.end_us / 1000, (step.end_us - step.begin_us) / 1000
        bar = _bar(step, room / whole_us)
        lines.append(f"{at:9.3f}  {took:8.3f}  {step.actor:<7}  {step.name:<{names}}  {bar}".rstrip())
    return [*lines, *_costs(report)]


def _bar(step: Step, cells_per_us: float) -> str:
    begin = int(step.begin_us * cells_per_us)
    eighths = max(1, round((step.end_us * cells_per_us - begin) * 8))
    if not _can_show(_BLOCKS):
        return " " * begin + "#" * max(1, round(eighths / 8))
    whole, part = divmod(eighths, 8)
    return " " * begin + _BLOCKS[7] * whole + (_BLOCKS[part - 1] if part else "")


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stderr.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _costs(report: reports_pb2.Report) -> list[str]:
    if not report.HasField("cost"):
        return []
    cost = report.cost
    phases = [("in the handler", cost.handler_minor_faults, cost.handler_major_faults)]
    if report.start_kind != reports_pb2.START_KIND_WARM:
        phases = [
            ("until it had the event", cost.boot_minor_faults, cost.boot_major_faults),
            ("in the init phase", cost.init_minor_faults, cost.init_major_faults),
            *phases,
        ]
    faults = ", ".join(
        f"{minor} {where}" + (f" ({major} from disk)" if major else "") for where, minor, major in phases
    )
    memory = ", ".join(
        f"{size(count)} {whose}"
        for count, whose in (
            (cost.private_bytes, "of its own"),
            (cost.shared_bytes, "shared"),
            (cost.kernel_bytes, "of the kernel"),
        )
        if count
    )
    return [f"Page faults: {faults}", f"Memory: {memory or 'not known'}"]
