"""Every error of the engine is a google.rpc.Status with what its receiver needs."""

from __future__ import annotations

import base64
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2

from engine import errors
from engine.errors import EngineError, InvalidArgument, SandboxFault, Throttled
from engine.rpc.status import status_of
from tests.unit.rpc.things import code, detail, fields, info


def _classes() -> list[type[EngineError]]:
    return [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, EngineError)]


def _make(cls: type[EngineError], fix: str) -> EngineError:
    if issubclass(cls, Throttled):
        return cls("it failed", throttle_reason="ConcurrentInvocationLimitExceeded", retry_after_ms=1_500, fix=fix)
    if issubclass(cls, SandboxFault):
        return cls("clone3", 12, "Cannot allocate memory", fix=fix)
    return cls("it failed", fix=fix)


@pytest.mark.parametrize("fix", ["do this", ""])
@pytest.mark.parametrize("cls", _classes())
def test_each_error_says_its_code_reason_and_fix(cls: type[EngineError], fix: str) -> None:
    status = status_of(_make(cls, fix))
    assert code(status) == cls.grpc_code
    assert info(status).reason == cls.reason
    assert fix in info(status).metadata["fix"]
    quota = detail(status, error_details_pb2.QuotaFailure)
    assert (quota is not None) == (cls.grpc_code == "RESOURCE_EXHAUSTED")
    assert (detail(status, error_details_pb2.RetryInfo) is not None) == issubclass(cls, Throttled)
    assert not fields(status)


def test_a_throttle_says_which_limit_and_when_to_come_back() -> None:
    status = status_of(
        Throttled(
            "Rate Exceeded.", throttle_reason="ReservedFunctionConcurrentInvocationLimitExceeded", retry_after_ms=1_500
        )
    )
    retry = detail(status, error_details_pb2.RetryInfo)
    quota = detail(status, error_details_pb2.QuotaFailure)
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 1_500
    assert quota is not None
    assert [(v.subject, v.description) for v in quota.violations] == [
        ("ReservedFunctionConcurrentInvocationLimitExceeded", "Rate Exceeded.")
    ]
    assert info(status).metadata["throttle_reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert status.message == "Rate Exceeded; wait a moment and try again"


def test_every_wrong_field_is_named() -> None:
    wrong = {"config.memory_mb": "must be 128 to 10,240", "config.handler": "must be set"}
    assert fields(status_of(InvalidArgument("two fields", fields=wrong))) == wrong


def test_the_metadata_of_an_error_are_kept_and_cannot_replace_the_fix() -> None:
    error = EngineError("it failed", fix="do this", metadata={"stage": "clone3", "fix": "do that"})
    metadata = info(status_of(error, fault_id="f-1")).metadata
    assert dict(metadata) == {"fix": "do this", "stage": "clone3", "fault_id": "f-1"}


@pytest.mark.parametrize("letter", ["x", "ü", "🦆", "\ud800"])
def test_however_long_an_error_is_it_fits_in_the_trailers_of_a_client(letter: str) -> None:
    long = letter * 20_000
    many = {f"{number}{long}": long for number in range(100)}
    for error in (
        InvalidArgument(long, fix=long, metadata=many, fields=many),
        InvalidArgument("short", fix="short", fields=many),
        Throttled(long, throttle_reason=long, retry_after_ms=10**9, fix=long, metadata=many),
    ):
        status = status_of(error, fault_id="f" * 32)
        assert info(status).metadata["fix"]
        assert len(quote(status.message)) + len(base64.b64encode(status.SerializeToString())) < 8_192 - 500
        if error.message == "short":
            assert fields(status)


def test_every_code_that_an_error_can_have_is_one_of_grpc() -> None:
    assert {cls.grpc_code for cls in _classes()} <= {status.name for status in grpc.StatusCode}
