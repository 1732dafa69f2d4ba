"""Whatever is sent, by the model or against it: an answer that the model allows, and never one of 500 or more."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from collections import Counter
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from hypothesis import given
from hypothesis import strategies as st

from engine.rest.app import LambdaApi
from engine.rest.configuration import Documents
from engine.rest.logs_api import LogsApi
from engine.rest.model import Operation, Shape, load_model, translated
from tests.compat.service_model import MODEL as BOTOCORE
from tests.compat.service_model import faults
from tests.compat.stub_rooms import ACCOUNT, REGION, Rooms, make_zip
from tests.compat.test_operations import NOT_BUILT

MODEL = load_model()
WAIT_S = 20
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
TEXTS = [
    "thumbs",
    f"{ARN}:function:thumbs",
    f"{ARN}:function:thumbs:$LATEST",
    f"{ACCOUNT}:function:thumbs:1",
    "$LATEST",
    "1",
    f"{ARN}:code-signing-config:csc-{'0' * 17}",
    f"{ARN}:event-source-mapping:00000000-0000-4000-8000-000000000000",
    "00000000-0000-4000-8000-000000000000",
    f"{ARN}:layer:deps",
    f"{ARN}:layer:deps:1",
    f"arn:aws:sqs:{REGION}:{ACCOUNT}:q",
    f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s",
    f"arn:aws:iam::{ACCOUNT}:role/r",
    "python3.11",
    "app.handler",
    "lambda:InvokeFunction",
    "s3.amazonaws.com",
    "*",
    '{"a": ["b"]}',
    "2026-01-01T00:00:00Z",
    "UEsDBA==",
    base64.b64encode(make_zip()).decode(),
    "other",
]
KNOWN = {
    "FunctionName": ["thumbs"] * 5 + ["other", f"{ARN}:function:thumbs", f"{ARN}:function:thumbs:$LATEST", "a b", ""],
    "Resource": [f"{ARN}:function:thumbs"] * 3 + [f"{ARN}:function:other", "thumbs"],
    "Qualifier": ["$LATEST", "$LATEST", "1", "live", "?"],
}
OTHERS = ["\ud800", "\0", "", "x" * 300, "é" * 70, "a b", "-1", "true", "null"]
SERVED = sorted(name for name in MODEL.operations if not NOT_BUILT.fullmatch(name))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(TEXTS + OTHERS)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def values(shape: Shape, depth: int = 5) -> st.SearchStrategy[Any]:
    """Mostly what the shape allows, sometimes anything."""
    return st.integers(0, 39).flatmap(lambda dice: junk if dice == 0 or depth == 0 else fitting(shape, depth - 1))


def fitting(shape: Shape, depth: int) -> st.SearchStrategy[Any]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    match shape.kind:
        case "structure":
            return documents(shape, depth)
        case "list" if shape.member is not None:
            return st.lists(values(shape.member, depth), min_size=1, max_size=2)
        case "map" if shape.value is not None:
            return st.dictionaries(st.sampled_from(["AB", "KAFKA_BOOTSTRAP_SERVERS", "1"]), values(shape.value, depth))
        case "integer" | "long":
            least, most = int(shape.least or 0), int(shape.most or 100)
            return st.sampled_from([least, most, least, most, least - 1, most + 1]) | st.integers(least, most)
        case "double":
            return st.floats(-1, 2)
        case "boolean":
            return st.booleans()
    fits = [text for text in TEXTS if not shape.pattern or shape.matches(text)]
    return st.sampled_from(fits) if fits else st.from_regex(translated(shape.pattern), fullmatch=True)


@st.composite
def documents(draw: st.DrawFn, shape: Shape, depth: int) -> dict[str, Any]:
    """The required members and a few others."""
    others = [name for name in shape.members if name not in shape.required]
    some = draw(st.lists(st.sampled_from(others), max_size=4, unique=True)) if others else []
    return {
        name: draw(st.sampled_from(KNOWN[name]) if name in KNOWN else values(shape.members[name].shape, depth))
        for name in [*shape.required, *some]
    }


class Asked(NamedTuple):
    """One request."""

    operation: Operation
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    """A request for some operation, with members where the model has them."""
    operation = MODEL.operations[draw(st.sampled_from(SERVED * 3 + sorted(MODEL.operations)))]
    shape = operation.input
    path, query, headers, document = operation.path, list(operation.query), [(b"host", b"localhost")], {}
    body = draw(st.sampled_from([b"", b"{}", b"[", b"1"]))
    for name, value in draw(documents(shape, 5)).items():
        member = shape.members[name]
        text = value if isinstance(value, str) else str(value)
        match member.place:
            case "path":
                label = quote(text.encode(errors="replace"), safe=draw(st.sampled_from(["", ":"])))
                path = path.replace("{" + member.wire + "}", label)
            case "query":
                query += [(member.wire, str(one)) for one in (value if isinstance(value, list) else [value])]
            case "header":
                headers.append((member.wire.lower().encode(), re.sub(r"[^ -~]", "?", text).encode()))
            case _ if name == shape.payload:
                body = text.encode(errors="replace") if member.shape.kind == "blob" else dumped(value)
            case _:
                document[member.wire] = value
    if document:
        body = dumped(document)
    headers.append((b"content-length", str(len(body)).encode()))
    return Asked(operation, path, urlencode(query, errors="replace").encode(), headers, body)


def dumped(value: Any) -> bytes:
    """JSON, also of what clients should not be able to write."""
    return json.dumps(value).encode()


async def ask(api: LambdaApi, asked: Asked) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": asked.operation.method,
        "raw_path": asked.path.encode(),
        "query_string": asked.query,
        "headers": asked.headers,
    }
    async with asyncio.timeout(WAIT_S):
        await api(scope, receive, send)
    headers = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:])


def api_over(rooms: Rooms, logs: LogsApi | None = None) -> LambdaApi:
    described = Documents(region=REGION, account=ACCOUNT, architecture="x86_64")
    parts = (rooms.registry, rooms.code, rooms.invoker, rooms.attached, rooms.events, described)
    return LambdaApi(MODEL, *parts, logger=rooms.faults, new_uuid=uuid.uuid4, logs=logs)


async def hold(asked: list[Asked], answered: Counter[str]) -> None:
    rooms = Rooms()
    api = api_over(rooms)
    for one in asked:
        if "thumbs" not in rooms.registry.functions:
            await rooms.add_function("thumbs")
        status, headers, body = await ask(api, one)
        name = one.operation.name
        assert status < 500, (name, body)
        assert rooms.faults.events == [], name
        if one.path.rstrip("/").count("/") == one.operation.path.rstrip("/").count("/"):
            assert faults(BOTOCORE.operation_model(name), status, headers, body) == [], (name, status, body)
        answered[f"{name} {status // 100}xx"] += 1


def test_no_request_gets_a_fault_or_an_answer_that_the_model_does_not_have() -> None:
    answered: Counter[str] = Counter()

    @given(st.lists(requests(), min_size=15, max_size=15))
    def check(asked: list[Asked]) -> None:
        asyncio.run(hold(asked, answered))

    check()
    # It would hold nothing if all that is asked were refused at the door.
    assert sum(key.endswith("2xx") for key in answered) >= 15
