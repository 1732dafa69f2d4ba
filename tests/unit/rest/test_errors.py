"""What an error is to AWS's clients."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from engine import errors
from engine.errors import EngineError, SandboxFault, Throttled
from engine.rest.constraints import ValidationFailed
from engine.rest.errors import ErrorDocuments, MethodNotAllowed, UnsupportedMedia
from engine.rest.model import load_model
from engine.rest.shapes import SerializationError

MODEL = load_model()
DOCUMENTS = ErrorDocuments(MODEL)
OF_THE_FRONT = (UnsupportedMedia, ValidationFailed, SerializationError)


def plain() -> Iterator[type[EngineError]]:
    """Every error that is made of a message and a fix."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, EngineError) and not issubclass(kind, (Throttled, SandboxFault)):
            yield kind
    yield from OF_THE_FRONT


@pytest.mark.parametrize("kind", list(plain()), ids=lambda kind: kind.__name__)
def test_every_error_has_its_status_its_type_and_the_models_document(kind: type[EngineError]) -> None:
    response = DOCUMENTS.response(kind("It failed.", fix="do this"))
    # What is not served is a bad request to clients, which take a status of 500 and more for a failure.
    as_sent = errors.InvalidArgument if kind is errors.NotServed else kind
    assert response.status == as_sent.http_status
    assert ("x-amzn-errortype", as_sent.aws_type) in response.headers
    document = orjson.loads(response.body)
    if as_sent.aws_type in MODEL.errors:
        assert document.pop("Type") == ("User" if as_sent.http_status < 500 else "Service")
        assert set(document) <= set(MODEL.shapes[as_sent.aws_type].members)
    ((member, text),) = document.items()
    assert member in ("message", "Message")
    assert text in ("It failed; do this", "It failed.")


def test_aws_own_texts_are_left_alone_and_the_others_say_what_to_do() -> None:
    missing = orjson.loads(DOCUMENTS.response(errors.NotFound("Function not found: f", fix="look")).body)
    assert missing["Message"] == "Function not found: f"
    fault = orjson.loads(DOCUMENTS.response(SandboxFault("mount", 1, "no")).body)
    assert fault["Message"] == "mount: no; see `cleave doctor`"


@pytest.mark.parametrize(("retry_after_ms", "header"), [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")])
def test_a_throttle_is_in_whole_seconds_and_never_none(retry_after_ms: int, header: str) -> None:
    throttled = Throttled("full", throttle_reason="ConcurrentInvocationLimitExceeded", retry_after_ms=retry_after_ms)
    response = DOCUMENTS.response(throttled)
    assert ("retry-after", header) in response.headers
    assert orjson.loads(response.body)["message"] == "Rate Exceeded."


def test_a_wrong_method_names_the_right_ones() -> None:
    response = DOCUMENTS.response(MethodNotAllowed("no", allowed=("GET", "POST")))
    assert ("allow", "GET, POST") in response.headers
