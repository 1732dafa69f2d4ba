"""Whatever passes as an event is JSON that a guest can read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidArgument, InvalidPayload, PayloadTooLarge
from engine.invoke.checks import CLIENT_CONTEXT_LIMIT_BYTES, check_client_context, check_payload, check_request_id
from engine.model.invocation import EVENT_LIMIT_BYTES

NOT_JSON = [
    b" ", b"{", b'{"a":}', b"nul", b"NaN", b"Infinity", b"-Infinity", b"01", b"1e", b"+1", b".5", b"'a'", b"[1,]",
    b"{1:2}", b"1 2", b'"a', b'"\\x"', b'"a\nb"', b'"\x00"', b"\xef\xbb\xbf{}", b'"\xff"', b'{"\xff":1}',
    b'"\xed\xa0\x80"', b"[" * 100_000 + b"]" * 100_000, b"\x00\x01\x02",
]  # fmt: skip


@pytest.mark.parametrize("payload", NOT_JSON, ids=lambda payload: repr(payload[:12]))
def test_what_is_no_json_is_refused_in_awss_words(payload: bytes) -> None:
    with pytest.raises(InvalidPayload, match=r"^Could not parse request body into json: .") as caught:
        check_payload(payload)
    assert caught.value.fields["payload"]
    assert caught.value.fix


@pytest.mark.parametrize(
    "payload", [b"{}", b"null", b'"x"', b"1", b" [1, 2.5e3]\n", '{"ä":"\U0001f600"}'.encode(), b"[" * 500 + b"]" * 500]
)
def test_every_json_value_is_an_event_and_passes_as_it_came(payload: bytes) -> None:
    assert check_payload(payload) is payload


def test_an_empty_event_counts_as_an_empty_object() -> None:
    assert check_payload(b"") == b"{}"


def test_an_event_of_exactly_the_limit_passes_and_one_more_byte_does_not() -> None:
    event = b'"' + b"x" * (EVENT_LIMIT_BYTES - 2) + b'"'
    assert check_payload(event) is event
    with pytest.raises(PayloadTooLarge, match="6291457 byte payload is too large") as caught:
        check_payload(b'"' + b"x" * (EVENT_LIMIT_BYTES - 1) + b'"')
    assert caught.value.fix


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    )
)
def test_what_pythons_json_writes_passes(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        check_payload(text.encode())


@given(st.binary(max_size=12) | st.text('{}[]",:01e-.tn\\u ', max_size=12).map(str.encode))
def test_what_passes_can_be_read(payload: bytes) -> None:
    try:
        event = check_payload(payload)
    except InvalidPayload:
        return
    json.loads(event)


def test_a_client_context_is_an_object_within_its_limit() -> None:
    check_client_context(b' {"client": {}}')
    fitting = b'{"a":"' + b"x" * (CLIENT_CONTEXT_LIMIT_BYTES - 8) + b'"}'
    assert len(fitting) == CLIENT_CONTEXT_LIMIT_BYTES
    check_client_context(fitting)
    with pytest.raises(InvalidArgument, match="3583"):
        check_client_context(fitting + b" ")
    for wrong in (b"[]", b"1", b"{", b"\xff"):
        with pytest.raises(InvalidPayload):
            check_client_context(wrong)


@pytest.mark.parametrize("request_id", ["6f0a2c1e-98d1-4c5e-9d4f-1f2e3d4c5b6a", "6F0A2C1E-98D1-4C5E-9D4F-1F2E3D4C5B6A"])
def test_a_uuid_is_a_request_id(request_id: str) -> None:
    check_request_id(request_id)


@pytest.mark.parametrize(
    "request_id",
    [
        "x",
        "6f0a2c1e98d14c5e9d4f1f2e3d4c5b6a",
        "6f0a2c1e-98d1-4c5e-9d4f-1f2e3d4c5b6a\n",
        "{6f0a2c1e-98d1-4c5e-9d4f-1f2e3d4c5b6a}",
        "٦f0a2c1e-98d1-4c5e-9d4f-1f2e3d4c5b6a",
    ],
)
def test_nothing_else_is(request_id: str) -> None:
    with pytest.raises(InvalidArgument):
        check_request_id(request_id)
