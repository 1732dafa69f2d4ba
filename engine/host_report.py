"""What a host enforces, by an engine's settings: the probe's findings and the gRPC front, for `doctor` and HostService.

Leaves the probe itself to engine.sandbox.probe. May take a while: each limit is tried.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from engine import __version__
from engine.config import Settings
from engine.config_address import parse_subnet
from engine.model.host import HostReport, RuntimeFound
from engine.rpc.fronts import front_check
from engine.runtimes.live import Runtimes
from engine.sandbox import uids
from engine.sandbox.network import NetworkSettings
from engine.sandbox.probe import probe_host as probe


def network_settings(settings: Settings) -> NetworkSettings:
    """Of functions with egress."""
    return NetworkSettings(
        subnet=parse_subnet(settings.egress_subnet),
        resolvers=settings.egress_resolvers,
        pool_size=settings.network_pool_size,
    )


async def report(settings: Settings, runtimes: Runtimes, folder: Path) -> HostReport:
    """`folder` is where sandboxes would have their /tmp. What is under way is left out."""
    check = partial(
        probe,
        runtimes,
        folder,
        accept_weaker=settings.accept_weaker,
        tmp_backend=settings.tmp_backend,
        tmp_encryption=settings.tmp_encryption,
        tmp_reserve=settings.tmp_reserve,
        max_sandboxes=settings.max_sandboxes,
        uid_base=settings.uid_base or uids.FIRST,
        uid_count=settings.uid_count,
        network=network_settings(settings),
        refused=runtimes.refused,
    )
    checks = await asyncio.get_running_loop().run_in_executor(None, check)
    return HostReport(
        checks=(*checks, front_check(settings.grpc_front)),
        engine_version=__version__,
        runtimes=tuple(sorted(runtimes)),
        interpreters=tuple(RuntimeFound(name, one.version, one.path) for name, one in sorted(runtimes.items())),
    )
