"""Request ids are UUIDs, and no two are the same."""

from __future__ import annotations

import uuid

from engine.invoke.ids import RequestIds


def test_each_is_a_random_uuid_in_its_usual_form() -> None:
    ids = RequestIds()
    made = [ids() for _ in range(2_000)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_all_the_randomness_of_a_block_is_used_once() -> None:
    asked: list[int] = []

    def count_up(size: int) -> bytes:
        asked.append(size)
        return bytes(range(256)) * (size // 256)

    ids = RequestIds(count_up)
    first = ids()
    assert first == "00010203-0405-4607-8809-0a0b0c0d0e0f"
    assert ids() != first
    assert len(asked) == 1
