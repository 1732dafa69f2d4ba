"""Whatever is sent to CloudWatch Logs: an answer that its model allows, and never one of 500 or more."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.model.invocation import LogBatch
from engine.observe.function_logs import FunctionLogs
from engine.rest.configuration import Documents
from engine.rest.logs_api import LogsApi
from engine.rest.model import LOGS_MODEL, load_model
from tests.compat.service_model import LOGS_MODEL as BOTOCORE
from tests.compat.service_model import faults_of_logs
from tests.compat.stub_rooms import ACCOUNT, REGION, Rooms
from tests.compat.test_any_request import Asked, api_over, ask, documents, dumped
from tests.compat.test_logs import SERVED, STREAM

MODEL = load_model(LOGS_MODEL)
READ = {"DescribeLogStreams", "FilterLogEvents", "GetLogEvents"}
GROUP = "/aws/lambda/thumbs"
ARN = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
NOW_MS = time.time_ns() // 1_000_000
KNOWN: dict[str, list[Any]] = {
    "logGroupName": [GROUP] * 8 + ["/aws/lambda/other", "/own", "a b"],
    "logGroupIdentifier": [GROUP, ARN, ARN + ":*", "arn:aws:logs:other"],
    "logStreamName": [STREAM] * 3 + ["other"],
    "logStreamNames": [[STREAM], ["other", STREAM]],
    "logStreamNamePrefix": ["2026", "x"],
    "logGroupNamePrefix": ["/aws/lambda/", "x"],
    "filterPattern": ["", "line", '"a line" -x', "?a ?b", "{ $.a = 1 }", "{", "[a]", "%a%", '"'],
    "nextToken": [
        *(f"{way}/{digit * 56}/s" for way in "fb" for digit in "09"),
        "WyJ4Il0=",
        "W3RydWUsIjkiXQ==",
        "?",
        "W10=",
    ],
    "startTime": [0, NOW_MS - 1_000, NOW_MS, (1 << 63) - 1],
    "endTime": [0, NOW_MS, NOW_MS + 1_000, (1 << 63) - 1],
    "limit": [1, 2, 50, 10_000],
    "retentionInDays": [1, 7, 8, 30],
    "resourceArn": [ARN, ARN, "arn:aws:lambda:x", ARN + "x"],
    "tags": [{"a": "b"}, {"aws:x": "y"}],
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name of an operation, mostly one that is served, and a body."""
    name = draw(st.sampled_from(sorted(SERVED) * 5 + sorted(READ) * 5 + ["StartQuery", "PutLogEvents", "NoSuch"]))
    if name not in SERVED:
        return name, b"{}"
    document = draw(documents(MODEL.operations[name].input, 5))
    for member in document:
        if member in KNOWN and draw(st.integers(0, 9)):
            document[member] = draw(st.sampled_from(KNOWN[member]))
    if name in READ and draw(st.booleans()):
        document = {**document, "logGroupName": GROUP}
        document.pop("logGroupIdentifier", None)
    return name, draw(st.sampled_from([dumped(document)] * 12 + [b"", b"[", b"1", b"null"]))


async def hold(asked: list[tuple[str, bytes]], answered: Counter[str]) -> None:
    rooms = Rooms()
    await rooms.add_function("thumbs")
    described = Documents(region=REGION, account=ACCOUNT, architecture="x86_64")
    with tempfile.TemporaryDirectory() as folder:
        kept = await FunctionLogs.open(Path(folder) / "l", (), keep_days=14, keep_mb=1, total_mb=1, mb_per_s=1)
        logs = LogsApi(kept, rooms.registry, rooms.attached, described, wall_ms=lambda: NOW_MS)
        api = api_over(rooms, logs)
        for name, body in asked:
            kept.append("thumbs", LogBatch(NOW_MS * 1_000, "r", STREAM, [b"a line", b'{"a": 1}', b"\xff"]))
            headers = [(b"host", b"localhost"), (b"x-amz-target", f"Logs_20140328.{name}".encode())]
            headers.append((b"content-length", str(len(body)).encode()))
            operation = MODEL.operations.get(name, MODEL.operations["FilterLogEvents"])
            status, answer, said = await ask(api, Asked(operation, "/", b"", headers, body))
            assert status < 500, (name, said)
            assert rooms.faults.events == [], name
            if name in MODEL.operations:
                assert faults_of_logs(BOTOCORE.operation_model(name), status, answer, said) == [], (name, body, said)
            answered[f"{name} {status // 100}xx"] += 1
        await kept.close()


def test_no_request_gets_a_fault_or_an_answer_that_the_model_does_not_have() -> None:
    answered: Counter[str] = Counter()

    @settings(max_examples=(settings.default or settings()).max_examples // 3)
    @given(st.lists(requests(), min_size=8, max_size=8))
    def check(asked: list[tuple[str, bytes]]) -> None:
        asyncio.run(hold(asked, answered))

    check()
    # It would hold nothing if all that is asked were refused at the door.
    assert sum(count for key, count in answered.items() if key.endswith(" 2xx")) >= 10
