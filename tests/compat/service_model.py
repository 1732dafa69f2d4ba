"""botocore's own service models of AWS Lambda and CloudWatch Logs, and what they say of an answer: every answer that a
client of these tests gets is held to them. Nothing here reads the engine's copies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel

MODEL = ServiceModel(Loader().load_service_model("lambda", "service-2", "2015-03-31"), "lambda")

LOGS_MODEL = ServiceModel(Loader().load_service_model("logs", "service-2", "2014-03-28"), "logs")

OF_EVERY_OPERATION = {
    "AccessDeniedException": 403,
    "RequestEntityTooLargeException": 413,
    "SerializationException": 400,
    "UnsupportedMediaTypeException": 415,
    "ValidationException": 400,
}
"""What AWS answers any operation with, and models for none: docs.aws.amazon.com/lambda/latest/api/CommonErrors.html."""

NOT_SERVED = ("GetAccountSettings", "InvokeAsync")
"""They model no error for a request that is refused for what it asks."""

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "blob": (str,),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


def faults(operation: OperationModel, status: int, headers: dict[str, str], body: bytes) -> list[str]:
    """What of an answer the model does not allow: nothing, or sentences."""
    if status >= 300:
        return list(_refusal(operation, status, headers, body))
    found = [] if "x-amzn-requestid" in headers else ["no request id"]
    shape: Any = operation.output_shape
    if operation.name in ("Invoke", "InvokeWithResponseStream"):
        return found  # their answers are the function's
    members = shape.members.values() if shape is not None else ()
    has_own = any(member.serialization.get("location") == "statusCode" for member in members)
    if status != operation.http["responseCode"] and not has_own:
        found.append(f"status {status}")
    if shape is None or status == 204:
        return found + (["a body"] if body else [])
    if "payload" in shape.serialization:
        return found
    document = orjson.loads(body)
    if operation.name == "GetFunctionCodeSigningConfig" and not document:
        return found  # AWS's answer for a function that has none, whatever the model requires
    return found + list(_unfit(shape, document, ""))


def faults_of_logs(operation: OperationModel, status: int, headers: dict[str, str], body: bytes) -> list[str]:
    """The same for CloudWatch Logs, whose protocol has the error's type in its document."""
    found = [] if "x-amzn-requestid" in headers else ["no request id"]
    if headers.get("content-type") != "application/x-amz-json-1.1":
        found.append("another content type")
    shape: Any = operation.output_shape
    if status == 200:
        if shape is None:
            return found + (["a body"] if body else [])
        document = orjson.loads(body)
        if document.get("tags") == {}:
            return found  # AWS's answer for what has none, whatever the model requires
        return found + list(_unfit(shape, document, ""))
    document = orjson.loads(body)
    kind = document.get("__type")
    known = {one.name for one in operation.error_shapes} | {"InvalidParameterException", "SerializationException"}
    if kind not in known or status != 400:
        found.append(f"{operation.name} does not know {kind} with status {status}")
    return found if document.get("message") else [*found, "no message"]


def _refusal(operation: OperationModel, status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    kind = headers.get("x-amzn-errortype", "")
    document = orjson.loads(body)
    modelled = {shape.name: shape for shape in operation.error_shapes}
    if kind in modelled:
        shape: Any = modelled[kind]
        yield from _unfit(shape, document, "")
        if status != shape.metadata["error"]["httpStatusCode"] and status < 500:
            yield f"{kind} with status {status}"
    elif kind == "InvalidParameterValueException" and operation.name in NOT_SERVED:
        pass
    elif OF_EVERY_OPERATION.get(kind) != status:
        yield f"{operation.name} does not know {kind} with status {status}"
    if not (document.get("message") or document.get("Message")):
        yield "no message"


def _unfit(shape: Any, value: Any, path: str) -> Iterator[str]:
    accepted = _TYPES[shape.type_name]
    fits: bool = isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))
    if not fits:
        yield f"{path} is {value!r}: no {shape.type_name}"
        return
    yield from (f"{path} is {value!r}: {what}" for what in _violations(shape, value))
    if shape.type_name == "structure":
        wire = {one.serialization.get("name", name): one for name, one in shape.members.items()}
        for name, inner in value.items():
            if name not in wire:
                yield f"{path}.{name} is no member of {shape.name}"
            else:
                yield from _unfit(wire[name], inner, f"{path}.{name}")
        yield from (f"{path}.{name} is missing" for name in shape.required_members if name not in value)
    elif shape.type_name == "list":
        for item in value:
            yield from _unfit(shape.member, item, f"{path}[]")
    elif shape.type_name == "map":
        for name, inner in value.items():
            yield from _unfit(shape.key, name, f"{path}<{name}>")
            yield from _unfit(shape.value, inner, f"{path}[{name}]")


def _violations(shape: Any, value: Any) -> Iterator[str]:
    rules = shape.metadata
    if "enum" in rules and value not in rules["enum"]:
        yield "not in the enum"
    size = value if isinstance(value, int | float) else len(value)
    if shape.type_name != "timestamp" and not rules.get("min", size) <= size <= rules.get("max", size):
        yield "out of range"
    pattern = rules.get("pattern", "")
    if pattern and "\\p{" not in pattern and not re.fullmatch(pattern, value):
        yield f"does not fit {pattern}"
