"""An engine starts without Python's garbage collector, and has it again once it serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.privileged

PROGRAM = """
import asyncio, gc, sys
from engine.cli.serve import make_service
from tests.engines import settings
from pathlib import Path

async def main():
    service = make_service(settings(Path(sys.argv[1])))
    before = gc.isenabled()
    await service.start()
    print(before, gc.isenabled())
    await service.stop()

asyncio.run(main())
"""


def test_an_engine_that_serves_collects_its_garbage(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    program = [sys.executable, "-c", PROGRAM, str(tmp_path / "data")]
    ran = subprocess.run(program, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["False", "True"], ran.stderr
