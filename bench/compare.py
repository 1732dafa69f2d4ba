"""Two commits on one host: `python -m bench.compare A B` says how much faster or slower B is, and how sure that is.

    python -m bench.compare main~1 main
    python -m bench.compare v0.1.0 . --scenario warm-1769 --rounds 200

A commit is anything that git knows; it is unpacked and built in build/compare, once. A folder that holds a built tree,
such as ".", is taken as it is. Both are driven by the scenarios and the client of the tree that this runs from.

Theory of operation: an engine of each runs at the same time. A round is a block of calls of the one and a block of
calls of the other, each after a block of echoes; which goes first alternates. So a round's ratio is of neighbours in
time, and a machine that drifts does not move it. What differs between two starts of the same engine, such as where its
memory lies, does: so all of it is done in several sessions with fresh engines, and the ratio of each session is shown.

Guarantees that B is called faster or slower only where the 95 % confidence interval of the ratio leaves out 1 and every
session says the same.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import weights
from engine.cli.benching.bed import ENGINES, Bed, trivial_code
from engine.cli.benching.comparison import interval
from engine.cli.benching.facts import ROOT, facts
from engine.cli.benching.processes import echo_server, own_engine, stopped_by_signals
from engine.cli.benching.scenarios import SCENARIOS, Scenario, Trial, trial
from engine.cli.benching.show import ms
from engine.cli.client import connected, failures_of
from engine.cli.options import Choices
from engine.cli.problems import Problem
from engine.cli.render import note, print_table

TREES = ROOT / "build" / "compare"
DEFAULT = ("warm-1769", "parked-1769", "fork-1769")
ALL = {scenario.name: scenario for scenario in (*SCENARIOS, *weights.SCENARIOS)}
HEAD = ("SCENARIO", "ROUNDS", "A, P50", "B, P50", "A ABOVE ECHO", "B ABOVE ECHO", "B/A", "95 %", "SESSIONS", "B IS")

_STRANGERS = """
import engine.service, engine.v1.invocations_pb2, os, sys
loaded = [module.__file__ for name, module in sys.modules.items() if name.startswith("engine.") and module.__file__]
strangers = [file for file in loaded if not os.path.realpath(file).startswith(os.getcwd() + "/")]
sys.exit(f"it would load {strangers[0]}" if strangers else 0)
"""
"""Whether all of an engine is loaded from its own tree: what is not built there would be found in another one."""


@dataclass
class Found:
    """What was measured of one scenario, a list for each session."""

    scenario: Scenario
    ratios: list[list[float]] = field(default_factory=list)  # B's block to A's, a round each
    call_us: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    echo_us: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    absent: str = ""

    def row(self) -> dict[str, Any]:
        """For people and scripts. Of a scenario that could not be measured: the reason."""
        if self.absent or not all(self.ratios):
            return {"name": self.scenario.name, "absent": self.absent or "no round was of this kind of start on both"}
        low, high = interval([ratio for session in self.ratios for ratio in session])
        sessions = [statistics.median(session) for session in self.ratios]
        return {
            "name": self.scenario.name,
            "rounds": sum(map(len, self.ratios)),
            "p50_us": [round(statistics.median(us), 1) for us in self.call_us],
            "above_echo_us": [
                round(statistics.median(call) - statistics.median(echo), 1)
                for call, echo in zip(self.call_us, self.echo_us, strict=True)
            ],
            "ratio": round(statistics.median(ratio for session in self.ratios for ratio in session), 4),
            "interval": [round(low, 4), round(high, 4)],
            "sessions": [round(ratio, 4) for ratio in sessions],
            "b_is": verdict(low, high, sessions),
        }


def verdict(low: float, high: float, sessions: Sequence[float]) -> str:
    """ "faster", "slower", or that neither is shown."""
    if high < 1 and max(sessions) < 1:
        return "faster"
    if low > 1 and min(sessions) > 1:
        return "slower"
    return "not shown to differ"


def table(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    """A line each."""
    lines: list[Sequence[str]] = []
    for row in rows:
        if "absent" in row:
            lines.append((row["name"], row["absent"], *[""] * (len(HEAD) - 2)))
            continue
        low, high = row["interval"]
        times = (ms(us) for us in (*row["p50_us"], *row["above_echo_us"]))
        sessions = " ".join(f"{ratio:.3f}" for ratio in row["sessions"])
        spread = f"{low:.3f}–{high:.3f}"
        lines.append((row["name"], str(row["rounds"]), *times, f"{row['ratio']:.3f}", spread, sessions, row["b_is"]))
    return lines


def tree(name: str) -> Path:
    """The built tree of a commit, or the folder itself. Raises Problem."""
    folder = Path(name).resolve()
    if not (folder / "engine" / "service.py").exists():
        folder = _unpacked(name)
        _build(folder)
    ran = subprocess.run([sys.executable, "-c", _STRANGERS], cwd=folder, capture_output=True, text=True)
    if ran.returncode != 0:
        said = (ran.stderr.strip().splitlines() or [""])[-1]
        raise Problem(f"cannot measure {name}", f"its engine cannot be loaded from {folder}: {said}", "make build")
    return folder


def _unpacked(name: str) -> Path:
    asked = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"],
        capture_output=True,
        text=True,
    )
    commit = asked.stdout.strip()
    if asked.returncode != 0 or not re.fullmatch("[0-9a-f]{40,64}", commit):
        why = f"{name} is no commit of {ROOT}, and no folder with an engine"
        raise Problem("cannot compare", why, "git log --oneline")
    folder = TREES / commit[:16]
    if not folder.exists():
        part = TREES / f"{commit[:16]}.part"
        part.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", str(part)], input=archive.stdout, check=True)
        part.rename(folder)
    return folder


def _build(folder: Path) -> None:
    built = folder / ".cleave-built"
    if built.exists():
        return
    note(f"building {folder}: about a minute")
    for step in (["generate_proto"], ["build_ext", "--inplace"]):
        ran = subprocess.run(
            [sys.executable, "setup.py", "-q", *step], cwd=folder, capture_output=True, text=True, check=False
        )
        if ran.returncode != 0:
            raise Problem("cannot compare", f"{folder} does not build:\n{ran.stderr[-2000:]}", "make build")
    built.touch()


def compare(trees: tuple[Path, Path], scenarios: Sequence[Scenario], sessions: int, rounds: int) -> list[Found]:
    """All scenarios in all sessions. One that either engine cannot do, such as an older one, is absent."""
    found = [Found(scenario) for scenario in scenarios]
    for session in range(sessions):
        for kind in dict.fromkeys(scenario.engine for scenario in scenarios):
            here = [one for one in found if one.scenario.engine == kind and not one.absent]
            note(f"session {session + 1} of {sessions}: {', '.join(one.scenario.name for one in here)}")
            with contextlib.ExitStack() as stack:
                echo = stack.enter_context(echo_server())
                try:
                    beds = [stack.enter_context(_bed(folder, kind, echo)) for folder in trees]
                except Problem as problem:  # an older engine may not know a setting
                    for one in here:
                        one.absent = problem.why.splitlines()[-1]
                    continue
                for one in here:
                    try:
                        _session(one, beds, one.scenario.rounds(rounds))
                    except Problem as problem:
                        one.absent = problem.why.splitlines()[-1]
    return found


@contextlib.contextmanager
def _bed(folder: Path, kind: str, echo: str) -> Iterator[Bed]:
    with own_engine(root=folder, settings=ENGINES[kind], what=f"cannot measure {folder}") as own:
        choices = Choices(address=own.grpc)
        with connected(choices) as engine, failures_of(f"cannot measure {folder}", choices):
            yield Bed(own.grpc, echo, engine, codes={"": trivial_code, **weights.CODES})


def _session(found: Found, beds: Sequence[Bed], rounds: int) -> None:
    with contextlib.ExitStack() as stack:
        trials = [stack.enter_context(trial(found.scenario, bed)) for bed in beds]
        took_us: tuple[list[float], list[float]] = ([], [])
        gc.disable()
        try:
            for turn in range(rounds):
                for side in (0, 1) if turn % 2 == 0 else (1, 0):
                    _block(trials[side], took_us[side])
        finally:
            gc.enable()
        found.ratios.append(_ratios(found.scenario.calls, trials, took_us))
        for side, running in enumerate(trials):
            samples = running.row(took_us[side], samples=True)["samples_us"]
            found.call_us[side].extend(samples["call"])
            found.echo_us[side].extend(samples["echo"])


def _block(running: Trial, took_us: list[float]) -> None:
    for _ in range(running.scenario.calls):
        running.before()
        begun = time.perf_counter_ns()
        running.call()
        took_us.append((time.perf_counter_ns() - begun) / 1000)


def _ratios(calls: int, trials: Sequence[Trial], took_us: tuple[list[float], list[float]]) -> list[float]:
    """A round each, of those in which both sides started as they were asked to."""
    counted = [running.counted() for running in trials]
    ratios = []
    for at in range(0, len(took_us[0]), calls):
        block = slice(at, at + calls)
        if all(counted[0][block]) and all(counted[1][block]):
            ratios.append(statistics.median(took_us[1][block]) / statistics.median(took_us[0][block]))
    return ratios


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 0 if it could compare, whatever it found."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("a", metavar="A", help="a commit, or a folder with a built tree")
    parser.add_argument("b", metavar="B", help="the one that is compared with it")
    parser.add_argument("--scenario", action="append", choices=sorted(ALL), help=f"default: {', '.join(DEFAULT)}")
    parser.add_argument("--rounds", type=int, default=60, help="in each session (default: 60)")
    parser.add_argument("--sessions", type=int, default=4, help="with fresh engines (default: 4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    asked = parser.parse_args(arguments)
    try:
        with stopped_by_signals():
            trees = tree(asked.a), tree(asked.b)
            scenarios = [ALL[name] for name in asked.scenario or DEFAULT]
            began = facts()
            found = compare(trees, scenarios, asked.sessions, max(2, asked.rounds))
    except Problem as problem:
        print(problem.text(), file=sys.stderr)
        return int(problem.exit_code)
    rows = [one.row() for one in found]
    print_table(HEAD, table(rows))
    if asked.json is not None:
        asked.json.write_text(json.dumps({**began, "a": asked.a, "b": asked.b, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
