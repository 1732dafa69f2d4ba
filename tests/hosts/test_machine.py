"""What is made of a machine's word, and of its silence. The machine is a script here: nothing is emulated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts import machine

BOOTED = "cleave-host booted: 6.1.0, 3 s"
ONE = '{"exit": 1, "passed": 3, "failed": 1, "skipped": 0, "seconds": 2}'


def boot(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str, *, limit_s: float, frozen_s: float) -> machine.Run:
    monkeypatch.setattr(machine, "_command", lambda *_: ["sh", "-c", f"echo x >>{folder}/boots; {script}"])
    monkeypatch.setattr(machine, "_FROZEN_S", frozen_s)
    return machine.boot(folder, folder, folder, limit_s=limit_s)


def boots(folder: Path) -> int:
    return len((folder / "boots").read_text().split())


def test_a_machine_that_came_to_its_end_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = f"printf '{BOOTED}\\n\\0'; echo 'cleave-host end: {{\"bare\": {ONE}}}'"
    run = boot(monkeypatch, tmp_path, said, limit_s=60, frozen_s=60)
    assert run.phases == {"bare": machine.Phase(exit=1, passed=3, failed=1, skipped=0, seconds=2)}
    assert (run.frozen, run.expired, boots(tmp_path)) == (False, False, 1)
    assert run.boot_s > 0


def test_a_machine_that_did_not_come_to_its_end_has_passed_nothing() -> None:
    said = f'{BOOTED}\ncleave-host end: {{"bare": {ONE}}}'
    assert machine.read_end(said)["bare"] == machine.Phase(exit=1, passed=3, failed=1, skipped=0, seconds=2)
    assert machine.read_end(said.replace("end", "phase")) == {}


def test_a_machine_that_falls_silent_is_ended_and_started_once_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = boot(monkeypatch, tmp_path, f"echo '{BOOTED}'; exec sleep 600", limit_s=60, frozen_s=1)
    assert (run.frozen, run.expired, boots(tmp_path)) == (True, False, 2)
    assert run.phases == {}


def test_a_machine_that_lives_and_does_not_end_took_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alive = f"echo '{BOOTED}'; while sleep 0.1; do printf '\\0'; done"
    run = boot(monkeypatch, tmp_path, alive, limit_s=2, frozen_s=50)
    assert (run.frozen, run.expired, boots(tmp_path)) == (False, True, 1)
    assert run.output == BOOTED
    assert not list(tmp_path.glob("*.ext4"))
