"""What becomes of a handler's result: AWS's JSON, or the document that says why there is none."""

from __future__ import annotations

import sys

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest

EVALUATE = """
import collections, datetime, decimal, enum
D = decimal.Decimal
Point = collections.namedtuple("Point", "x y")
class Colour(enum.IntEnum):
    RED = 1
class Name(str):
    def __str__(self): return "other"
class Bag: pass
bag = Bag()
bag.d = D("1.10")
loop = []
loop.append(loop)
wide = []
for _ in range(40): wide = [wide, wide]
deep = []
for _ in range(100_000): deep = [deep]
def handler(event, context):
    return eval(event)
"""


def answer(guest: Guest, expression: str) -> bytes:
    guest.start(EVALUATE, expression)
    kind, body = guest.frame()
    assert kind == wire.RESULT, body
    return body


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("None", b"null"),
        ("{'a': (1, 2.0, True), 3: [], None: {}}", b'{"a": [1, 2.0, true], "3": [], "null": {}}'),
        ("D('1.10')", b"1.10"),
        ("{'n': [D('12345678901234567890.123456789'), D('NaN')]}", b'{"n": [12345678901234567890.123456789, NaN]}'),
        ("[Point(1, 2)]", b'[{"x": 1, "y": 2}]'),
        ("Point(1, [Point(2, 3)])", b'{"x": 1, "y": [{"x": 2, "y": 3}]}'),
        ("{'a': b'bytes', b'k': 1}", b'{"a": "bytes", "k": 1}'),
        ("b'as it is'", b"as it is"),
        ("[Colour.RED, Name('name')]", b'[1, "name"]'),
        ("collections.OrderedDict(a=1)", b'{"a": 1}'),
        ("float('nan')", b"NaN"),
        ("vars(bag)", b'{"d": 1.10}'),
        ("'\\ud800'", b'"\\ud800"'),
        ("['\\ud800', D('1.0')]", b'["\\ud800", 1.0]'),
        ("10 ** 20", b"100000000000000000000"),
    ],
)
def test_a_result_is_written_as_aws_s_client_writes_it(guest: Guest, expression: str, text: bytes) -> None:
    assert answer(guest, expression) == text


def test_characters_are_written_as_aws_s_client_of_that_python_does(any_guest: Guest) -> None:
    any_guest.start("import sys\ndef handler(event, context):\n    return ['ä\\U0001f600', sys.version_info[1]]\n")
    _, body = any_guest.frame()
    minor = int(body.rsplit(b" ", 1)[1].rstrip(b"]"))
    text = '["ä😀", '.encode() if minor >= 12 else b'["\\u00e4\\ud83d\\ude00", '
    assert body.startswith(text)


def test_decimals_and_named_tuples_are_written_under_every_python(any_guest: Guest) -> None:
    assert answer(any_guest, "{'p': Point(D('1.10'), b'b'), 'v': vars(bag)}") == (
        b'{"p": {"x": 1.10, "y": "b"}, "v": {"d": 1.10}}'
    )


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{1}", "Object of type set is not JSON serializable"),
        ("[{'a': datetime.datetime(2020, 1, 1)}]", "Object of type datetime is not JSON serializable"),
        ("{(1, 2): 3}", "keys must be str, int, float, bool or None, not tuple"),
        ("{D('1'): 3}", "keys must be str, int, float, bool or None, not decimal.Decimal"),
        ("loop", "Circular reference detected"),
        ("[loop, D('1')]", "Circular reference detected"),
        ("Bag()", "Object of type Bag is not JSON serializable"),
        ("[b'\\xff']", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_what_has_no_json_form_is_a_marshal_error(guest: Guest, expression: str, message: str) -> None:
    guest.start(EVALUATE, expression)
    document = guest.error()
    assert document["errorType"] == "Runtime.MarshalError"
    assert document["errorMessage"] == f"Unable to marshal response: {message}"
    assert document["stackTrace"] == []
    assert guest.call("1") == 1


def test_the_words_for_a_set_are_the_same_under_every_python(any_guest: Guest) -> None:
    any_guest.start(EVALUATE, "{1}")
    message = "Unable to marshal response: Object of type set is not JSON serializable"
    assert any_guest.error()["errorMessage"] == message


def test_a_result_that_is_nested_too_deeply_is_a_marshal_error(any_guest: Guest) -> None:
    any_guest.start(EVALUATE, "deep")
    assert any_guest.error()["errorType"] == "Runtime.MarshalError"


def test_a_result_over_the_limit_is_not_sent(any_guest: Guest) -> None:
    any_guest.start("def handler(event, context):\n    return 'x' * event\n", 8, result_limit_bytes=10)
    assert any_guest.result() == "x" * 8
    any_guest.event(9)
    assert any_guest.frame() == (wire.TOO_LARGE, b"")
    assert any_guest.call(1) == "x"


def test_patches_of_the_json_module_do_not_reach_the_answer(guest: Guest) -> None:
    source = "import json\njson.JSONEncoder.default = lambda self, o: 'patched'\n"
    guest.start(source + "def handler(event, context):\n    return {1}\n")
    assert guest.error()["errorType"] == "Runtime.MarshalError"


def test_a_wide_result_of_shared_parts_is_not_walked_for_ever(guest: Guest) -> None:
    # 2^40 leaves: no answer is possible, but the check before the encoder must not be what hangs.
    from engine.guest import marshal

    wide: list[object] = []
    for _ in range(40):
        wide = [wide, wide]
    assert marshal._is_plain(wide)
    assert sys.getrecursionlimit() > 40


def test_a_raw_event_is_bytes_and_the_next_may_be_json(any_guest: Guest) -> None:
    any_guest.start("def handler(event, context):\n    return [type(event).__name__, len(event)]\n", "12")
    assert any_guest.result() == ["str", 2]
    for payload in (b"", b"{}", b"\xff\x00"):
        any_guest.event(raw=payload, raw_payload=True)
        assert any_guest.result() == ["bytes", len(payload)]
    any_guest.event(raw=b"{}")
    assert any_guest.result() == ["dict", 0]
