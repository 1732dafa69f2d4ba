"""Real sandboxes for tests: a pool of the test's own, and handlers written in the test."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.fabric.datadir import new_instance_id
from engine.model.function import Egress
from engine.model.outcome import StartKind
from engine.runtimes.interpreters import Interpreter, find_interpreters
from engine.sandbox.api import Ending, Event, SandboxSpec
from engine.sandbox.cpu import AS_LAMBDA, CpuRules
from engine.sandbox.demand import ParkSettings
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.network import NetworkSettings
from engine.sandbox.pool import LinuxPool
from engine.sandbox.scratch_choice import TmpBackend
from engine.sandbox.uids import base_of
from engine.zygote.keeper import ZygoteSettings

RUNTIME = f"python3.{sys.version_info.minor}"
ALL_CPU = CpuRules(cpu_burst=True)
"""For pools whose sandboxes fill memory or a /tmp: a small tier buys so little CPU that most of the time would be spent
in waiting for it. What a tier buys is held by tests/security/test_cpu.py."""
SLOWER = int(os.environ.get("CLEAVE_TEST_SLOWER", "1"))
ACCEPTED = tuple(os.environ.get("CLEAVE_TEST_ACCEPT", "").split())
"""The weaker forms that will do for a run on a host, or as a user, that has no others."""
_NOT_MEANT_TO_PASS_MS = 10_000
"""A timeout from here on is there for when a test fails: a slower machine, as in tests/hosts, gets more of it."""


@dataclass
class Collected:
    """What a run sent before it ended."""

    kind: StartKind | None = None
    inits: list[Ending | None] = field(default_factory=list)
    written: bytearray = field(default_factory=bytearray)

    def started(self, kind: StartKind) -> None:
        self.kind = kind

    def initialized(self, failure: Ending | None) -> None:
        self.inits.append(failure)

    def output(self, data: bytes) -> None:
        self.written += data

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        raise AssertionError("nothing streams here")


@functools.cache
def _found(search: str) -> Mapping[str, Interpreter]:
    return find_interpreters([], search)


def interpreters(folder: Path) -> Mapping[str, Interpreter]:
    """This host's. In a run of .ci/sanitize a zygote loads the sanitizer's runtime first; the engine gives it no
    environment, so that takes a script in `folder`."""
    found = _found(os.environ.get("PATH", ""))
    if "CLEAVE_SANITIZED" not in os.environ:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    passed = " ".join(f"{name}='{os.environ[name]}'" for name in ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS"))
    wrapped = {}
    for runtime, interpreter in found.items():
        script = folder / f"{runtime}-sanitized"
        script.write_text(f'#!/bin/sh\n{passed} exec {interpreter.path} "$@"\n')
        script.chmod(0o755)
        wrapped[runtime] = Interpreter(runtime, str(script), interpreter.prefixes)
    return wrapped


@contextlib.asynccontextmanager
async def real_pool(
    folder: Path,
    *,
    tmp_pool_size: int = 0,
    tmp_backend: TmpBackend = "auto",
    leaf_pool_size: int = 0,
    tmp_encryption: bool = True,
    accept_weaker: Collection[str] = (),
    uid_count: int = 4_096,
    network: NetworkSettings | None = None,
    instance_id: str = "",
    park: ParkSettings | None = None,
    own_process: bool = False,
    cpu: CpuRules = AS_LAMBDA,
    zygotes: ZygoteSettings | None = None,
    runtimes: Mapping[str, Interpreter] | None = None,
) -> AsyncIterator[LinuxPool]:
    instance_id = instance_id or new_instance_id()
    pool = LinuxPool(
        instance_id=instance_id,
        scratch_dir=folder / "scratch",
        interpreters=interpreters(folder) if runtimes is None else runtimes,
        zygotes=zygotes,
        uid_base=base_of(instance_id, uid_count),
        uid_count=uid_count,
        tmp_pool_size=tmp_pool_size,
        tmp_backend=tmp_backend,
        leaf_pool_size=leaf_pool_size,
        tmp_encryption=tmp_encryption,
        accept_weaker=(*ACCEPTED, *accept_weaker),
        network=network or NetworkSettings(pool_size=0),
        park=park,
        own_process=own_process,
        cpu=cpu,
    )
    await pool.open(RUNTIME)
    try:
        yield pool
    finally:
        await pool.close()


def write_code(folder: Path, source: str) -> Path:
    """A folder of code with `source` as app.py, readable by all as the code store makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(textwrap.dedent(source))
    folder.chmod(0o755)
    return folder


def spec(
    code: Path,
    *,
    memory_mb: int = 1_769,
    tmp_mb: int = 512,
    init_timeout_ms: int = 10_000,
    egress: Egress = Egress.NONE,
) -> SandboxSpec:
    return SandboxSpec(
        key=("probe", "$LATEST", "1"),
        runtime=RUNTIME,
        handler="app.handler",
        code_path=str(code),
        memory_mb=memory_mb,
        tmp_mb=tmp_mb,
        environment={
            "LAMBDA_TASK_ROOT": "/var/task",
            "AWS_LAMBDA_FUNCTION_NAME": "probe",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TZ": ":UTC",
        },
        init_timeout_ms=init_timeout_ms,
        egress=egress,
    )


def event(
    payload: Any = None, *, timeout_ms: int = 10_000, request_id: str = "r-1", covers_init: bool = False
) -> Event:
    if timeout_ms >= _NOT_MEANT_TO_PASS_MS:
        timeout_ms *= SLOWER
    body = json.dumps(payload if payload is not None else {}).encode()
    return Event(request_id, body, timeout_ms, "arn:probe", covers_init=covers_init)


async def run_once(
    pool: LinuxPool, folder: Path, source: str, payload: Any = None, *, timeout_ms: int = 10_000, **settings: Any
) -> tuple[Ending, Collected]:
    """Start a sandbox for `source`, run one event in it, close it."""
    sandbox = await pool.start(spec(write_code(folder / "code", source), **settings))
    try:
        return await run(sandbox, payload, timeout_ms=timeout_ms)
    finally:
        await sandbox.close()


async def run(sandbox: LinuxSandbox, payload: Any = None, *, timeout_ms: int = 10_000) -> tuple[Ending, Collected]:
    """Run one event."""
    sink = Collected()
    return await sandbox.run(event(payload, timeout_ms=timeout_ms), sink), sink
