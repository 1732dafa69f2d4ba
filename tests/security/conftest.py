"""What the tests of this folder ask for: a pool, or a fake host with an internet (tests/networks.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from engine.errors import HostUnfit
from engine.sandbox import network_host
from engine.sandbox.demand import ParkSettings
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.network import NetworkSettings
from engine.sandbox.pool import LinuxPool
from tests.networks import RESOLVER, FakeHost, fake_host
from tests.sandboxes import real_pool
from tests.security.network_probes import started
from tests.security.probes import HOST


@pytest.fixture(scope="package", autouse=True)
def host() -> Iterator[None]:
    """Started before any test changes something of this process."""
    HOST.start()
    yield
    HOST.close()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    """One pool for all that change nothing of it, which parks as an engine's does: what is attacked is at times parked,
    at times forked."""
    park = ParkSettings(floor=2, ceiling=4)
    async with real_pool(tmp_path_factory.mktemp("pool"), park=park) as pool:
        yield pool


@pytest.fixture(scope="module")
def lab() -> Iterator[FakeHost]:
    """The tests of the module, and all that they start, live on the fake host."""
    try:
        network_host.nft_path()
    except HostUnfit as unfit:
        pytest.skip(f"{unfit.message}: {unfit.fix}")
    with fake_host() as lab:
        yield lab


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def egress_pool(lab: FakeHost, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    """A pool on the fake host that offers the internet."""
    settings = NetworkSettings(resolvers=(RESOLVER,), pool_size=2)
    async with real_pool(tmp_path_factory.mktemp("egress"), network=settings) as pool:
        yield pool


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(egress_pool: LinuxPool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxSandbox]:
    """One with egress to the internet."""
    sandbox = await started(egress_pool, tmp_path_factory.mktemp("one"))
    yield sandbox
    await sandbox.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(egress_pool: LinuxPool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxSandbox]:
    """Another of the same kind."""
    sandbox = await started(egress_pool, tmp_path_factory.mktemp("other"))
    yield sandbox
    await sandbox.close()
