"""The functions under examples/ do here what they say, with the packages that they require in their code."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

import engine
from engine.model.outcome import StartKind
from tests.bundles import EXAMPLES, bundle
from tests.engines import Engine
from tests.engines import engine as an_engine

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


class Deployed:
    """An engine, and a client of it that deploys examples as `cleave deploy` does."""

    def __init__(self, running: Engine, client: engine.AsyncClient, folder: Path) -> None:
        self.running = running
        self.client = client
        self._folder = folder
        self._bundles: dict[str, Path] = {}

    async def deploy(self, example: str, name: str = "", **options: Any) -> str:
        """Deploy an example and the packages that it requires."""
        if example not in self._bundles:
            self._bundles[example] = bundle(example, self._folder / example)
        name = name or example
        await self.client.deploy(self._bundles[example], name, timeout_ms=60_000, **options)
        return name

    async def lines(self, name: str, request_id: str) -> list[dict[str, Any]]:
        """The lines of an invocation's log that are JSON, once all of it is there."""
        texts: list[bytes] = []
        while not any(text.startswith(b"REPORT") for text in texts):  # written a moment after the answer
            texts = [line.text async for line in self.client.logs(name, request_id=request_id)]
        return [json.loads(text) for text in texts if text.startswith(b"{")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def examples(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployed]:
    folder = tmp_path_factory.mktemp("examples")
    async with an_engine(folder / "data", init_timeout_ms=60_000) as running:  # of a machine that is busy
        async with engine.AsyncClient(f"127.0.0.1:{running.service.grpc_port}") as client:
            yield Deployed(running, client, folder)


# A web app: FastAPI behind Mangum


async def test_a_web_app_answers_as_its_framework_does_by_the_api_of_aws(examples: Deployed) -> None:
    name = await examples.deploy("web", memory_mb=512)
    example: dict[str, Any] = json.loads((EXAMPLES / "web" / "event.json").read_bytes())

    async def request(method: str, path: str, body: str = "") -> tuple[int, Any, str]:
        event = example | {"rawPath": path, "body": body}
        event["requestContext"] = {**example["requestContext"], "http": {**HTTP, "method": method, "path": path}}
        answer = await examples.running.http.invoke(name, json.dumps(event).encode())
        assert not answer.failed, answer.payload
        response = answer.json()
        assert response["headers"]["content-type"] == "application/json"
        return response["statusCode"], json.loads(response["body"]), answer.request_id

    assert (await request("POST", "/notes", example["body"]))[:2] == (201, {"number": 1})
    assert (await request("GET", "/notes/1"))[:2] == (200, {"text": "water the plants", "tags": ["home"]})
    assert (await request("GET", "/notes/7"))[:2] == (404, {"detail": "there is no note 7"})
    status, refused, _ = await request("POST", "/notes", '{"text": ""}')
    assert (status, refused["detail"][0]["loc"]) == (422, ["body", "text"])
    status, found, request_id = await request("GET", "/whoami")
    assert (status, found) == (200, {"request_id": request_id})
    assert set((await request("GET", "/openapi.json"))[1]["paths"]) == {"/notes", "/notes/{number}", "/whoami"}


HTTP = {"protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test"}


# Images: Pillow


def picture(size: tuple[int, int], form: str, **options: Any) -> bytes:
    """An image that is red on the left and blue on the right."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    made = io.BytesIO()
    image.save(made, form, **options)
    return made.getvalue()


async def test_a_thumbnail_has_the_size_and_the_colours_it_should(examples: Deployed) -> None:
    name = await examples.deploy("thumbnails", memory_mb=1_024)

    raw = await examples.client.invoke(name, picture((1_600, 900), "PNG"), raw=True)
    with Image.open(io.BytesIO(raw.payload)) as small:
        assert (small.format, small.size) == ("JPEG", (320, 180))
        assert [_colour(small.getpixel((x, 90))) for x in (10, 310)] == ["red", "blue"]

    on_its_side = Image.Exif()
    on_its_side[0x0112] = 6  # orientation: turn by 90° to see it upright
    event = {"image": base64.b64encode(picture((800, 400), "JPEG", exif=on_its_side)).decode(), "width": 100}
    found = (await examples.client.invoke(name, event)).value
    assert (found["width"], found["height"]) == (100, 200)
    with Image.open(io.BytesIO(base64.b64decode(found["image"]))) as small:
        assert small.size == (100, 200)
        assert [_colour(small.getpixel((50, y))) for y in (10, 190)] == ["red", "blue"]
        assert not small.getexif()

    with pytest.raises(engine.FunctionFailed, match="cannot identify image file"):
        await examples.client.invoke(name, b"no image", raw=True)


def _colour(pixel: Any) -> str:
    red, _, blue = pixel
    return "red" if red > 200 > 50 > blue else "blue" if blue > 200 > 50 > red else str(pixel)


# A report: pandas


async def test_a_report_adds_up_what_the_csv_has(examples: Deployed) -> None:
    name = await examples.deploy("report", memory_mb=1_024)
    sales = (EXAMPLES / "report" / "sales.csv").read_text()
    cold = await examples.client.invoke(name, {"csv": sales})
    north, south = {"2026-01": 19.75, "2026-02": 5.0}, {"2026-01": 30.0, "2026-02": 10.0}
    assert cold.value == {"rows": 6, "total": 64.75, "report": {"north": north, "south": south}}
    warm = await examples.client.invoke(name, sales.encode(), raw=True)
    assert warm.report.start_kind is StartKind.WARM
    assert warm.payload.decode() == "region,2026-01,2026-02\nnorth,19.75,5.00\nsouth,30.00,10.00\n"
    with pytest.raises(engine.FunctionFailed, match="amount"):
        await examples.client.invoke(name, {"csv": "day,region\n2026-01-01,north\n"})


# Tokens: the standard library


async def test_tokens_are_with_the_client_while_more_are_made_and_none_is_made_for_nobody(examples: Deployed) -> None:
    name = await examples.deploy("tokens", memory_mb=256)
    endless = {"prompt": "a lazy dog", "max_tokens": 1_000_000, "delay_ms": 20}  # five hours and a half
    received = b""
    async with examples.client.invoke_stream(name, endless) as stream:
        while received.count(b"\n\n") < 3:
            received += await anext(stream)
    assert all(b'data: {"token": "' in event for event in received.split(b"\n\n")[:3])
    while (await examples.running.grpc.counts()).concurrency:  # it is being stopped
        await asyncio.sleep(0.01)


async def test_a_stream_of_tokens_is_whole_by_every_way(examples: Deployed) -> None:
    name = await examples.deploy("tokens", memory_mb=256)
    event = {"prompt": "a lazy dog", "max_tokens": 20, "delay_ms": 0}
    async with examples.client.invoke_stream(name, event) as stream:
        streamed = await stream.read()
    assert (await examples.client.invoke(name, event)).payload == streamed, "put together for who does not stream"

    def by_http() -> bytes:
        client = examples.running.http.client
        answer = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event))
        return b"".join(part["PayloadChunk"]["Payload"] for part in answer["EventStream"] if "PayloadChunk" in part)

    assert await asyncio.to_thread(by_http) == streamed
    *tokens, usage, done, rest = streamed.decode().split("\n\n")
    assert {json.loads(token.removeprefix("data: "))["token"].strip() for token in tokens} == {"a", "lazy", "dog"}
    assert usage == 'data: {"usage": {"prompt_tokens": 3, "completion_tokens": 20}}'
    assert (len(tokens), done, rest) == (20, "data: [DONE]", "")


# A zip of 200 files: the standard library


async def test_a_zip_of_many_files_is_the_same_returned_and_streamed(examples: Deployed) -> None:
    name = await examples.deploy("archive", memory_mb=512)
    returned = (await examples.client.invoke(name, b"", raw=True)).payload
    async with examples.client.invoke_stream(name, b"stream", raw=True) as stream:
        chunks = [chunk async for chunk in stream]
    assert stream.report.start_kind is StartKind.WARM
    for data in (returned, b"".join(chunks)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.namelist() == [f"files/line-{number:03}.txt" for number in range(200)]
            assert archive.testzip() is None
            assert archive.read("files/line-199.txt") == b"This is file 199.\n" * 200
    assert len(chunks) > 1, "it left while it was made"


# AWS Lambda Powertools


def metrics_of(lines: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The metrics of a log in CloudWatch's embedded format."""
    found: dict[str, list[float]] = {}
    for line in lines:
        for group in line.get("_aws", {}).get("CloudWatchMetrics", []):
            assert group["Namespace"] == "Shop"
            found |= {metric["Name"]: line[metric["Name"]] for metric in group["Metrics"]}
    return found


async def test_an_order_is_taken_once_and_logged_with_its_request(examples: Deployed) -> None:
    name = await examples.deploy("powertools", "orders", handler="app.orders", memory_mb=512)
    order = {"order_id": "o-1", "sku": "tea", "quantity": 2}
    first, again = [(await examples.client.invoke(name, order)) for _ in range(2)]
    ids = [first.report.request_id, again.report.request_id]
    assert first.value == {"order_id": "o-1", "number": 1, "request_id": ids[0]}
    assert again.value == {"order_id": "o-1", "number": 1, "request_id": ids[1]}

    lines = await examples.lines(name, ids[0])
    (line,) = [line for line in lines if "message" in line]
    assert (line["message"], line["order_id"], line["level"]) == ("order taken", "o-1", "INFO")
    assert (line["function_request_id"], line["function_name"]) == (ids[0], name)
    assert (line["function_memory_size"], line["cold_start"]) == ("512", True)
    assert metrics_of(lines) == {"OrdersReceived": [1.0]}
    lines = await examples.lines(name, ids[1])
    assert metrics_of(lines) == {"OrdersReceived": [1.0]}
    assert not [line for line in lines if line.get("message") == "order taken"], "it was not taken again"

    assert (await examples.client.invoke(name, order | {"order_id": "o-2"})).value["number"] == 2
    with pytest.raises(engine.FunctionFailed) as failed:
        await examples.client.invoke(name, order | {"quantity": 0})
    assert failed.value.type == "SchemaValidationError"
    assert "quantity" in failed.value.message


async def test_a_batch_returns_the_messages_that_failed_and_only_them(examples: Deployed) -> None:
    name = await examples.deploy("powertools", "queue", handler="app.queue", memory_mb=512)
    bodies = ['{"order_id": "b-1", "sku": "tea", "quantity": 1}', '{"order_id": "b-2"}', "no json"]
    bodies += [bodies[0], '{"order_id": "b-3", "sku": "tea", "quantity": 3}']
    event = {"Records": [record(f"m-{number}", body) for number, body in enumerate(bodies)]}
    result = await examples.client.invoke(name, event)
    assert result.value == {"batchItemFailures": [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-2"}]}
    lines = await examples.lines(name, result.report.request_id)
    assert [line["order_id"] for line in lines if line.get("message") == "order taken"] == ["b-1", "b-3"]
    assert [line["message_id"] for line in lines if line.get("message") == "order refused"] == ["m-1"]
    assert metrics_of(lines) == {"MessagesRead": [1.0] * 5, "OrdersReceived": [1.0] * 3}


def record(message_id: str, body: str) -> dict[str, Any]:
    """A message as SQS hands it to Lambda."""
    return {
        "messageId": message_id,
        "receiptHandle": "handle",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1", "SenderId": "id"},
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:orders",
        "awsRegion": "us-east-1",
    }
