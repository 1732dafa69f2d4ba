"""What an error is to AWS's clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from engine import errors
from engine.errors import EngineError, SandboxFault, Throttled
from engine.rest.errors import ErrorDocuments, MethodNotAllowed, UnknownOperation, UnsupportedMedia
from engine.rest.routes import load_model

MODEL = load_model()
DOCUMENTS = ErrorDocuments(MODEL)
OF_THE_FRONT = (UnknownOperation, UnsupportedMedia)
# Not in the model of Lambda: AWS's gateways in front of it answer with these.
UNMODELLED = {"AccessDeniedException", "UnknownOperationException"}


def plain() -> Iterator[type[EngineError]]:
    """Every error that is made of a message and a fix."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, EngineError) and kind not in (Throttled, SandboxFault):
            yield kind
    yield from OF_THE_FRONT


@pytest.mark.parametrize("kind", list(plain()), ids=lambda kind: kind.__name__)
def test_every_error_has_its_status_its_type_and_the_models_document(kind: type[EngineError]) -> None:
    response = DOCUMENTS.response(kind("It failed.", fix="do this"))
    assert response.status == kind.http_status
    assert ("x-amzn-errortype", kind.aws_type) in response.headers
    document = orjson.loads(response.body)
    assert document.pop("Type") == ("User" if kind.http_status < 500 else "Service")
    (member, text), *others = document.items()
    assert not others
    assert text in ("It failed; do this", "It failed.")
    if kind.aws_type not in UNMODELLED:
        shape: Any = MODEL.shape_for(kind.aws_type)
        assert member in shape.members


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
