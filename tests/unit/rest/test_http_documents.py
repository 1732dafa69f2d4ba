"""Events and answers that are made in C, beside those that engine.rest.payload2 makes of the same."""

from __future__ import annotations

import json
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from engine.rest import payload2
from engine.rest._http import answer, event, recognise
from engine.rest.express import whole_answer
from engine.rest.messages import Body, Request

URL_ID = "abcdefghijklmnopqrstuvwxyz234567"
DOMAIN = f"{URL_ID}.lambda-url.us-east-1.localhost"
REQUEST_ID = str(uuid.UUID(int=5, version=4))
DATE = [(b"date", b"Mon, 23 Nov 2026 23:33:49 GMT")]
FIELDS = b"date: Mon, 23 Nov 2026 23:33:49 GMT\r\n"


async def nothing() -> Any:
    raise AssertionError("nobody reads a body here")


def slow_event(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    path, _, query = target.partition("?")
    pairs = tuple((name.lower(), value) for name, value in headers)
    read = Body(nothing, declared_bytes=None, expected=False)
    request = Request(REQUEST_ID, method, path, query.encode(), pairs, read, "127.0.0.1")
    return payload2.event(request, body, path=path, url_id=URL_ID, domain=DOMAIN)


def without_time(document: bytes) -> list[Any]:
    """All of it in its order, but the moment that it was made."""
    found = json.loads(document, object_pairs_hook=list)
    assert document == orjson.dumps(json.loads(document))

    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(item) for item in value if not (isinstance(item, tuple) and item[0] in ("time", "timeEpoch"))]
        return (value[0], clean(value[1])) if isinstance(value, tuple) else value

    cleaned: list[Any] = clean(found)
    return cleaned


WORDS = st.text("abcXYZ019-_.~", max_size=4)
VISIBLE = st.text([chr(code) for code in range(0x20, 0x7F)], min_size=1, max_size=12).map(str.strip).filter(bool)
QUERY = st.one_of(
    st.just(""),
    st.lists(st.one_of(WORDS, st.tuples(WORDS, WORDS).map("=".join)), max_size=4).map("&".join).map("?".__add__),
)
HEADERS = st.dictionaries(
    st.one_of(
        st.sampled_from(["Accept", "User-Agent", "Cookie", "X-Own", "authorization", "Origin"]),
        st.text("abZ0-_", max_size=3).map("x-".__add__),
    ),
    VISIBLE,
    max_size=5,
)
TYPES = st.sampled_from(
    [
        *("", "application/json", "Application/JSON ; charset=utf-8", "text/plain", "TEXT/x;a", "application/xml"),
        *(
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "image/png",
            "application/vnd.a+json",
            "text",
        ),
        *("application/javascript", "application/jsonx", "application/x;b+json", "multipart/form-data; boundary=x"),
    ]
)
BODIES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.text('a"\\\n\t\x01\x7f', max_size=9).map(str.encode),
)


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]), WORDS, QUERY, HEADERS, TYPES, BODIES)
def test_an_event_is_payload2s_or_none(
    method: str, path: str, query: str, headers: dict[str, str], content_type: str, body: bytes
) -> None:
    pairs = [("Host", f"{DOMAIN}:9000"), *headers.items(), ("Content-Length", str(len(body)))]
    if content_type:
        pairs.append(("Content-Type", content_type))
    if len({name.lower() for name, _ in pairs}) < len(pairs):
        return
    target = f"/{path}{query}"
    head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    data = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body
    assert recognise(data)["kind"] == "url"
    made = event(data, "127.0.0.1", DOMAIN, REQUEST_ID, 1_795_476_830_125_999_999)
    if made is not None:
        assert without_time(made) == without_time(slow_event(method, target, pairs, body))
        about = json.loads(made)["requestContext"]
        assert (about["time"], about["timeEpoch"]) == ("23/Nov/2026:23:33:50 +0000", 1_795_476_830_125)


def test_an_ordinary_event_is_made_in_c() -> None:
    data = (
        f"POST /a/b?x=1&y= HTTP/1.1\r\nHost: {DOMAIN}:9000\r\nContent-Type: application/json\r\nCookie: a=1; b=2\r\n"
        'Content-Length: 8\r\n\r\n{"k": 1}'
    ).encode()
    made = event(data, "127.0.0.1", DOMAIN, REQUEST_ID, 1_767_225_600_120_000_000)
    assert made is not None
    document = json.loads(made)
    assert document["requestContext"]["time"] == "01/Jan/2026:00:00:00 +0000"
    assert document["requestContext"]["timeEpoch"] == 1_767_225_600_120
    assert (document["body"], document["cookies"]) == ('{"k": 1}', ["a=1", "b=2"])
    assert document["queryStringParameters"] == {"x": "1", "y": ""}


def test_an_event_that_does_not_fit_is_none() -> None:
    data = f"GET / HTTP/1.1\r\nHost: {DOMAIN}\r\nX-Own: {'a' * 500}\r\n\r\n".encode()
    whole = event(data, "127.0.0.1", DOMAIN, REQUEST_ID, 0)
    assert whole is not None
    assert event(data, "127.0.0.1", DOMAIN, REQUEST_ID, 0, len(whole)) == whole
    for room in range(len(whole)):
        assert event(data, "127.0.0.1", DOMAIN, REQUEST_ID, 0, room) is None


TEXTS = st.one_of(st.text(max_size=8), st.text('a"\\/\n\x01\x7fé', max_size=8))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
STATUSES = st.one_of(st.sampled_from([200, 201, 204, 304, 302, 404, 500, 599]), st.integers(-1, 700), VALUES)
NAMES = st.sampled_from(
    [
        *(
            "content-type",
            "Content-Type",
            "X-Own",
            "x-own",
            "Connection",
            "content-length",
            "TE",
            "set-cookie",
            "a b",
            "é",
        ),
        "",
    ]
)
SAID = st.fixed_dictionaries(
    {"statusCode": STATUSES},
    optional={
        "headers": st.one_of(st.dictionaries(NAMES, st.one_of(TEXTS, VISIBLE, VALUES), max_size=4), VALUES),
        "body": st.one_of(TEXTS, VALUES),
        "isBase64Encoded": st.one_of(st.booleans(), VALUES),
        "cookies": st.one_of(st.lists(VISIBLE, max_size=2), VALUES),
        "other": VALUES,
    },
)


@given(
    st.one_of(VALUES, SAID),
    st.booleans(),
    st.sampled_from([None, (",", ":"), (" , ", " : ")]),
    st.integers(0, 30),
    st.sampled_from([b"", b" ", b'"', b"}", b"\\", b"\\ud800", b"\\u0041", b"\xff", b"\0", b"01", b"-0"]),
)
def test_an_answer_is_payload2s_or_none(result: Any, ascii_only: bool, separators: Any, at: int, odd: bytes) -> None:
    text = json.dumps(result, ensure_ascii=ascii_only, separators=separators).encode(errors="surrogatepass")
    for given_result in (text, text[:at] + odd + text[at:]):
        made = answer(given_result, REQUEST_ID, STATUS_LINE, DATE)
        assert made in (None, whole_answer(given_result, REQUEST_ID, FIELDS, True, ""))


def test_ordinary_answers_are_made_in_c() -> None:
    results: list[Any] = [
        {"statusCode": 200, "headers": {"Content-Type": "text/html", "x-own": "1"}, "body": '<p class="a">é\n</p>'},
        {"statusCode": 204},
        {"statusCode": 404, "body": "none", "isBase64Encoded": False},
        {"message": "hello", "items": [1, True, None, {"a": -5}]},
        "hello é",
        [],
        None,
        7,
    ]
    for result in results:
        text = json.dumps(result).encode()
        made = answer(text, REQUEST_ID, STATUS_LINE, DATE)
        assert made == whole_answer(text, REQUEST_ID, FIELDS, True, "")


@pytest.mark.parametrize(
    "result",
    [
        *(
            b'"a\nb"',
            b'"a',
            b'"\\x"',
            b'"\\ud800"',
            b"01",
            b"-0",
            b"1.0",
            b"1e3",
            b"tru",
            b"[1,]",
            b"{,}",
            b'{"a" 1}',
            b"{} {}",
            b" ",
        ),
        *(b'{"a": 1, "a": 2}', b'{"\\u0061": 1}', b'"\xc3\xa9"', b"[" * 65 + b"]" * 65, b"12345678901234567"),
        *(b'{"statusCode": 200, "body": "a\x01"}', b'{"statusCode": 200, "statusCode": 201}', b'{"statusCode": 0200}'),
        *(b'{"statusCode": 200, "headers": {"a": "b\\n"}}', b'{"statusCode": 200, "headers": {"a": "b\x7f"}}'),
        *(b'{"statusCode": 200, "headers": {"a\\n": "b"}}', b'{"statusCode": 200, "isBase64Encoded": true}'),
        *(b'{"a": {"statusCode": 200}}', b'{"\\u0073tatusCode": 200}', b'{"statusCode": 199}', b'{"statusCode": 600}'),
    ],
)
def test_a_result_that_is_not_everybodys_is_left_to_python(result: bytes) -> None:
    assert answer(result, REQUEST_ID, STATUS_LINE, DATE) is None


def test_an_answer_that_does_not_fit_is_none() -> None:
    text = b'{"statusCode": 200, "headers": {"x-own": "1"}, "body": "hello"}'
    whole = whole_answer(text, REQUEST_ID, FIELDS, True, "")
    longest = len(whole) + 6  # the length of the body is known when it is there
    for room in range(longest + 1):
        assert answer(text, REQUEST_ID, STATUS_LINE, DATE, room=room) == (whole if room == longest else None)


@given(st.binary(max_size=30))
def test_what_invoke_answers_is_the_result_as_it_is(result: bytes) -> None:
    made = answer(result, REQUEST_ID, STATUS_LINE, DATE, version="$LATEST")
    assert made == whole_answer(result, REQUEST_ID, FIELDS, False, "$LATEST")
