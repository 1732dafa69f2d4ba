"""The processes that are measured: an echo server, and an engine with a data directory and ports of its own.

Guarantees that what was started is stopped when its context ends, whatever ended it, or with this process where that is
killed, and that Ctrl-C reaches neither of
them before that: a second signal would end an engine without its clean-up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from engine.cli.benching.facts import ROOT
from engine.cli.holder import ending_with_this, own_folder
from engine.cli.problems import Problem

_WHAT = "cannot measure"
_START_WITHIN_S = 30.0
_STOP_WITHIN_S = 30.0
_SHOWN_LINES = 15


class Addresses(NamedTuple):
    """Where an engine listens."""

    grpc: str
    http: str


@contextlib.contextmanager
def echo_server() -> Iterator[str]:
    """A bare gRPC server; yields its address. Raises Problem."""
    with subprocess.Popen(
        [sys.executable, "-m", "engine.cli.benching.echo_server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().decode().strip()
            if not port:
                raise Problem("cannot measure", "the echo server did not start; its error is above", "cleave version")
            yield f"127.0.0.1:{port}"
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def own_engine(
    *,
    what: str = _WHAT,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    root: Path = ROOT,
) -> Iterator[Addresses]:
    """An engine in a folder that goes with it; yields its addresses. `settings` are added to its environment, and
    `root` is the folder that its package is in. `what` failed if it does not start. Raises Problem."""
    with own_folder("cleave-own-") as folder:
        data, log = folder / "data", folder / "engine.log"
        if environment is None:
            # The reader's own settings are for the reader's own engine.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEAVE_")}
            environment["CLEAVE_CONFIG"] = os.devnull
            # How fast it is gets measured, and not what it lets through.
            environment |= {"CLEAVE_REQUESTS_PER_CONCURRENCY": "0", "CLEAVE_BURST_SANDBOXES": "0"}
        environment = {**environment, **(settings or {})}
        command = [sys.executable, "-m", "engine.cli.main", "serve", "--data-dir", str(data)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                ending_with_this([*command, "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]),
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        try:
            ports = _ports(data / "ports.json", process, log, what)
            yield Addresses(*(f"127.0.0.1:{ports[name]}" for name in ("grpc_port", "http_port")))
        except BaseException:
            _stop(process)
            raise
        _stop(process)
        if process.returncode != 0:
            raise _engine_ended(process, log, what)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a body as Ctrl-C does, so that it cleans up. For the main thread."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ports(file: Path, process: subprocess.Popen[bytes], log: Path, what: str) -> dict[str, int]:
    """By their names, once the engine serves: it writes the file last."""
    until = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            ports: dict[str, int] = json.loads(file.read_bytes())
            return ports
        time.sleep(0.02)
    raise _engine_ended(process, log, what)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _engine_ended(process: subprocess.Popen[bytes], log: Path, what: str) -> Problem:
    status = process.poll()
    said = "\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])
    how = f"was not up after {_START_WITHIN_S:g} s" if status is None else f"ended with status {status}"
    return Problem(what, f"the engine {how}:\n{said}", "cleave doctor")
