"""Functions of three weights: their zips are whole, the same each time, and no larger than need be."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.weights import CODES, SCENARIOS, _zip
from engine.cli.benching.scenarios import SCENARIOS as TRIVIAL


@pytest.mark.parametrize("module", sorted(CODES))
def test_the_zip_of_a_weight_has_all_that_its_import_needs_and_no_bytecode(tmp_path: Path, module: str) -> None:
    with zipfile.ZipFile(io.BytesIO(CODES[module]())) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".pyc") or "/tests/" in name]
        archive.extractall(tmp_path)
    program = f"sys.path.insert(0, {str(tmp_path)!r}); import app; print(app.handler(7, None), app.{module}.__file__)"
    said = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; {program}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["7", str(tmp_path / module / "__init__.py")]


def test_the_same_bytes_each_time() -> None:
    assert _zip("boto3") == CODES["boto3"]()


def test_each_kind_of_start_has_each_weight() -> None:
    names = {scenario.name for scenario in SCENARIOS}
    assert names == {f"{start}-{module}-1769" for start in ("parked", "fork") for module in CODES}
    assert not names & {scenario.name for scenario in TRIVIAL}
    assert all(scenario.code in CODES and scenario.rounds(200) >= 10 for scenario in SCENARIOS)
