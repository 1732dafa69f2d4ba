"""What botocore writes is what the front reads, and the other way round."""

from __future__ import annotations

import re
import warnings
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import prepare_request_dict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from engine.errors import InvalidArgument
from engine.rest.constraints import ValidationFailed, violations
from engine.rest.messages import Body, Request, Response
from engine.rest.model import load_model, translated
from engine.rest.routes import Match, Routes
from engine.rest.shapes import SerializationError, is_empty, read_params, write_response
from tests.compat.service_model import MODEL

OURS = load_model()
ROUTES = Routes(OURS)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EXECUTION = "arn:aws:lambda:us-east-1:000000000000:function:f:1/durable-execution/name/id"


async def nothing() -> dict[str, Any]:
    raise AssertionError("nothing is read")


def request_of(path: str, query: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> Request:
    body = Body(nothing, declared_bytes=0, expected=False)
    return Request("id", "POST", path, query, headers, body)


def read(name: str, body: bytes, **labels: str) -> dict[str, Any]:
    """The members of an operation's input in a body."""
    route = next(route for route in ROUTES.all if route.name == name)
    return read_params(Match(route, labels), request_of("/"), body)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("Invoke", {"FunctionName": "f", "Payload": b'{"a": 1}', "LogType": "Tail", "Qualifier": "$LATEST"}),
        ("Invoke", {"FunctionName": "f"}),
        ("ListFunctions", {"MaxItems": 3, "Marker": "a b&c=d/é"}),
        (
            "CreateFunction",
            {"FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": b"\0"}},
        ),
        ("UpdateFunctionConfiguration", {"FunctionName": "f", "Environment": {"Variables": {"AB": "é"}}, "Timeout": 9}),
        (
            "UntagResource",
            {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:f", "TagKeys": ["a b", "c=d/é"]},
        ),
        ("TagResource", {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:f", "Tags": {"a é_:": "b"}}),
        ("DeleteLayerVersion", {"LayerName": "deps", "VersionNumber": 7}),
        ("PutFunctionConcurrency", {"FunctionName": "f", "ReservedConcurrentExecutions": 0}),
        (
            "CreateEventSourceMapping",
            {
                "FunctionName": "f",
                "StartingPosition": "AT_TIMESTAMP",
                "StartingPositionTimestamp": MOMENT,
                "SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "a"}],
                "Enabled": False,
            },
        ),
        ("ListDurableExecutionsByFunction", {"FunctionName": "f", "StartedAfter": MOMENT, "Statuses": ["RUNNING"]}),
        ("GetDurableExecutionHistory", {"DurableExecutionArn": EXECUTION, "ReverseOrder": True, "MaxItems": 5}),
        ("SendDurableExecutionCallbackSuccess", {"CallbackId": "aWQ=", "Result": b"\0\xff"}),
        ("SendDurableExecutionCallbackFailure", {"CallbackId": "aWQ=", "Error": {"ErrorType": "a"}}),
    ],
)
def test_what_botocore_sends_is_read_as_it_was_meant(name: str, params: dict[str, Any]) -> None:
    serialized = create_serializer("rest-json", include_validation=False).serialize_to_request(
        params, MODEL.operation_model(name)
    )
    prepare_request_dict(serialized, "http://127.0.0.1:9000", {})
    url = urlsplit(serialized["url"])
    body = serialized["body"]
    body = body.encode() if isinstance(body, str) else body or b""
    request = Request(
        "id",
        serialized["method"],
        url.path,
        url.query.encode(),
        tuple((key.lower(), str(value)) for key, value in serialized["headers"].items()),
        Body(nothing, declared_bytes=0, expected=False),
    )
    match = ROUTES.match(request.method, request.path, request.query())
    assert match.route.name == name
    assert read_params(match, request, body) == params


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("DeleteFunction", {"StatusCode": 200}),
        ("ListFunctions", {"Functions": [{"FunctionName": "f", "CodeSize": 3}], "NextMarker": "f"}),
        ("GetFunction", {"Tags": {"a": "b"}, "Code": {"Location": "http://127.0.0.1"}}),
        ("GetEventSourceMapping", {"UUID": "u", "LastModified": MOMENT, "Topics": ["t"]}),
        ("GetDurableExecutionState", {"Operations": [], "NextMarker": "m"}),
    ],
)
def test_what_the_front_writes_is_read_by_botocore_as_it_was_meant(name: str, result: dict[str, Any]) -> None:
    response = write_response(OURS.operations[name], result)
    parsed = parse(response, MODEL.operation_model(name).output_shape)
    parsed.pop("ResponseMetadata")
    assert parsed == result


def test_headers_payload_and_status_of_a_result_go_where_the_model_has_them() -> None:
    response = write_response(
        OURS.operations["Invoke"], {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": b"{}"}
    )
    assert (response.status, response.body) == (200, b"{}")
    assert ("x-amz-function-error", "Unhandled") in response.headers


def parse(response: Response, shape: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = create_parser("rest-json").parse(
        {"status_code": response.status, "headers": dict(response.headers), "body": response.body}, shape
    )
    return parsed


def test_every_pattern_of_the_model_is_one_for_python_too() -> None:
    patterns = [shape.pattern for shape in OURS.shapes.values() if shape.pattern]
    assert len(patterns) > 50
    with warnings.catch_warnings(action="error"):
        for pattern in patterns:
            re.compile(translated(pattern))


def test_unicode_categories_of_patterns_hold() -> None:
    key = OURS.shapes["TagKey"]
    assert violations(key, "naïve ключ 数1\u3000_.:/=+-@") == []
    assert violations(key, "no!") != []


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"1", b"null x", b"\xff", b'{"a": NaN}', b"[" * 5_000, b"\0"])
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(SerializationError, match=r"^Could not parse request body into json|^Unexpected field type"):
        read("UpdateFunctionConfiguration", body, FunctionName="f")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            b'{"Layers": ["x"]}',
            r"Value '\[x\]' at 'layers' .* Member must satisfy constraint: \[Member must have length",
        ),
        (b'{"MemorySze": 1}', r"'memorySze' .* Member must be one that this endpoint's API model knows"),
        (b'{"Environment": {"Variable": {"AB": "1"}}}', r"'environment.variable' .* Member must be one that"),
        (
            b'{"Environment": {"Variables": {"1": "1"}}}',
            r"'environment.variables' .* Map keys must satisfy constraint: \[",
        ),
        (b'{"EphemeralStorage": {}}', r"Value null at 'ephemeralStorage.size' .* Member must not be null"),
        (b'{"Deep": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}", r"'deep' .* Member must be one that"),
        (b'{"Handler": ""}', r"4 validation errors detected: Value '' at 'handler' .* Value null at 'role'"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_its_path(body: bytes, sentence: str) -> None:
    with pytest.raises(ValidationFailed, match=sentence):
        read("CreateFunction", body)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"Code": []}', r"^Start of list found where not expected$"),
        (b'{"Role": {}}', r"^Start of structure or map found where not expected.$"),
        (b'{"Code": 1}', r"^Unexpected field type$"),
        (b'{"Code": {"ZipFile": "%%"}}', r"^Invalid Base64 data$"),
        (b'{"Code": {"ZipFile": 1}}', r"^Unexpected field type$"),
        (b'{"Layers": [null]}', r"^NULL_VALUE can not be converted to a String$"),
        (b'{"MemorySize": "x"}', r"^STRING_VALUE can not be converted to an Integer$"),
        (b'{"MemorySize": true}', r"^TRUE_VALUE can not be converted to an Integer$"),
        (b'{"MemorySize": 1e400}', r"^Could not parse|can not be converted to an Integer$"),
        (b'{"MemorySize": 99999999999999999999999}', r"^NUMBER_VALUE can not be converted to an Integer$"),
        (b'{"MemorySize": 2147483648}', r"^NUMBER_VALUE can not be converted to an Integer$"),
        (b'{"Description": 1}', r"^NUMBER_VALUE can not be converted to a String$"),
        (b'{"Publish": "yes"}', r"^STRING_VALUE can not be converted to a Boolean$"),
        (b'{"Environment": {"Variables": {"AB": 1}}}', r"^NUMBER_VALUE can not be converted to a String$"),
        (b'{"Description": ' + b"[" * 900 + b"]" * 900 + b"}", r"^Start of list found where not expected$"),
    ],
)
def test_a_value_of_another_type_is_a_serialization_error(body: bytes, sentence: str) -> None:
    with pytest.raises(SerializationError, match=sentence) as caught:
        read("CreateFunction", body)
    assert (caught.value.http_status, caught.value.aws_type) == (400, "SerializationException")


def test_a_member_of_the_path_is_not_taken_from_the_body() -> None:
    read_in = read("UpdateFunctionConfiguration", b'{"FunctionName": "other", "Timeout": null}', FunctionName="f")
    assert read_in == {"FunctionName": "f"}
    assert read("PutFunctionEventInvokeConfig", b'{"Qualifier": "live"}', FunctionName="f") == {"FunctionName": "f"}


def test_a_query_that_cannot_be_read_is_refused() -> None:
    for query in (b"a=%ff", b"&".join([b"a=1"] * 1_001), b"a=\xff"):
        with pytest.raises(InvalidArgument):
            request_of("/", query).query()


def test_a_header_that_is_there_twice_is_refused() -> None:
    request = request_of("/", headers=(("x-amz-log-type", "Tail"), ("x-amz-log-type", "None")))
    with pytest.raises(InvalidArgument):
        request.header("X-Amz-Log-Type")


@pytest.mark.parametrize("value", [None, "", False, [], {}, {"a": []}, [""]])
def test_values_that_say_nothing_are_empty(value: Any) -> None:
    assert is_empty(value)


@pytest.mark.parametrize("value", [0, 0.0, True, "x", {"a": [0]}, b""])
def test_values_that_say_something_are_not(value: Any) -> None:
    assert not is_empty(value)
