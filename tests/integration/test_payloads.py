"""What goes in and comes out of a function as its payload, by both doors: JSON's corners, raw bytes, and the limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2 as pb
from tests.doors import Answer, Refused, refusal, zip_of
from tests.engines import Engine, engine

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

# What the handler sees is told in ASCII, so that no later step can change it.
SEES = """
    def handler(event, context):
        return ascii(event)
"""
ECHO = """
    def handler(event, context):
        return event
"""
RAW = """
    def handler(event, context):
        assert type(event) is bytes
        return event[::-1]
"""
TYPES = """
    def handler(event, context):
        return type(event).__name__ + str(len(event))
"""
GIVES = """
    def handler(event, context):
        return eval(event)
"""
STREAMS = """
    def handler(event, context):
        for at in range(0, len(event), 1000):
            yield event[at:at + 1000]
"""
SHALLOW, DEEP = 900, 100_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    functions = {"sees": SEES, "echo": ECHO, "raw": RAW, "types": TYPES, "gives": GIVES, "streams": STREAMS}
    async with engine(tmp_path_factory.mktemp("payloads") / "data") as running:
        for name, source in functions.items():
            await running.grpc.create(name, zip_of(source))
        yield running


@pytest.fixture(params=["grpc", "http"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class In:
    """An event's text, and the Python value that the handler gets, as ascii() shows it; None: refused, and why."""

    text: bytes
    value: str | None
    why: str = "Could not parse request body into json: "


EVENTS = {
    "the greatest double, and more": In(b"[1e308, 1e400, -1e400]", "[1e+308, inf, -inf]"),
    "a number without an end": In(b"1" * 400 + b".5", repr(float("1" * 400 + ".5"))),
    "an integer over 64 bits": In(b"123456789012345678901234567890", "123456789012345678901234567890"),
    "zero with a sign": In(b"[-0, -0.0]", "[0, -0.0]"),
    "a key twice: the last counts": In(b'{"a": 1, "a": 2, "b": 3}', "{'a': 2, 'b': 3}"),
    "an escaped surrogate pair": In(rb'"\ud83d\ude00"', r"'\U0001f600'"),
    "half of one, escaped": In(rb'"a\ud83d"', r"'a\ud83d'"),
    "its second half": In(rb'["\uDE00"]', r"['\ude00']"),
    "an escaped backslash before what looks like one": In(rb'"\\ud83d"', r"'\\ud83d'"),
    "half a surrogate pair, and then an end that is none": In(rb'"\ud83d",', None),
    "an escaped null": In(rb'"\u0000"', r"'\x00'"),
    "space around": In(b" \t\r\n1\n ", "1"),
    "a scalar": In(b"true", "True"),
    "an empty key": In(b'{"": null}', "{'': None}"),
    "NaN": In(b'{"a": NaN}', None),
    "Infinity": In(b"Infinity", None),
    "minus Infinity": In(b"[-Infinity]", None),
    "a comment": In(b"1 // one", None),
    "a trailing comma": In(b"[1,]", None),
    "single quotes": In(b"{'a': 1}", None),
    "a control character in a text": In(b'"a\nb"', None),
    "a leading zero": In(b"012", None),
    "a lone surrogate in UTF-8": In(b'"\xed\xa0\xbd"', None),
    "UTF-16": In('{"a": 1}'.encode("utf-16"), None),
    "nested far too deeply": In(b"[" * DEEP + b"]" * DEEP, None),
}


@pytest.mark.parametrize("name", EVENTS)
async def test_an_event_means_to_the_handler_what_json_says_or_never_runs(
    running: Engine, door: str, name: str
) -> None:
    row = EVENTS[name]
    if row.value is None:
        with pytest.raises(Refused) as caught:
            await running.door(door).invoke("sees", row.text)
        assert row.why in caught.value.message
        return
    answer = await running.door(door).invoke("sees", row.text)
    assert answer.json() == row.value


async def test_an_event_may_be_nested_nine_hundred_times(running: Engine, door: str) -> None:
    answer = await running.door(door).invoke("types", b"[" * SHALLOW + b"]" * SHALLOW)
    assert answer.json() == "list1"


RESULTS = {
    "NaN and infinity": ("[float('nan'), float('inf'), -float('inf')]", b"[NaN, Infinity, -Infinity]"),
    "an integer over 64 bits": ("2 ** 100", b"1267650600228229401496703205376"),
    "half a surrogate pair": (r"'a\ud83d'", rb'"a\ud83d"'),
    "keys that are no texts": ("{1: 2, None: 3, True: 4, 1.5: 6}", b'{"1": 4, "null": 3, "1.5": 6}'),
    "a tuple": ("(1, (2,))", b"[1, [2]]"),
    "nothing": ("None", b"null"),
    "an empty text": ("''", b'""'),
    "no bytes": ("b''", b""),
    "bytes that are no text": ("bytes(range(256))", bytes(range(256))),
    "bytes that look like JSON": ("b'{\"a\": 1}'", b'{"a": 1}'),
    "bytes in JSON": ("{'a': b'text'}", b'{"a": "text"}'),
    "nested deeply": (
        "__import__('functools').reduce(lambda a, _: [a], range(500), 1)",
        b"[" * 500 + b"1" + b"]" * 500,
    ),
}


@pytest.mark.parametrize("name", RESULTS)
async def test_a_result_leaves_as_aws_s_client_writes_it(running: Engine, door: str, name: str) -> None:
    expression, payload = RESULTS[name]
    answer = await running.door(door).invoke("gives", json.dumps(expression).encode())
    assert not answer.failed, answer.payload
    assert answer.payload == payload


async def raw(running: Engine, name: str, payload: bytes) -> Answer:
    """Invoke with a payload that is said to be raw."""
    request = pb.InvokeRequest(
        name=f"functions/{name}", payload=payload, payload_encoding=pb.PAYLOAD_ENCODING_RAW, log_mode=pb.LOG_MODE_TAIL
    )
    call = running.grpc.invocations.Invoke(request)
    try:
        return running.grpc.read(await call)
    except grpc.aio.AioRpcError:
        raise await refusal(call) from None


@pytest.mark.parametrize("payload", [b"", b"\0", b"no JSON", bytes(range(256)) * 100, b"\xff" * 200_000], ids=len)
async def test_raw_bytes_go_in_and_come_out_as_they_are(running: Engine, payload: bytes) -> None:
    answer = await raw(running, "raw", payload)
    assert not answer.failed, answer.payload
    assert answer.payload == payload[::-1]


async def test_raw_bytes_that_are_json_are_bytes_all_the_same(running: Engine) -> None:
    assert (await raw(running, "types", b'{"a": 1}')).json() == "bytes8"
    assert (await running.grpc.invoke("types", b'{"a": 1}')).json() == "dict1"


async def test_what_a_raw_event_s_handler_returns_is_json_unless_it_is_bytes(running: Engine) -> None:
    assert (await raw(running, "types", b"")).payload == b'"bytes0"'


async def test_a_raw_event_may_be_answered_by_a_stream(running: Engine) -> None:
    payload = bytes(range(250)) * 100
    request = pb.InvokeStreamRequest(
        name="functions/streams", payload=payload, payload_encoding=pb.PAYLOAD_ENCODING_RAW
    )
    frames = [frame async for frame in running.grpc.invocations.InvokeStream(request)]
    assert b"".join(frame.chunk for frame in frames) == payload
    assert not frames[-1].finished.HasField("function_error")


async def test_a_raw_event_has_the_same_limit(running: Engine) -> None:
    assert (await raw(running, "types", b"\xff" * 6_291_456)).json() == "bytes6291456"
    with pytest.raises(Refused) as caught:
        await raw(running, "types", b"\xff" * 6_291_457)
    assert (caught.value.code, caught.value.kind) == ("INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE")


async def test_an_encoding_of_a_later_api_is_refused_by_its_name(running: Engine) -> None:
    call = running.grpc.invocations.Invoke(pb.InvokeRequest(name="functions/echo", payload_encoding=9))  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    assert "9 is not a payload encoding" in (await refusal(call)).message


async def test_the_limits_of_event_and_result_are_settings(tmp_path: Path, door: str) -> None:
    async with engine(tmp_path / "data", event_limit_bytes=2_000, result_limit_bytes=1_500) as small:
        await small.grpc.create("echo", zip_of(ECHO))
        largest = b'"' + b"x" * 1_498 + b'"'
        assert (await small.door(door).invoke("echo", largest)).payload == largest
        over = await small.door(door).invoke("echo", b'"' + b"x" * 1_499 + b'"')
        assert over.json() == {
            "errorMessage": "Response payload size exceeded maximum allowed payload size (1500 bytes).",
            "errorType": "Function.ResponseSizeTooLarge",
        }
        await small.door(door).invoke("echo", b" " * 1_999 + b"1")
        with pytest.raises(Refused) as caught:
            await small.door(door).invoke("echo", b" " * 2_000 + b"1")
        assert "2000 bytes" in caught.value.message


async def test_larger_limits_than_aws_s_hold_as_well(tmp_path: Path, door: str) -> None:
    large = 20 << 20
    async with engine(tmp_path / "data", event_limit_bytes=large, result_limit_bytes=large) as wide:
        await wide.grpc.create("echo", zip_of(ECHO), memory_mb=512)
        payload = b'"' + b"x" * (large - 2) + b'"'
        assert (await wide.door(door).invoke("echo", payload)).payload == payload
        with pytest.raises(Refused) as caught:
            await wide.door(door).invoke("echo", payload + b" ")
        assert str(large) in caught.value.message
