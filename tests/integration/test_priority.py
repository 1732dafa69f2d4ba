"""Whose turn comes first: the engine's loop before what it runs, and nothing in a sandbox before anybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.doors import zip_of
from tests.engines import served

pytestmark = pytest.mark.privileged

TELLS = """
    import os
    def handler(event, context):
        try:
            raised = os.nice(-1)
        except OSError:
            raised = None
        return [os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, 1)], raised
"""


async def test_the_engine_comes_before_its_sandboxes_and_they_have_no_priority_of_it(tmp_path: Path) -> None:
    async with served(tmp_path / "data") as running:
        await running.grpc.create("tells", zip_of(TELLS))
        assert (await running.grpc.invoke("tells")).json() == [[0, 0], None]
        assert os.getpriority(os.PRIO_PROCESS, running.process.pid) < 0
        await running.stopped()
