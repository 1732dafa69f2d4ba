"""What is told apart as a plain request, beside what the HTTP server's own parser makes of the same bytes."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rest._http import recognise

URL_ID = "abcdefghijklmnopqrstuvwxyz234567"
HOST = f"{URL_ID}.lambda-url.us-east-1.localhost:9000"
INVOKE = (
    b"POST /2015-03-31/functions/thumbs/invocations HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nContent-Length: 2\r\n\r\n{}"
)
CALL = f"GET /a/b?x=1&y HTTP/1.1\r\nHost: {HOST}\r\nX-Own: some words\r\n\r\n".encode()


class Parsed:
    """What httptools calls back with."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.begun = self.ended = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)
        self.method = self._parser.get_method()
        self.version = self._parser.get_http_version()
        self.stays = self._parser.should_keep_alive() and not self._parser.should_upgrade()

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


def invoke(*lines: str, first: str = "", body: str = "") -> bytes:
    first = first or "POST /2015-03-31/functions/thumbs/invocations HTTP/1.1"
    return "\r\n".join([first, *lines, "", body]).encode("latin-1")


def test_a_plain_invoke_is_known_by_its_functions_name() -> None:
    found = recognise(INVOKE)
    assert (found["kind"], found["name"], found["body"]) == ("invoke", "thumbs", b"{}")


def test_a_plain_call_of_a_url_is_known_by_its_host_or_by_its_path() -> None:
    found = recognise(CALL)
    assert (found["kind"], found["name"], found["by_host"]) == ("url", URL_ID, True)
    assert (found["path"], found["query"]) == ("/a/b", "x=1&y")
    found = recognise(invoke("Host: localhost", first=f"DELETE /lambda-url/{URL_ID}/a HTTP/1.1"))
    assert (found["kind"], found["name"], found["by_host"], found["path"]) == ("url", URL_ID, False, "/a")
    assert recognise(invoke("Host: localhost", first=f"GET /lambda-url/{URL_ID} HTTP/1.1"))["path"] == "/"


@pytest.mark.parametrize(
    "header",
    [
        "Accept-Encoding: identity",
        "User-Agent: Boto3/1 md/x (a;b)",
        "X-Amz-Invocation-Type: RequestResponse",
        "x-amz-log-type: None",
        "Connection: Keep-Alive",
        "Authorization: AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=c, Signature=d",
    ],
)
def test_what_clients_of_the_api_send_is_known(header: str) -> None:
    assert recognise(invoke("Host: [::1]:9000", header))["kind"] == "invoke"


@pytest.mark.parametrize(
    "header",
    [
        "X-Amz-Invocation-Type: Event",
        "X-Amz-Invocation-Type: requestresponse",
        "X-Amz-Log-Type: Tail",
        "X-Amz-Client-Context: e30=",
        "X-Amz-Tenant-Id: a",
        "X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793",
        "Origin: http://127.0.0.1",
        "X-Unknown: 1",
    ],
)
def test_an_invoke_that_may_ask_for_more_is_not_plain(header: str) -> None:
    assert recognise(invoke("Host: 127.0.0.1", header)) is None


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: chunked",
        "transfer-encoding:identity",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Connection: close",
        "Connection: keep-alive, upgrade",
        "Content-Encoding: gzip",
        "Host: 127.0.0.1",
        "hOsT: 127.0.0.1",
        "X-Forwarded-For: 1.2.3.4",
        "Content-Length: +2",
        "Content-Length: 02",
        "Content-Length: 2, 2",
        "Content-Length: 2 ",
        "Content-Length:  2",
        "Content-Length:",
        "Content-Length : 2",
        "Content-Length: 99999",
        "X-Own: \xe9",
        "X-Own: a\x7f",
        "X-Own: a\tb",
        " folded: 1",
        "\tfolded: 1",
        "X-Ow(n: 1",
        ": 1",
        "none",
        "X-Own: a\nX-Two: b",
        "X-Own: a\rX-Two: b",
        "X-Own: a\0",
    ],
)
@pytest.mark.parametrize("request_line", ["", f"GET /lambda-url/{URL_ID}/ HTTP/1.1"], ids=["invoke", "url"])
def test_whatever_is_odd_about_a_head_is_left_to_the_http_server(line: str, request_line: str) -> None:
    assert recognise(invoke("Host: 127.0.0.1", line, first=request_line)) is None


@pytest.mark.parametrize(
    "first",
    [
        "POST /2015-03-31/functions/thumbs/invocations HTTP/1.0",
        "POST /2015-03-31/functions/thumbs/invocations HTTP/1.2",
        "POST /2015-03-31/functions/thumbs/invocations http/1.1",
        "POST /2015-03-31/functions/thumbs/invocations  HTTP/1.1",
        "POST  /2015-03-31/functions/thumbs/invocations HTTP/1.1",
        "POST /2015-03-31/functions/thumbs/invocations HTTP/1.1 ",
        "POST\t/2015-03-31/functions/thumbs/invocations HTTP/1.1",
        "post /2015-03-31/functions/thumbs/invocations HTTP/1.1",
        "PUT /2015-03-31/functions/thumbs/invocations HTTP/1.1",
        "POST /2015-03-31/functions/thumbs/invocations/ HTTP/1.1",
        "POST /2015-03-31/functions/thumbs/invocations? HTTP/1.1",
        "POST /2015-03-31/functions/thumbs/invocations?Qualifier=1 HTTP/1.1",
        "POST /2015-03-31/functions/thumbs:1/invocations HTTP/1.1",
        "POST /2015-03-31/functions/thum%62s/invocations HTTP/1.1",
        "POST /2015-03-31/functions//invocations HTTP/1.1",
        f"POST /2015-03-31/functions/{'a' * 65}/invocations HTTP/1.1",
        "POST http://127.0.0.1/2015-03-31/functions/thumbs/invocations HTTP/1.1",
        "POST //2015-03-31/functions/thumbs/invocations HTTP/1.1",
        f"HEAD /lambda-url/{URL_ID}/ HTTP/1.1",
        f"OPTIONS /lambda-url/{URL_ID}/ HTTP/1.1",
        f"GET /lambda-url/{URL_ID}x/ HTTP/1.1",
        f"GET /lambda-url/{URL_ID.upper()}/ HTTP/1.1",
        f"GET /lambda-url/{URL_ID}/%61 HTTP/1.1",
        f"GET /lambda-url/{URL_ID}/?a=%61 HTTP/1.1",
        f"GET /lambda-url/{URL_ID}/?a+b HTTP/1.1",
        f"GET /lambda-url/{URL_ID}/#a HTTP/1.1",
        f"GET /lambda-url/{URL_ID}/\xe9 HTTP/1.1",
        "",
    ],
)
def test_another_request_line_is_left_to_the_http_server(first: str) -> None:
    assert recognise(invoke("Host: 127.0.0.1", first=first or "\r\nPOST / HTTP/1.1")) is None


@pytest.mark.parametrize(
    "host",
    ["example.com", "127.0.0.1.example.com", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:123456", "127.1", "[::1", ""],
)
def test_a_host_that_may_be_another_machines_is_left_to_the_http_server(host: str) -> None:
    assert recognise(invoke(f"Host: {host}")) is None
    assert recognise(invoke(f"Host: {host}", first=f"GET /lambda-url/{URL_ID}/ HTTP/1.1")) is None


def test_a_request_without_a_host_is_left_to_the_http_server() -> None:
    assert recognise(invoke("Accept: a")) is None


def test_a_body_that_is_still_to_come_is_waited_for_and_a_head_is_not() -> None:
    head = INVOKE.index(b"\r\n\r\n") + 4
    for size in range(len(INVOKE)):
        assert recognise(INVOKE[:size]) == ("coming" if size >= head else None)


def test_a_second_request_behind_the_first_is_left_to_the_http_server() -> None:
    assert recognise(INVOKE + b"\r\n") is None
    assert recognise(INVOKE + INVOKE) is None
    assert recognise(CALL + b"G") is None


def test_more_headers_or_longer_ones_than_are_taken_are_left_to_the_http_server() -> None:
    def call(count: int, size: int = 1) -> Any:
        lines = [f"X-{number}: {'a' * size}" for number in range(count)]
        return recognise(invoke("Host: 127.0.0.1", *lines, first=f"GET /lambda-url/{URL_ID}/ HTTP/1.1"))

    assert call(47) is not None
    assert call(48) is None
    assert call(1, 16_000) is not None
    assert call(1, 17_000) is None


PIECES = [
    *(
        b"GET",
        b"POST",
        b" ",
        b"\r\n",
        b"\n",
        b"\r",
        b"\t",
        b":",
        b": ",
        b",",
        b"\0",
        b"\xff",
        b"%0d%0a",
        b"0",
        b"2",
        b"/",
    ),
    *(
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"Host",
        b"Content-Length: 2\r\n",
        b"Content-Length: 0\r\n",
        b"chunked",
        b"{}",
        b"?",
        b"#",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: close\r\n",
        b" \r\n",
        b"\r\n\r\n",
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A plain request with something in the place of something else."""
    data = draw(st.sampled_from([INVOKE, CALL, CALL.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc")]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=2)))
        data = data[:at] + piece + data[at + draw(st.integers(0, 3)) :]
    return data


@given(mutated())
def test_what_is_plain_is_the_same_one_request_to_the_http_servers_parser(data: bytes) -> None:
    found = recognise(data)
    if found is None:
        return
    parsed = Parsed(data)
    assert (parsed.begun, parsed.ended, parsed.version, parsed.stays) == (1, int(found != "coming"), "1.1", True)
    if found == "coming":
        return
    url = httptools.parse_url(parsed.url)
    headers = dict(parsed.headers)
    assert len(headers) == len(parsed.headers)
    assert parsed.method.decode() == found["method"]
    assert (url.query or b"").decode() == found["query"]
    assert headers[b"host"].decode() == found["host"]
    assert parsed.body == found["body"]
    prefix = "" if found["by_host"] else f"/lambda-url/{found['name']}"
    if found["kind"] == "url":
        assert url.path.decode() in (prefix + found["path"], prefix if found["path"] == "/" else None)
    else:
        assert url.path.decode() == f"/2015-03-31/functions/{found['name']}/invocations"
