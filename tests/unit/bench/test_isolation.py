"""The bench of isolation compares what it says, and what it needs for that is in no engine."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from bench.isolation import BARE_REQUEST, Comparison, comparison
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.counts import Counts
from engine.zygote.host import Zygote
from tests.sandboxes import RUNTIME, Collected, event, interpreters

KINDS = ("pid", "mnt", "net", "ipc", "uts", "cgroup")


def namespaces(pid: int) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}


def status(pid: int, field: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{field}:"))


async def compare_walls(comparing: Comparison) -> list[StartKind | None]:
    """Returns how the two were started."""
    pool = comparing.pool
    kinds = []
    if comparing.parks:
        await pool.park_both(comparing.spec)
    zygote = pool.zygote_pids[comparing.spec.runtime]
    boxed, bare = await pool.start(comparing.spec), await pool.start_bare(comparing.spec)
    try:
        for sandbox in (boxed, bare):  # an answer comes from one whose set-up is done
            sink = Collected()
            assert (await sandbox.run(event({"key1": 1}), sink)).outcome is Outcome.OK
            kinds.append(sink.kind)
        own = namespaces(zygote)
        assert not set(namespaces(boxed.pid).values()) & set(own.values())
        assert namespaces(bare.pid) == own
        assert status(bare.pid, "Uid") == ["0"] * 4
        assert status(bare.pid, "CapEff") == status(zygote, "CapEff")
        assert status(bare.pid, "Seccomp") == ["0"]
    finally:
        await bare.close()
        await boxed.close()
    return kinds


@pytest.mark.privileged
@pytest.mark.time_limit(240)
def test_the_two_starts_differ_in_isolation_and_both_answer() -> None:
    with comparison(256) as comparing:
        assert comparing.runner.run(compare_walls(comparing)) == [StartKind.FORK] * 2
        comparing.turn()
        comparing.turn()
        row = comparing.row()
    assert row["starts"] == 2
    assert row["bare_us"]["p50"] > 0
    assert row["name"] == "isolation-256"


@pytest.mark.privileged
@pytest.mark.time_limit(240)
def test_parked_starts_of_both_kinds_were_forked_before_and_differ_in_isolation() -> None:
    with comparison(256, parks=True) as comparing:
        assert comparing.runner.run(compare_walls(comparing)) == [StartKind.PARKED] * 2
        comparing.turn()
        comparing.turn()
        row = comparing.row()
    assert (row["starts"], row["name"]) == (2, "isolation-parked-256")


@pytest.mark.privileged
def test_a_zygote_of_an_engine_starts_nothing_without_isolation(tmp_path: Path) -> None:
    zygote = Zygote(interpreters(tmp_path)[RUNTIME], uid_base=1_890_000_000, uid_count=4, counts=Counts())
    zygote.spawn()
    try:
        zygote.wait_ready()
        read, write = os.pipe()
        with socket.socket(fileno=os.dup(zygote.fileno())) as sock:
            sock.settimeout(10)
            socket.send_fds(sock, [BARE_REQUEST], [write, read, write, write])
            reply, fds, _, _ = socket.recv_fds(sock, 4_096, 4)
        os.close(read)
        os.close(write)
        assert struct.unpack_from("=i", reply) == (-1,)
        assert b"not of this version" in reply
        assert fds == []
    finally:
        zygote.close()
