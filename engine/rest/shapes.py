"""Reads a request's parameters and writes a response by the model's shapes: the rest-json protocol, from the server's
side (https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html).

What a single value may be is engine.rest.constraints' matter. Guarantees that what an operation gets has every required
member, only members that the model knows and only values of the model's types, and that everything wrong with a request
is said at once, but for a value of another type: as on AWS, it is refused by itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from engine.errors import InvalidArgument
from engine.rest.constraints import ValidationFailed, aws_path, constraints, problem, refusal, violations
from engine.rest.messages import Request, Response
from engine.rest.model import Member, Operation, Shape
from engine.rest.routes import Match
from engine.rest.timestamps import parse_timestamp

Params = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float, str),
    "blob": (str,),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}
_WIDTHS = {"integer": 31, "long": 63}
_NAMES = {"string": "a String", "integer": "an Integer", "long": "a Long", "double": "a Double", "boolean": "a Boolean"}


class SerializationError(InvalidArgument):
    """A body that is no JSON, or has a value of another type than the model's."""

    aws_type = "SerializationException"
    reason = "SERIALIZATION"


def read_params(match: Match, request: Request, body: bytes) -> Params:
    """The members of an operation's input. Raises ValidationFailed with all that is wrong, SerializationError for a
    body that is no JSON of the model's types."""
    shape = match.route.operation.input
    raw: Params = {}
    if not shape.payload:
        raw = _document(body, shape)
    for name, member in shape.elsewhere:
        value = _located(member, match, request)
        if value is not None:
            raw[name] = value
    reader = _Reader()
    params = reader.structure(shape, raw, "")
    if shape.payload and (body or shape.payload in shape.required):
        params[shape.payload] = reader.payload(shape.members[shape.payload].shape, body, aws_path(shape.payload))
    if reader.problems:
        raise _refused(reader.problems)
    return params


def read_document(shape: Shape, body: bytes) -> Params:
    """The members of an input that is one JSON document. Raises InvalidArgument with all that is wrong, and
    SerializationError."""
    reader = _Reader()
    params = reader.structure(shape, _document(body, shape), "")
    if reader.problems:
        raise refusal(reader.problems)
    return params


def _refused(problems: list[tuple[str, str]]) -> InvalidArgument:
    """A runtime that is none is refused by itself, when the model has no more to say: AWS's code does it."""
    others = [one for one in problems if one[0] != "runtime"]
    if others:
        return refusal(others, ValidationFailed)
    return InvalidArgument(f"{problems[0][1].replace(chr(39), '', 2)} or be a valid ARN", fields=dict(problems))


def write_response(operation: Operation, result: Mapping[str, Any]) -> Response:
    """The answer for an operation's result, by members of its output."""
    status = operation.status
    shape = operation.output
    if shape is None:
        return Response(status, [], b"")
    headers: list[tuple[str, str]] = []
    document: dict[str, Any] = {}
    payload: bytes | None = None
    for name, value in result.items():
        member = shape.members[name]
        match member.place:
            case "status":
                status = value
            case "header":
                headers.append((member.wire.lower(), str(value)))
            case _ if name == shape.payload:
                payload = value if member.shape.kind == "blob" else orjson.dumps(_written(member.shape, value))
            case _:
                document[member.wire] = _written(member.shape, value)
    if status == 204:
        return Response(status, headers)
    body = payload or b"" if shape.payload else orjson.dumps(document)
    return Response(status, [("content-type", "application/json"), *headers], body)


def _document(body: bytes, shape: Shape) -> Params:
    """The members that are in a JSON body."""
    if not body:
        return {}
    document = _loads(body)
    if not isinstance(document, dict):
        raise SerializationError("Unexpected field type", fix="send a JSON object")
    elsewhere = {name for name, _ in shape.elsewhere}
    read: Params = {}
    for key, value in document.items():
        if value is not None and key not in elsewhere:
            read[shape.by_wire.get(key) or key] = value
    return read


def _located(member: Member, match: Match, request: Request) -> Any:
    """The value of a member that is in the path, the query or the headers; None if it is not there."""
    match member.place:
        case "path":
            return match.labels.get(member.wire)
        case "query":
            if not request.query_string:
                return None
            values = [value for key, value in request.query() if key == member.wire]
            if member.shape.kind == "list":
                return values or None
            return values[-1] if values else None
        case _:
            return request.header(member.wire)


class _Reader:
    """Goes through shapes and values together, and collects what is wrong."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def structure(self, shape: Shape, raw: Params, path: str) -> Params:
        """Members by name. Those outside of a document are text that stands for their type."""
        read: Params = {}
        for name, value in raw.items():
            member = shape.members.get(name)
            where = _join(path, name)
            if member is None:
                if not is_empty(value):
                    self._report(None, where, "…", "Member must be one that this endpoint's API model knows")
                continue
            if member.place:
                value = _from_text(member.shape, value)
            read[name] = self.value(member.shape, value, where)
        for name in shape.required:
            if name not in raw and name != shape.payload:
                self._report(shape.members[name].shape, _join(path, name), None, "Member must not be null")
        return read

    def value(self, shape: Shape, raw: Any, path: str) -> Any:
        """One value; None stands for what could not be read. Raises SerializationError for one of another type."""
        _check_type(shape, raw, path)
        if shape.kind == "blob":
            raw = _blob(raw, path)
        found = violations(shape, raw)
        for constraint in found:
            self._report(shape, path, raw, constraint)
        if found:
            return None
        if shape.is_structure:
            return self.structure(shape, {name: value for name, value in raw.items() if value is not None}, path)
        if shape.member is not None:
            return self._list(shape, shape.member, raw, path)
        if shape.key is not None and shape.value is not None:
            return self._map(shape, shape.key, shape.value, raw, path)
        if shape.kind == "timestamp":
            return _timestamp(raw, path)
        return raw

    def payload(self, shape: Shape, body: bytes, path: str) -> Any:
        """A member that is the whole body."""
        if shape.kind == "blob":
            return body
        return self.value(shape, _loads(body), path)

    def _list(self, shape: Shape, member: Shape, raw: list[Any], path: str) -> list[Any]:
        if member.is_structure:
            return [self.value(member, item, f"{path}.{n}.member") for n, item in enumerate(raw, 1)]
        for item in raw:
            _check_type(member, item, path)
        if any(violations(member, item) for item in raw):
            said = ", ".join([*constraints(member), "Member must not be null"])
            self._report(shape, path, raw, f"Member must satisfy constraint: [{said}]")
        return raw

    def _map(self, shape: Shape, key: Shape, value: Shape, raw: Params, path: str) -> Params:
        if any(violations(key, name) for name in raw):
            said = ", ".join(constraints(key))
            self._report(shape, path, raw, f"Map keys must satisfy constraint: [{said}]")
        if value.is_structure or value.member is not None:
            return {name: self.value(value, inner, f"{path}.{name}.member") for name, inner in raw.items()}
        for inner in raw.values():
            _check_type(value, inner, path)
        if any(violations(value, inner) for inner in raw.values()):
            said = ", ".join([*constraints(value), "Member must not be null"])
            self._report(shape, path, raw, f"Map value must satisfy constraint: [{said}]")
        return raw

    def _report(self, shape: Shape | None, path: str, value: Any, constraint: str) -> None:
        self.problems.append((path, problem(shape, path, value, constraint)))


def is_empty(value: Any, depth: int = 8) -> bool:
    """Whether a value says nothing: as if its member were not there. What is nested deeper says something."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(is_empty(item, depth - 1) for item in inner)
    return value is None or value is False or value == ""


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SerializationError(f"Could not parse request body into json: {error}") from None


def _from_text(shape: Shape, value: Any) -> Any:
    """What a label, a header or a query's value stands for; the text itself where it stands for nothing."""
    if isinstance(value, list):
        return [_from_text(shape.member, item) for item in value] if shape.member else value
    try:
        match shape.kind:
            case "integer" | "long":
                return int(value) if value.lstrip("-").isdecimal() and value.isascii() else value
            case "double":
                return float(value)
            case "boolean":
                return {"true": True, "false": False}.get(value.lower(), value)
            case _:
                return value
    except ValueError:
        return value


def _check_type(shape: Shape, value: Any, path: str) -> None:
    """Raise SerializationError, in AWS's words, for a value of another type."""
    accepted = _TYPES[shape.kind]
    # To Python, true is an integer.
    if isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool)):
        width = _WIDTHS.get(shape.kind, 0)
        if not width or (isinstance(value, int) and -(1 << width) <= value < 1 << width):
            return
    if isinstance(value, list):
        said = "Start of list found where not expected"
    elif isinstance(value, dict):
        said = "Start of structure or map found where not expected."
    elif (name := _NAMES.get(shape.kind)) is not None:
        said = f"{_token(value)} can not be converted to {name}"
    else:
        said = "Unexpected field type"
    raise SerializationError(said, fields={path: f"must be a {shape.kind}"})


def _token(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    if value is None:
        return "NULL_VALUE"
    return "STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE"


def _blob(raw: str, path: str) -> bytes:
    try:
        return base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        raise SerializationError("Invalid Base64 data", fields={path: "must be Base64"}) from None


def _timestamp(raw: Any, path: str) -> datetime:
    try:
        return parse_timestamp(raw)
    except (ValueError, OverflowError, OSError):
        raise SerializationError("Unparseable date", fields={path: "must be a timestamp"}) from None


def _written(shape: Shape, value: Any) -> Any:
    """A value as it is in a JSON document."""
    if shape.is_structure:
        members = shape.members
        return {members[name].wire: _written(members[name].shape, inner) for name, inner in value.items()}
    if shape.member is not None:
        return [_written(shape.member, item) for item in value]
    if shape.value is not None:
        return {key: _written(shape.value, inner) for key, inner in value.items()}
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{aws_path(name)}" if path else aws_path(name)
