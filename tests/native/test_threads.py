"""What is shared between an engine's threads holds when several of them are at it at once.

One thread stands for the event loop: it asks for what sandboxes use, and kills. Others make, empty and remove, without
the interpreter's lock for most of that. In `.ci/sanitize thread` ThreadSanitizer looks on, which finds what is touched
by two of them in no order; here it is the answers that have to be right: a number, or that it is gone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.sandbox import box
from engine.sandbox.scratch_backends import Images
from tests.native.loops import ANSWER, Bed, Caller

MEMORY = 64 << 20
THREADS = 3


@contextmanager
def working(work: Callable[[int], None]) -> Iterator[Callable[[], bool]]:
    """`work(number)` in so many threads; yields whether one of them is still at it. What one raises is raised."""
    with ThreadPoolExecutor(THREADS) as threads:
        ends: list[Future[None]] = [threads.submit(work, number) for number in range(THREADS)]
        yield lambda: any(not end.done() for end in ends)
        for end in ends:
            end.result()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.privileged
def test_a_leaf_that_is_read_while_another_thread_removes_it_answers_or_is_gone(counts: Mapping[str, int]) -> None:
    host = box.Host(f"cleave-threads-{os.getpid()}")
    host.open()
    leaves: list[box.Leaf | None] = [None] * THREADS
    answered = [threading.Event() for _ in leaves]
    gone = 0
    before = open_files()

    def make_and_remove(number: int) -> None:
        for turn in range(counts["threads"]):
            leaf = host.leaf(f"{number}-{turn}", memory_bytes=MEMORY, cpu_quota_us=10_000, cpu_shares=64, pids=8)
            leaf.relimit(memory_bytes=2 * MEMORY, cpu_quota_us=20_000, cpu_shares=128, pids=8)
            leaf.hold()
            leaves[number] = leaf
            assert turn or answered[number].wait(30)
            leaf.remove()

    try:
        with working(make_and_remove) as busy:
            while busy():
                for leaf, event in zip(leaves, answered, strict=True):
                    if leaf is None:
                        continue
                    for ask in (leaf.usage, leaf.reclaimable, leaf.kernel, leaf.oom_kills, partial(leaf.set_cpu, 0)):
                        try:
                            ask()
                        except SandboxFault:
                            gone += 1
                    event.set()
                    leaf.kill()
        for leaf in filter(None, leaves):
            with pytest.raises(SandboxFault):
                leaf.usage()
        assert open_files() == before, f"{gone} questions came too late"
    finally:
        host.sweep(True)


@pytest.mark.privileged
def test_a_tmp_that_is_asked_while_another_thread_empties_it_answers_or_is_closed(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    backend = Images(tmp_path)
    tmps: list[box.Scratch | None] = [None] * THREADS
    answered = [threading.Event() for _ in tmps]
    closed = 0
    before = open_files()

    def make_and_empty(number: int) -> None:
        for _ in range(counts["threads"] // 20 + 1):
            tmp = tmps[number] = backend.make(16)
            for _ in range(3):
                answered[number].clear()
                assert answered[number].wait(30)
                if not tmp.renew():
                    break
            tmp.close()

    with working(make_and_empty) as busy:
        while busy():
            for tmp, event in zip(tmps, answered, strict=True):
                if tmp is None:
                    continue
                try:
                    # What an empty one takes is its file system's own; another descriptor's would be the host's.
                    assert tmp.used() < 16 << 20
                    event.set()
                except ValueError:
                    closed += 1
    assert open_files() == before, f"{closed} questions came while it was emptied, or closed"


def test_threads_with_a_scheduler_and_a_loop_each_do_not_meet(counts: Mapping[str, int]) -> None:
    ready = threading.Barrier(THREADS)

    def call(number: int) -> None:
        bed = Bed()
        try:
            line = bed.line(bed.target())
            guest = bed.warm(line.target)
            ready.wait(30)
            for turn in range(counts["threads"]):
                caller, event = Caller(), b'{"of":%d,"turn":%d}' % (number, turn)
                assert bed.submit(line, caller, event) == box.TAKEN
                assert guest.hears()[1] == event
                guest.says(ANSWER)
                bed.turn()
                assert caller.told == [b'{"a":1}']
            assert bed.core.counts()["warm"] == counts["threads"]
        finally:
            bed.close()

    with working(call):
        pass
