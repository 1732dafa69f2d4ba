"""The messages of plain calls: C reads them as protobuf does, or leaves them alone, and writes what protobuf would."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from engine.rpc._front import plain_request, plain_response
from engine.v1 import invocations_pb2 as pb
from engine.v1 import reports_pb2

ID = "6f0C0c5e-7f57-4d6e-a1c8-1d6c1f1f2b3a"

REQUESTS = st.builds(
    pb.InvokeRequest,
    name=st.sampled_from(["", "functions/f", "functions/", "f", "functions/f/versions/1"]),
    payload=st.sampled_from([b"", b"{}", b"x" * 200]),
    request_id=st.sampled_from(["", ID, "x" * 36]),
    client_context=st.sampled_from([b"", b"{}"]),
    log_mode=st.integers(0, 3),
    timeline=st.booleans(),
    payload_encoding=st.integers(0, 3),
    tenant_id=st.none() | st.text(max_size=2),
    identity=st.none() | st.just(pb.CognitoIdentity()),
).map(lambda request: request.SerializeToString())


def holds(data: bytes) -> None:
    """Whatever goes natively is what protobuf reads too."""
    found = plain_request(data)
    try:
        read = pb.InvokeRequest.FromString(data)
    except DecodeError:
        assert found is None or not found[0].isascii()  # a name that is no text: nobody has it
        return
    plain = pb.InvokeRequest(name=read.name, payload=read.payload, request_id=read.request_id)
    is_plain = read == plain and read.name.startswith("functions/") and len(read.name) > 10 and read.payload
    if found is not None:
        assert is_plain
        assert found == (read.name[10:].encode(), read.payload, read.request_id.encode())
    elif is_plain:
        assert data != plain.SerializeToString()  # as every client writes it


@given(REQUESTS)
def test_a_request_is_plain_where_it_has_nothing_but_a_function_an_event_and_an_id(data: bytes) -> None:
    holds(data)


@given(REQUESTS, st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4), st.integers(0, 300))
def test_a_request_with_changes_is_read_as_protobuf_reads_it(data: bytes, changes: Any, size: int) -> None:
    changed = bytearray(data)
    for at, byte in changes:
        if at < len(changed):
            changed[at] = byte
    holds(bytes(changed[: size or None]))


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_read_as_protobuf_reads_them(data: bytes) -> None:
    holds(data)


NUMBERS = st.integers(0, 2**40) | st.just(0)


@given(st.binary(max_size=300), st.sampled_from(["", ID]), st.tuples(*[NUMBERS] * 5), st.integers(0, 10_240))
def test_a_response_has_the_bytes_that_protobuf_gives_it(
    payload: bytes, request_id: str, numbers: tuple[int, int, int, int, int], memory_mb: int
) -> None:
    queue_us, handler_us, total_us, peak_bytes, cpu_us = numbers
    expected = pb.InvokeResponse(
        payload=payload,
        report=reports_pb2.Report(
            request_id=request_id,
            executed_version="$LATEST",
            outcome=reports_pb2.OUTCOME_OK,
            start_kind=reports_pb2.START_KIND_WARM,
            queue_us=queue_us,
            handler_us=handler_us,
            total_us=total_us,
            billed_ms=-(-handler_us // 1000),
            peak_memory_bytes=peak_bytes,
            cpu_us=cpu_us,
            memory_mb=memory_mb,
        ),
    )
    found = plain_response(payload, request_id.encode(), b"$LATEST", *numbers, memory_mb)
    assert found == expected.SerializeToString()
