"""Calls of function URLs, as browsers and programs make them."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from engine.model.invocation import Completion, InvokeRequest, Sink
from engine.model.outcome import Outcome, StartKind
from tests.compat.conftest import Create
from tests.compat.stub_rooms import REGION, Front, Rooms, completed, failed

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

CORS: Any = {
    "AllowOrigins": ["https://a.example"],
    "AllowMethods": ["GET", "PUT"],
    "AllowHeaders": ["x-own"],
    "ExposeHeaders": ["x-seen"],
    "AllowCredentials": True,
    "MaxAge": 60,
}
Run = Callable[[InvokeRequest], Awaitable[Completion]]


class Caller:
    """Calls the URL of the function, by Host unless `path` is the path form."""

    def __init__(self, front: Front, url: str) -> None:
        self.front = front
        self.host = urlsplit(url).netloc
        self.url_id = self.host.partition(".")[0]
        self._open: list[http.client.HTTPConnection] = []

    def ask(
        self, method: str = "GET", path: str = "/", body: bytes | None = None, headers: Any = (), host: str = ""
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.front.port, timeout=20)
        self._open.append(connection)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or self.host)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in dict(headers).items() if isinstance(headers, dict) else headers:
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse()

    def close(self) -> None:
        for connection in self._open:
            connection.close()


@pytest.fixture
def make(front: Front, client: LambdaClient, create: Create) -> Iterator[Callable[..., Caller]]:
    callers: list[Caller] = []

    def make(**settings: Any) -> Caller:
        create()
        made = client.create_function_url_config(FunctionName="thumbs", **{"AuthType": "NONE", **settings})
        callers.append(Caller(front, made["FunctionUrl"]))
        return callers[-1]

    yield make
    for caller in callers:
        caller.close()


def returns(result: Any) -> Run:
    async def run(request: InvokeRequest) -> Completion:
        return completed(request, json.dumps(result).encode())

    return run


def event_of(rooms: Rooms) -> Any:
    return json.loads(rooms.invoker.requests[-1].payload)


def test_a_request_is_an_event_of_format_2(make: Callable[..., Caller], rooms: Rooms) -> None:
    caller = make()
    answer = caller.ask(
        "POST",
        "/a%20b/c?x=1&y=%C3%A9&x=2&empty=",
        b'{"k": 1}',
        [("Content-Type", "application/json"), ("X-Two", "1"), ("X-Two", "2"), ("Cookie", "a=1; b=2")],
    )
    event = event_of(rooms)
    about = event["requestContext"]
    assert about.pop("time").endswith(" +0000")
    assert about.pop("timeEpoch") > 1_000_000_000_000
    assert about.pop("requestId") == answer.headers["x-amzn-requestid"] == rooms.invoker.requests[-1].request_id
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b/c",
        "rawQueryString": "x=1&y=%C3%A9&x=2&empty=",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "host": caller.host,
            "content-length": "8",
            "content-type": "application/json",
            "x-two": "1,2",
            "cookie": "a=1; b=2",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-proto": "http",
            "x-forwarded-port": str(caller.front.port),
        },
        "queryStringParameters": {"x": "1,2", "y": "é", "empty": ""},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": caller.url_id,
            "domainName": f"{caller.url_id}.lambda-url.{REGION}.localhost",
            "domainPrefix": caller.url_id,
            "http": {
                "method": "POST",
                "path": "/a%20b/c",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "",
            },
            "routeKey": "$default",
            "stage": "$default",
        },
        "body": '{"k": 1}',
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(
    ("content_type", "body", "is_text"),
    [
        ("text/plain; charset=utf-8", "é".encode(), True),
        ("application/problem+json", b"{}", True),
        ("image/png", b"\x89PNG", False),
        ("application/x-www-form-urlencoded", b"a=b", False),
        ("text/plain", b"\xff", False),
        ("", b"plain", True),
    ],
)
def test_a_body_that_is_no_text_comes_in_base64(
    make: Callable[..., Caller], rooms: Rooms, content_type: str, body: bytes, is_text: bool
) -> None:
    make().ask("PUT", "/", body, {"Content-Type": content_type} if content_type else {})
    event = event_of(rooms)
    assert event["isBase64Encoded"] is not is_text
    assert event["body"] == (body.decode() if is_text else base64.b64encode(body).decode())


def test_a_url_is_called_by_path_where_there_is_no_dns(make: Callable[..., Caller], rooms: Rooms) -> None:
    caller = make()
    for path, seen in (("", "/"), ("/", "/"), ("/a/b?c=d", "/a/b")):
        assert caller.ask("GET", f"/lambda-url/{caller.url_id}{path}", host="127.0.0.1").status == 200
        assert event_of(rooms)["rawPath"] == seen
    assert caller.ask("GET", f"/lambda-url/{caller.url_id}/", host="evil.example").status == 403
    assert caller.ask("GET", "/2015-03-31/functions").status == 200  # by Host, every path is the function's
    assert event_of(rooms)["rawPath"] == "/2015-03-31/functions"


@pytest.mark.parametrize(
    ("result", "status", "content_type", "body"),
    [
        ({"hello": "world"}, 200, "application/json", b'{"hello":"world"}'),
        (["hello", 3, True], 200, "application/json", b'["hello",3,true]'),
        ("hello", 200, "application/json", b"hello"),
        (3.1, 200, "application/json", b"3.1"),
        ({"statusCode": 201, "body": "made"}, 201, "application/json", b"made"),
        ({"statusCode": "404"}, 404, "application/json", b""),
        (
            {"statusCode": 200, "headers": {"Content-Type": "text/html", "X-N": 1}, "body": "é"},
            200,
            "text/html",
            "é".encode(),
        ),
        ({"statusCode": 200, "isBase64Encoded": True, "body": "/wA="}, 200, "application/json", b"\xff\x00"),
        ({"statusCode": 200, "isBase64Encoded": True, "body": "%"}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": 200, "body": {"a": 1}}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": 99}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": True}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": 200, "headers": {"x": "a\r\nb: c"}}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": 200, "headers": {"a b": "c"}}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": 200, "headers": {"x": []}}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": 200, "cookies": {"a": "b"}}, 502, "application/json", b"Internal Server Error"),
        ({"statusCode": 204, "body": "no"}, 204, "application/json", b""),
    ],
)
def test_a_result_is_an_answer(
    make: Callable[..., Caller], rooms: Rooms, result: Any, status: int, content_type: str, body: bytes
) -> None:
    caller = make()
    rooms.invoker.run = returns(result)
    answer = caller.ask()
    assert (answer.status, answer.headers["content-type"], answer.read()) == (status, content_type, body)
    assert rooms.faults.events == []


def test_cookies_are_set_and_framing_is_not_the_functions(make: Callable[..., Caller], rooms: Rooms) -> None:
    caller = make()
    headers = {"Content-Length": "999", "Transfer-Encoding": "chunked", "Connection": "close", "X-Own": "1"}
    rooms.invoker.run = returns(
        {"statusCode": 200, "headers": headers, "cookies": ["a=1; Secure", "b=2"], "body": "xy"}
    )
    answer = caller.ask()
    assert answer.headers.get_all("set-cookie") == ["a=1; Secure", "b=2"]
    assert (answer.headers["x-own"], answer.headers["content-length"], answer.read()) == ("1", "2", b"xy")


def test_a_functions_failure_is_a_bad_gateway_that_says_nothing(make: Callable[..., Caller], rooms: Rooms) -> None:
    caller = make()

    async def fail(request: InvokeRequest) -> Completion:
        return failed(request, Outcome.HANDLER_ERROR, b'{"errorMessage": "secret"}')

    rooms.invoker.run = fail
    answer = caller.ask()
    assert (answer.status, answer.read()) == (502, b"Internal Server Error")


def test_nobody_gets_in_without_a_url(make: Callable[..., Caller], client: LambdaClient, rooms: Rooms) -> None:
    caller = make()
    unknown = caller.ask(host=f"{'a' * 32}.lambda-url.{REGION}.localhost")
    assert (unknown.status, json.loads(unknown.read())) == (403, {"Message": None})
    client.update_function_url_config(FunctionName="thumbs", AuthType="AWS_IAM")
    signed = caller.ask(headers={"Authorization": "AWS4-HMAC-SHA256 Credential=any"})
    assert (signed.status, signed.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert "AWS_IAM" in json.loads(signed.read())["Message"]
    client.delete_function_url_config(FunctionName="thumbs")
    assert caller.ask().status == 403
    assert rooms.invoker.requests == []


def test_an_event_over_the_limit_is_refused(make: Callable[..., Caller], rooms: Rooms) -> None:
    answer = make().ask("POST", "/", b"x" * 6_291_457)
    assert answer.status == 413
    assert rooms.invoker.requests == []


def test_pages_are_let_in_by_the_urls_settings(make: Callable[..., Caller], rooms: Rooms) -> None:
    caller = make(Cors=CORS)
    rooms.invoker.run = returns({"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "https://evil.example"}})
    asked = caller.ask("OPTIONS", "/", None, {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"})
    assert asked.status == 200
    assert rooms.invoker.requests == []
    assert {name.lower(): value for name, value in asked.headers.items() if name.lower().startswith("access-")} == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET,PUT",
        "access-control-allow-headers": "x-own",
        "access-control-max-age": "60",
    }
    own = caller.ask(headers={"Origin": "https://a.example"})
    assert (own.headers["access-control-allow-origin"], own.headers["access-control-expose-headers"]) == (
        "https://a.example",
        "x-seen",
    )
    for origin in ("https://evil.example", "null"):
        other = caller.ask(headers={"Origin": origin})
        assert other.status == 200
        assert [name for name in other.headers if name.lower().startswith("access-")] == []
    strange = caller.ask("OPTIONS", "/", None, {"Origin": "https://b.example", "Access-Control-Request-Method": "PUT"})
    assert "access-control-allow-origin" not in strange.headers


def test_without_settings_pages_are_the_functions_matter(make: Callable[..., Caller], rooms: Rooms) -> None:
    caller = make()
    rooms.invoker.run = returns({"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}})
    asked = caller.ask("OPTIONS", "/", None, {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"})
    assert (asked.headers["access-control-allow-origin"], len(rooms.invoker.requests)) == ("*", 1)


def streams(*chunks: bytes, error: bool = False) -> Callable[[InvokeRequest, Sink], Awaitable[Completion]]:
    async def run(request: InvokeRequest, sink: Sink) -> Completion:
        sink.started(request.request_id, "$LATEST", StartKind.WARM)
        for chunk in chunks:
            held = sink.chunk(chunk)
            if held is not None:
                await held
        if error:
            return failed(request, Outcome.HANDLER_ERROR, b"{}")
        return completed(request, b"")

    return run


PRELUDE = b'{"statusCode":201,"headers":{"X-A":"b","content-type":"text/plain"},"cookies":["c=1"]}'


@pytest.mark.parametrize(
    ("chunks", "status", "body"),
    [
        ((b"one,", b"two"), 200, b"one,two"),
        ((PRELUDE + b"\0" * 8 + b"one,", b"two"), 201, b"one,two"),
        ((PRELUDE, b"\0" * 8, b"one,two"), 201, b"one,two"),
        ((PRELUDE + b"\0" * 3, b"\0" * 5 + b"one,two"), 201, b"one,two"),
        ((PRELUDE + b"\0" * 8,), 201, b""),
        ((PRELUDE,), 200, PRELUDE),
        ((b'{"other": 1}' + b"\0" * 8, b"x"), 200, b'{"other": 1}' + b"\0" * 8 + b"x"),
        ((b'{"statusCode": 1}' + b"\0" * 8,), 502, b"Internal Server Error"),
        ((b"x" * 1_000_000,) * 3, 200, b"x" * 3_000_000),
        ((), 200, b""),
    ],
)
def test_a_streamed_answer_may_begin_with_its_head(
    make: Callable[..., Caller], rooms: Rooms, chunks: tuple[bytes, ...], status: int, body: bytes
) -> None:
    caller = make(InvokeMode="RESPONSE_STREAM")
    rooms.invoker.stream = streams(*chunks)
    answer = caller.ask()
    assert (answer.status, answer.read()) == (status, body)
    if status == 201:
        assert (answer.headers["x-a"], answer.headers["set-cookie"], answer.headers["content-type"]) == (
            "b",
            "c=1",
            "text/plain",
        )
    assert rooms.faults.events == []


def test_a_streamed_answer_that_fails_is_cut_off(make: Callable[..., Caller], rooms: Rooms) -> None:
    caller = make(InvokeMode="RESPONSE_STREAM")
    rooms.invoker.stream = streams(b"half of", error=True)
    answer = caller.ask()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    rooms.invoker.stream = streams(error=True)
    failure = caller.ask()
    assert (failure.status, failure.read()) == (502, b"Internal Server Error")
    assert rooms.faults.events == []
