"""Stored lines read back as they were written; of a file that was cut off or damaged, what is before that place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.model.invocation import LogBatch
from engine.observe.log_blocks import blocks, pack

BATCHES = st.lists(
    st.builds(
        LogBatch,
        st.integers(min_value=0, max_value=1 << 55),
        st.text(max_size=8),
        st.just("2026/11/23/[$LATEST]ab"),
        st.lists(st.binary(max_size=30), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=5,
)


@given(st.lists(BATCHES, max_size=4))
def test_what_was_packed_reads_back_with_its_times_and_its_count(written: list[list[LogBatch]]) -> None:
    data = b"".join(pack(batches) for batches in written)
    read = list(blocks(data))
    assert [block.batches() for block in read] == written
    for block, batches in zip(read, written, strict=True):
        assert block.lines == sum(len(batch.texts) for batch in batches)
        assert (block.first_us, block.last_us) == (min(b.time_us for b in batches), max(b.time_us for b in batches))


@given(st.lists(BATCHES, min_size=1, max_size=3), st.data())
def test_a_file_cut_off_anywhere_has_the_blocks_before_it(written: list[list[LogBatch]], data: st.DataObject) -> None:
    packed = [pack(batches) for batches in written]
    whole = b"".join(packed)
    cut = data.draw(st.integers(min_value=0, max_value=len(whole)))
    fit = [count for count in range(len(packed) + 1) if sum(map(len, packed[:count])) <= cut]
    assert [block.batches() for block in blocks(whole[:cut])] == written[: fit[-1]]


@given(st.lists(BATCHES, min_size=1, max_size=3), st.data())
def test_of_a_file_with_a_wrong_byte_nothing_is_read_that_was_not_written(
    written: list[list[LogBatch]], data: st.DataObject
) -> None:
    whole = bytearray(b"".join(pack(batches) for batches in written))
    place = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    whole[place] ^= data.draw(st.integers(min_value=1, max_value=255))
    read = [block.batches() for block in blocks(bytes(whole))]
    assert read == written[: len(read)]
    assert len(read) < len(written)
