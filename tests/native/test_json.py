"""What the door lets through as an event is JSON to whoever reads it after, and most of what is JSON gets through."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sandbox.box import plain_json

DEPTH = 128
_SCAN = msgspec.json.Decoder(msgspec.Raw).decode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
PIECES = st.sampled_from(
    [
        *b'{}[]":,0123456789.-+eEtrufalsn\\/b \t\n\r\x00\x1f\x7f\x80',
        *(b"true", b"null", b"\\u00e4", b"\\ud83d", b"\\udE00"),
    ]
).map(lambda piece: piece if isinstance(piece, bytes) else bytes([piece]))


def is_json(text: bytes) -> bool:
    """As both of Python's readers find."""
    try:
        _SCAN(text)
        json.loads(text, parse_constant=_none)
    except (ValueError, RecursionError):
        return False
    return text.isascii()


def _none(name: str) -> None:
    raise ValueError(name)


@given(VALUES, st.sampled_from([None, 0, 2]))
def test_what_python_writes_as_json_is_let_through(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    # Half of a surrogate pair may be written, and is not let through: the long way knows what to do with it.
    assert plain_json(text) == is_json(text)


@given(VALUES, st.integers(0, 200), PIECES)
def test_a_text_with_one_change_is_let_through_only_as_json(value: object, at: int, piece: bytes) -> None:
    text = json.dumps(value).encode()
    changed = text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) + 1 :]
    assert plain_json(changed) == is_json(changed), changed


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_what_is_made_of_pieces_of_json_is_let_through_only_as_json(text: bytes) -> None:
    assert plain_json(text) == is_json(text)


@given(st.binary(max_size=30))
def test_arbitrary_bytes_are_let_through_only_as_json(text: bytes) -> None:
    assert plain_json(text) == is_json(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", False),
        (b" ", False),
        (b" 1\r\n\t", True),
        (b"01", False),
        (b"-", False),
        (b"-0.0e+10", True),
        (b"1.", False),
        (b".5", False),
        (b"1e", False),
        (b"+1", False),
        (b"NaN", False),
        (b"{} {}", False),
        (b'{"a":1,}', False),
        (b"[1,]", False),
        (b"{1:2}", False),
        (b'"\\ud83d\\ude00"', True),
        (b'"\\ud83d"', False),
        (b'"\\ude00"', False),
        (b'"\\ud83d\\u0041"', False),
        (b'"\\x41"', False),
        (b'"\\', False),
        (b'"\\u12', False),
        (b'"\x1f"', False),
        (b'"\x7f"', True),
        (b'"\xc3\xa4"', False),
        (b"\xef\xbb\xbf{}", False),
        (b'{"a":[{"b":null},true,"c"]}', True),
        (b"[" * DEPTH + b"]" * DEPTH, True),
        (b"[" * DEPTH + b"[1]" + b"]" * DEPTH, False),
        (b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, True),
        (b"[" * 1_000_000, False),
    ],
)
def test_what_is_let_through(text: bytes, found: bool) -> None:
    assert plain_json(text) is found
