"""Egress is ready before the first start asks for it, and nothing of it is there where no function has it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from engine.errors import Unavailable
from engine.fabric.datadir import new_instance_id
from engine.model.function import Egress
from engine.sandbox import network
from engine.sandbox.counts import Counts
from engine.sandbox.network import Network, NetworkSettings
from engine.sandbox.network_router import Router
from tests.engines import end, ready, spawn
from tests.networks import GREETING, PORT, PUBLIC, RESOLVER, FakeHost
from tests.sandboxes import real_pool
from tests.security.network_probes import TCP, inside, started
from tests.security.test_network_ends import of_engines, until

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = NetworkSettings(resolvers=(RESOLVER,), pool_size=2)
FLAGS = {"egress_resolvers": RESOLVER}
HANDLER = "def handler(event, context):\n    return 1\n"


async def test_a_pool_that_expects_egress_has_links_before_a_sandbox_asks(
    lab: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    class Counted(Router):
        def __init__(self, instance_id: str, subnet: IPv4Network, *, resolvers: Sequence[str]) -> None:
            built.append(instance_id)
            super().__init__(instance_id, subnet, resolvers=resolvers)

    monkeypatch.setattr(network, "Router", Counted)
    async with real_pool(tmp_path, network=SETTINGS) as pool:
        for _ in range(3):
            pool.expect(Egress.NONE, 512)
        assert of_engines() == []
        for _ in range(3):
            pool.expect(Egress.INTERNET, 512)
        await asyncio.to_thread(until, lambda: pool.network_counts[Egress.INTERNET].ready == 2)
        assert len(of_engines()) == 2
        sandbox = await started(pool, tmp_path)
        assert pool.network_counts[Egress.INTERNET].made_inline == 0
        assert await inside(sandbox, TCP.format(address=PUBLIC, port=PORT)) == GREETING.decode()
        await sandbox.close()
    assert len(built) == 1
    assert of_engines() == []


async def test_a_router_is_not_built_any_more_once_its_networks_are_closed(lab: FakeHost) -> None:
    networks = Network(new_instance_id(), SETTINGS, Counts())
    networks.open()
    networks.close()
    networks.prepare(Egress.INTERNET)
    assert of_engines() == []
    with pytest.raises(Unavailable):
        networks.take(Egress.INTERNET)


def deploy(folder: Path, port: int, egress: str) -> None:
    """By the command, in a process: gRPC's own threads may be on the host's network and not on this one."""
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "app.py").write_text(HANDLER)
    words = ["deploy", str(folder / "code"), "--name", egress, "--egress", egress, "--address", f"127.0.0.1:{port}"]
    subprocess.run(
        [sys.executable, "-m", "engine.cli.main", *words],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "CLEAVE_CONFIG": os.devnull},
    )


@pytest.mark.time_limit(120)
async def test_an_engine_builds_its_router_for_the_first_function_with_egress_and_again_at_its_next_start(
    lab: FakeHost, tmp_path: Path
) -> None:
    for expected in (0, 2):
        engine = spawn(tmp_path / "data", FLAGS)
        try:
            await ready(engine)
            if expected == 0:
                deploy(tmp_path, engine.grpc_port, "none")
                assert of_engines() == []
                deploy(tmp_path, engine.grpc_port, "internet")
            await asyncio.to_thread(until, lambda: len(of_engines()) == 2, within_s=20)
            await engine.stopped()
        finally:
            end(engine)
        assert of_engines() == []
