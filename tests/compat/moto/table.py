"""What is expected of moto's tests, and how a run differs from it.

expected.toml has a table for each file of tests: a test is "passes", or "kind: why not" with a kind of its table
`kinds`. A run differs where a listed outcome is not what came, and where a test is not listed or did not run; only for
the kinds of MAY_PASS is either outcome right.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PASSES = "passes"
MAY_PASS = frozenset({"host"})
NOT_OF_AWS = frozenset({"moto", "elsewhere", "mode"})
"""Kinds of tests that AWS would not pass either, or that ask another than the engine."""
EXPECTED = Path(__file__).resolve().parent / "expected.toml"


@dataclass(frozen=True)
class Table:
    """Kinds with what they mean, and of each test what is expected."""

    kinds: Mapping[str, str]
    tests: Mapping[str, str]

    def kind(self, name: str) -> str:
        """PASSES, or the kind of why it does not pass."""
        return self.tests[name].partition(":")[0]


@dataclass(frozen=True)
class Comparison:
    """How a run differs, and what share of it passed."""

    differences: list[str]
    passed: int
    ran: int
    asked: int
    """Those of them that ask the engine for what AWS does."""
    failed_by_kind: Mapping[str, int]


def read(path: Path = EXPECTED) -> Table:
    """The table. Raises ValueError for a test with no such kind, or without a reason."""
    document = tomllib.loads(path.read_text())
    kinds = document.pop("kinds")
    tests = {f"{file}::{name}": said for file, named in document.items() for name, said in named.items()}
    for name, said in tests.items():
        kind, _, why = said.partition(":")
        if said != PASSES and (kind not in kinds or not why.strip()):
            raise ValueError(f"{name}: {said!r} is neither {PASSES!r} nor 'kind: why' with a kind of {sorted(kinds)}")
    return Table(kinds, tests)


def compare(table: Table, outcomes: Mapping[str, str], *, all_ran: bool = True) -> Comparison:
    """Hold a run to the table; without `all_ran`, tests that did not run are left out."""
    unknown = [name for name in outcomes if name not in table.tests]
    differences = [f"{name} is not in the table: it {outcomes[name]}" for name in unknown]
    if all_ran:
        differences += [f"{name} is in the table and did not run" for name in table.tests if name not in outcomes]
    failed: Counter[str] = Counter()
    for name in sorted(table.tests.keys() & outcomes.keys()):
        kind, outcome = table.kind(name), outcomes[name]
        if outcome != "passed":
            failed[kind] += 1
        if kind == PASSES and outcome != "passed":
            differences.append(f"{name} is listed as passing: it {outcome}")
        elif kind != PASSES and kind not in MAY_PASS and outcome == "passed":
            differences.append(f"{name} passed: the table says {table.tests[name]!r}")
    passed = sum(outcome == "passed" for outcome in outcomes.values())
    asked = len(outcomes) - sum(failed[kind] for kind in NOT_OF_AWS)
    return Comparison(differences, passed, len(outcomes), asked, failed)
