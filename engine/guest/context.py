"""The context object that a handler gets, with the attributes of AWS's.

Source: docs.aws.amazon.com/lambda/latest/dg/python-context.html, awslambdaric/lambda_context.py.
"""

from __future__ import annotations

import sys
import time

from . import errors, marshal
from .answer import Answer, ResponseStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class _Record:
    """An object with a fixed list of attributes, each None where nothing was given."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, values: Mapping[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{','.join(f'{name}={getattr(self, name)}' for name in self.__slots__)}])"


class CognitoIdentity(_Record):
    """Who called, where a mobile SDK did."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(_Record):
    """The application that called, as a mobile SDK describes it."""

    __slots__ = ("app_package_name", "app_title", "app_version_code", "app_version_name", "installation_id")


class ClientContext(_Record):
    """What the caller sent as ClientContext."""

    __slots__ = ("client", "custom", "env")

    client: Client | None
    custom: Any
    env: Any


class LambdaContext:
    """One invocation, as its handler sees it. Handlers may add attributes of their own."""

    __slots__ = ("__dict__", "__weakref__", "_answer", "_response_stream")  # vars() shows what AWS's shows

    def __init__(self, spec: Mapping[str, Any], meta: Mapping[str, Any], deadline_ms: int, answer: Answer) -> None:
        """`deadline_ms` is milliseconds since the epoch. Raises Fault where the client context is not a JSON object."""
        self.aws_request_id: str = meta["request_id"]
        self.log_group_name: str | None = spec.get("log_group_name")
        self.log_stream_name: str | None = spec.get("log_stream_name")
        self.function_name: str | None = spec.get("function_name")
        self.memory_limit_in_mb = str(spec.get("memory_mb", ""))
        self.function_version: str | None = spec.get("function_version")
        self.invoked_function_arn: str | None = meta.get("function_arn")
        self.tenant_id: str | None = meta.get("tenant_id")
        self.client_context = _client_context(meta.get("client_context"))
        self.identity = _identity(meta.get("identity"))
        self._epoch_deadline_time_in_ms = deadline_ms
        self._answer = answer
        self._response_stream: ResponseStream | None = None

    @property
    def response_stream(self) -> ResponseStream:
        """A binary file for the answer, as Node's runtime has it: what is written leaves at once. Once it was written
        to or closed, what the handler returns is not looked at."""
        if self._response_stream is None:
            self._response_stream = ResponseStream(self._answer)
        return self._response_stream

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is stopped, never negative."""
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def log(self, message: object) -> None:
        """Write to the log as it is, without a line end of its own."""
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        shown = ",".join(f"{name}={value}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}([{shown}])"


def _client_context(text: str | None) -> ClientContext | None:
    values = _object(text, "Client Context")
    if values is None:
        return None
    made = ClientContext(values)
    if isinstance(values.get("client"), dict):
        made.client = Client(values["client"])
    return made


def _identity(text: str | Mapping[str, Any] | None) -> CognitoIdentity:
    values = _object(text, "Cognito Identity") or {}
    return CognitoIdentity(
        {
            "cognito_identity_id": values.get("cognitoIdentityId"),
            "cognito_identity_pool_id": values.get("cognitoIdentityPoolId"),
        }
    )


def _object(text: str | Mapping[str, Any] | None, what: str) -> Mapping[str, Any] | None:
    if not text:
        return None
    values: Any = text
    if isinstance(text, str):
        try:
            values = marshal.decode(text.encode())
        except (ValueError, RecursionError) as error:
            raise errors.Fault(errors.CONTEXT_UNMARSHAL_ERROR, f"Unable to parse {what} JSON: {error}") from None
    if values is not None and not isinstance(values, dict):
        raise errors.Fault(errors.CONTEXT_UNMARSHAL_ERROR, f"Unable to parse {what} JSON: it is not an object")
    return values
