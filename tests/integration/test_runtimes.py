"""Each Python of the host is a runtime from end to end; one is added to a running engine, and missed when it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.v1 import host_pb2
from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import engine, served
from tests.packages import own_packages
from tests.pythons import each_python, pythons
from tests.remains import nothing_left

pytestmark = pytest.mark.privileged

SOURCE = """
    import sys
    import asyncio, bz2, ctypes, decimal, hashlib, json, lzma, sqlite3, ssl, zoneinfo

    def handler(event, context):
        if event.get("fail"):
            raise KeyError("nothing")
        return {
            "version": "%d.%d.%d" % sys.version_info[:3],
            "sum": str(decimal.Decimal("0.1") * 3),
            "memory": context.memory_limit_in_mb,
            "environment": __import__("os").environ["AWS_EXECUTION_ENV"],
        }
"""


@each_python()
async def test_a_function_runs_on_each_python_forked_parked_and_warm(tmp_path: Path, runtime: str) -> None:
    async with engine(tmp_path / "data", parked_floor=0, parked_ceiling=4, parked_rate=1_000.0) as running:
        door = running.grpc
        kinds = []
        for name in ("first", "second"):
            await door.create(name, zip_of(SOURCE), runtime=runtime)
            for _ in range(2):
                answer = await door.invoke(name, b"{}")
                assert answer.json() == {
                    "version": pythons()[runtime].version,
                    "sum": "0.3",
                    "memory": "128",
                    "environment": f"AWS_Lambda_{runtime}",
                }
                assert answer.report is not None
                kinds.append(answer.report.start_kind)
            while not await parked(door):
                pass
        assert kinds == [pb.START_KIND_FORK, pb.START_KIND_WARM, pb.START_KIND_PARKED, pb.START_KIND_WARM]
        failed = await door.invoke("first", b'{"fail": true}')
        document = failed.json()
        assert (failed.failed, document["errorType"], document["errorMessage"]) == (True, "KeyError", "'nothing'")
        assert document["stackTrace"] == [
            '  File "/var/task/app.py", line 7, in handler\n    raise KeyError("nothing")\n'
        ]
        await door.create("broken", zip_of("import no_such_module\n"), runtime=runtime)
        document = (await door.invoke("broken", b"{}")).json()
        assert document["errorType"] == "Runtime.ImportModuleError"
        assert "No module named 'no_such_module'" in document["errorMessage"]
    await nothing_left(tmp_path / "data")


async def parked(door: Any) -> int:
    """How many wait."""
    host: host_pb2.GetHostResponse = await door.counts()
    return next(one.made - one.removed for one in host.resources if one.kind == "parked")


async def test_the_host_lists_each_python_with_its_version_and_path(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        host = await running.grpc.counts()
        found = {one.runtime: (one.version, one.path) for one in host.interpreters}
        assert found == {name: (one.version, one.path) for name, one in pythons().items()}
        assert list(host.runtimes) == sorted(pythons())


def cleave(*words: str) -> dict[str, Any]:
    """What the command answers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEAVE_")}
    environment["CLEAVE_CONFIG"] = os.devnull
    ran = subprocess.run(
        [sys.executable, "-m", "engine.cli.main", *words, "-o", "json"],
        capture_output=True,
        check=False,
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
    )
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


async def test_a_python_is_added_to_a_running_engine_and_taken_back(tmp_path: Path) -> None:
    """A virtual environment: the same Python by another path, so that any host has one to add."""
    runtime = f"python3.{sys.version_info.minor}"
    with own_packages() as packages:
        python = str(packages.python)
        packages.write(ahead="")
        await _add_and_remove(tmp_path, runtime, python)


async def _add_and_remove(tmp_path: Path, runtime: str, python: str) -> None:
    async with served(tmp_path / "data") as running:
        address = f"127.0.0.1:{running.grpc_port}"
        added = cleave("runtimes", "add", python, "--data-dir", str(tmp_path / "data"), "--address", address)
        assert (added["added"]["runtime"], added["served"]) == (runtime, True)
        listed = cleave("runtimes", "list", "--address", address)
        assert listed["engine_running"]
        assert [one["path"] for one in listed["interpreters"] if one["runtime"] == runtime] == [added["added"]["path"]]
        await running.grpc.create("hello", zip_of(SOURCE), runtime=runtime, preload=["ahead"])
        assert not (await running.grpc.invoke("hello", b"{}")).failed
        removed = cleave("runtimes", "remove", python, "--data-dir", str(tmp_path / "data"), "--address", address)
        assert removed == {"removed": python}
        refused = cleave("runtimes", "add", "/bin/sh", "--data-dir", str(tmp_path / "data"), "--address", address)
        assert "/bin/sh cannot be a runtime" in refused["error"]["message"], refused
        await running.stopped()
    (tmp_path / "data" / "runtimes.json").unlink()
    await nothing_left(tmp_path / "data")
