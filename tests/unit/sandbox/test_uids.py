"""Which user ids an engine's sandboxes have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from engine.config import UID_LIMIT
from engine.fabric.datadir import new_instance_id
from engine.sandbox.uids import FIRST, base_of


@given(some.integers(0, 2**64 - 1), some.integers(1, 200_000))
def test_a_range_lies_between_the_hosts_users_and_what_programs_can_count(number: int, count: int) -> None:
    base = base_of(f"{number:016x}", count)
    assert base >= FIRST
    assert base + count <= UID_LIMIT


def test_an_engine_keeps_its_range_and_others_have_others() -> None:
    ids = [new_instance_id() for _ in range(50)]
    bases = [base_of(instance, 4_096) for instance in ids]
    assert bases == [base_of(instance, 4_096) for instance in ids]
    assert len(set(bases)) > 45
