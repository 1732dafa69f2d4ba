"""Two commits on one host: which trees are measured, and what is said of them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bench import compare as comparing
from bench.compare import ALL, DEFAULT, HEAD, Found, compare, main, table, tree, verdict
from engine.cli.benching.bed import ENGINES
from engine.cli.benching.facts import ROOT
from engine.cli.problems import Problem

SETUP = """
import pathlib, sys
generated = pathlib.Path("engine/v1")
generated.mkdir(parents=True, exist_ok=True)
(generated / "__init__.py").touch()
(generated / "invocations_pb2.py").touch()
with open("steps", "a") as steps:
    steps.write(sys.argv[2] + "\\n")
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a commit, and a change that is not committed."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "repository"
    (root / "engine").mkdir(parents=True)
    (root / "engine" / "__init__.py").touch()
    (root / "engine" / "service.py").write_text("STATE = 'committed'\n")
    (root / "setup.py").write_text(SETUP)
    git = ("git", "-C", str(root), "-c", "user.name=bench", "-c", "user.email=bench@example.com")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "One")):
        subprocess.run([*git, *command], check=True)
    (root / "engine" / "service.py").write_text("STATE = 'changed'\n")
    monkeypatch.setattr(comparing, "ROOT", root)
    monkeypatch.setattr(comparing, "TREES", root / "build" / "compare")
    return root


def test_a_commit_is_unpacked_as_it_was_committed_and_built_once(repository: Path) -> None:
    first = tree("HEAD")
    assert tree("HEAD") == first != repository
    assert (first / "engine" / "service.py").read_text() == "STATE = 'committed'\n"
    assert (first / "steps").read_text().split() == ["generate_proto", "build_ext"]


def test_a_folder_with_a_built_tree_is_taken_as_it_is(repository: Path) -> None:
    subprocess.run(["python3", "setup.py", "-q", "generate_proto"], cwd=repository, check=True)
    assert tree(str(repository)) == repository


def test_a_folder_that_is_not_built_and_what_is_no_commit_are_refused(repository: Path) -> None:
    with pytest.raises(Problem, match="cannot be loaded from"):
        tree(str(repository))
    with pytest.raises(Problem, match="is no commit"):
        tree("no-such-branch")
    assert main(["no-such-branch", "HEAD"]) == 1


def test_a_build_that_fails_is_said_and_tried_again(repository: Path) -> None:
    (repository / "setup.py").write_text("raise SystemExit('no compiler')\n")
    subprocess.run(["git", "-C", str(repository), "add", "-A"], check=True)
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    subprocess.run(["git", "-C", str(repository), *identity, "commit", "-q", "-m", "Two"], check=True)
    for _ in range(2):
        with pytest.raises(Problem, match="no compiler"):
            tree("HEAD")


@pytest.mark.parametrize(
    ("low", "high", "sessions", "said"),
    [
        (0.8, 0.9, [0.85, 0.8], "faster"),
        (1.1, 1.2, [1.15, 1.1], "slower"),
        (0.9, 1.1, [0.95, 0.98], "not shown to differ"),
        (0.8, 0.9, [0.85, 1.01], "not shown to differ"),
        (1.1, 1.2, [0.99, 1.3], "not shown to differ"),
    ],
)
def test_a_difference_is_one_where_interval_and_sessions_agree(
    low: float, high: float, sessions: list[float], said: str
) -> None:
    assert verdict(low, high, sessions) == said


def test_a_row_says_the_ratio_of_neighbours_and_how_sure_it_is() -> None:
    found = Found(ALL["warm-1769"], [[0.5, 0.51, 0.49] * 4, [0.5, 0.52, 0.48] * 4])
    for side, took_us in enumerate((200.0, 100.0)):
        found.call_us[side].extend([took_us] * 24)
        found.echo_us[side].extend([50.0] * 24)
    row = found.row()
    assert row["p50_us"] == [200, 100]
    assert row["above_echo_us"] == [150, 50]
    assert row["ratio"] == 0.5
    assert 0.48 <= row["interval"][0] <= 0.5 <= row["interval"][1] <= 0.52
    assert row["sessions"] == [0.5, 0.5]
    assert row["b_is"] == "faster"
    assert [len(line) for line in table([row, Found(ALL["warm-1769"], absent="why").row()])] == [len(HEAD)] * 2


@pytest.mark.privileged
@pytest.mark.time_limit(120)
def test_two_engines_are_measured_in_turns_and_one_that_does_not_start_leaves_its_scenarios_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(ENGINES, "broken", {"CLEAVE_PARKED_CEILING": "none"})
    warm = replace(ALL["warm-1769"], calls=3, echoes=2)
    rows = [one.row() for one in compare((ROOT, ROOT), [warm, replace(warm, engine="broken")], 2, 3)]
    assert rows[0]["rounds"] == 6
    assert len(rows[0]["sessions"]) == 2
    assert min(rows[0]["p50_us"]) > 0
    assert "parked_ceiling" in rows[1]["absent"]
    assert not list(tmp_path.iterdir())


def test_what_is_compared_by_default_is_there() -> None:
    assert set(DEFAULT) <= set(ALL)
