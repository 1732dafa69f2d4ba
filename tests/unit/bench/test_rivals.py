"""The rivals of a parked start: what runs here is compared, in a box of its own, and what does not is said."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.limits import judge, load
from bench.rivals import RIVALS, Contest, contest, table
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.scenarios import EVENT, Trial

ECHOES = "def handler(event, context):\n    return event\n"
BOXED = """
import os

def handler(event, context):
    assert os.getuid() == 65534, os.getuid()
    assert os.getpid() < 10, os.getpid()
    assert os.listdir("/sys/class/net") == ["lo"] if os.path.exists("/sys") else True
    assert not os.path.exists("/etc/passwd") and not os.path.exists("/home")
    with open("/proc/self/status") as status:
        assert "CapEff:\\t0000000000000000" in status.read()
    for folder in ("/var/task", "/usr", "/"):
        try:
            open(folder + "/written", "w")
        except OSError:
            continue
        raise AssertionError(folder)
    open("/tmp/written", "w")
    return event
"""


def code(source: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", source)
    return archive.getvalue()


class FastTrial:
    """Parked starts of a millisecond above an echo of half of one; every second one was forked."""

    scenario = SimpleNamespace(memory_mb=256)

    def __init__(self) -> None:
        self.calls = 0

    def before(self) -> None: ...

    def call(self) -> None:
        self.calls += 1

    def counted(self) -> list[bool]:
        return [call % 2 == 0 for call in range(self.calls)]

    def row(self, took_us: list[float], *, samples: bool) -> dict[str, Any]:
        assert len(took_us) == self.calls
        counted = [1_500.0] * (self.calls - self.calls // 2)
        return {
            "left_out": self.calls // 2,
            "call_us": summary(counted),
            "echo_us": summary([500.0]),
            "above_echo_us": above([counted], [[500.0]]),
            "samples_us": {"call": counted, "echo": [500.0]},
        }


def contested(source: str, turns: int = 2) -> tuple[dict[str, Any], Contest]:
    trial = FastTrial()
    with contest(cast(Trial, trial), code(source)) as contesting:
        for _ in range(turns):
            contesting.turn()
        contesting.parked_us = [1_500.0] * turns
        return contesting.row("rivals-1769"), contesting


def test_the_interpreter_alone_is_always_there_and_compared_with_parked_starts_only() -> None:
    row, _ = contested(ECHOES, turns=3)
    assert (row["turns"], row["left_out"]) == (3, 1)
    python_us = row["samples_us"]["python"]
    assert len(python_us) == 3
    counted = sorted([python_us[0], python_us[2]])
    assert row["times"]["python"]["start"] == pytest.approx(sum(counted) / 2 / 1_000, abs=0.01)
    assert row["times"]["python"]["served"] == pytest.approx((sum(counted) / 2 + 500) / 1_500, abs=0.01)


@pytest.mark.privileged
@pytest.mark.parametrize("rival", [rival for rival in RIVALS if rival.program], ids=lambda rival: rival.name)
def test_a_rival_runs_the_handler_in_a_box_and_leaves_nothing(
    rival: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(rival.program) is None:
        pytest.skip(f"{rival.program} is not installed; as root on Debian: .ci/prerequisites bench")
    monkeypatch.setattr("bench.rivals.RIVALS", (rival,))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o755)
    row, _ = contested(BOXED)
    assert row["absent"] == {}
    assert len(row["samples_us"][rival.name]) == 2
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_absent_with_the_reason_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    row, _ = contested(ECHOES)
    assert row["times"].keys() == {"python"}
    assert "bwrap is not installed" in row["absent"]["times.bubblewrap"]
    assert any("runc is not installed" in " ".join(cells) for cells in table({"rows": [row]}))
    (limit,) = (limit for limit in load() if limit.scenario == "rivals-1769")
    (verdict,) = judge([limit], [row])
    assert (verdict.kept, verdict.failed, verdict.word) == (False, False, "ABSENT")
    assert judge([limit], [])[0].failed


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'setting up uid map: Permission denied' >&2; exit 1", "setting up uid map: Permission denied"),
        ("exit 3", "it ended with status 3"),
        ("echo null", "it ended with status 0"),
    ],
)
def test_what_does_not_run_here_is_absent_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    row, _ = contested(ECHOES)
    assert row["absent"]["times.bubblewrap"] == f"bubblewrap does not run here: {why}"
    assert "bubblewrap" not in row["rivals_us"]


def test_a_rival_that_never_answers_is_ended_and_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setattr("bench.rivals.RIVALS", RIVALS[1:2])
    monkeypatch.setattr("bench.rivals.ANSWER_WITHIN_S", 0.1)
    row, _ = contested(ECHOES)
    assert "ended with status -9" in row["absent"]["times.bubblewrap"]


def test_a_rival_that_could_run_and_fails_later_ends_the_run(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    source = f"import os\ndef handler(event, context):\n    os.mkdir({str(flag)!r})\n    return event\n"
    with pytest.raises(OSError, match="FileExistsError"):
        contested(source)


def test_the_event_fits_into_a_pipe() -> None:
    assert len(EVENT) < 4_096
