"""Reads a request's parameters and writes a response by botocore's shapes: the rest-json protocol, from the server's
side (https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html).

What a single value may be is engine.rest.constraints' matter. Guarantees that what an operation gets has every required
member, only members that the model knows and only values of the model's types, and that everything wrong with a request
is said at once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.utils import parse_timestamp

from engine.errors import InvalidPayload
from engine.rest.constraints import aws_path, problem, refusal, violations
from engine.rest.messages import Request, Response
from engine.rest.routes import Match

Params = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float, str),
    "blob": (str,),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


def read_params(match: Match, request: Request, body: bytes) -> Params:
    """The members of an operation's input. Raises InvalidArgument with all that is wrong, InvalidPayload for a body
    that is not a JSON object."""
    shape = match.route.operation.input_shape
    if not isinstance(shape, StructureShape):
        return {}
    raw: Params = {}
    payload = shape.serialization.get("payload")
    if payload is None:
        raw.update(_document(body, shape))
    reader = _Reader()
    for name, member in shape.members.items():
        value = _located(name, member, match, request)
        if value is not None:
            raw[name] = value
    params = reader.structure(shape, raw, "", text=True)
    if payload is not None and (body or payload in shape.required_members):
        params[payload] = reader.payload(shape.members[payload], body, aws_path(payload))
    if reader.problems:
        raise refusal(reader.problems)
    return params


def write_response(operation: OperationModel, result: Mapping[str, Any]) -> Response:
    """The answer for an operation's result, by members of its output."""
    status = int(operation.http["responseCode"])
    shape = operation.output_shape
    if not isinstance(shape, StructureShape):
        return Response(status, [], b"")
    headers: list[tuple[str, str]] = []
    document: dict[str, Any] = {}
    payload_name = shape.serialization.get("payload")
    payload: bytes | None = None
    for name, value in result.items():
        member = shape.members[name]
        match member.serialization.get("location"):
            case "statusCode":
                status = value
            case "header":
                headers.append((member.serialization["name"].lower(), str(value)))
            case _ if name == payload_name:
                payload = value if member.type_name == "blob" else orjson.dumps(_written(member, value))
            case _:
                document[_wire_name(name, member)] = _written(member, value)
    if status == 204:
        return Response(status, headers)
    body = orjson.dumps(document) if payload_name is None else payload or b""
    return Response(status, [("content-type", "application/json"), *headers], body)


def _document(body: bytes, shape: StructureShape) -> Params:
    """The members that are in a JSON body."""
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidPayload(f"Could not parse request body into json: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPayload("Could not parse request body into json: it is not an object")
    names = {_wire_name(name, member): name for name, member in shape.members.items() if not _location(member)}
    elsewhere = {name for name, member in shape.members.items() if _location(member)}
    read: Params = {}
    for key, value in document.items():
        if value is not None and key not in elsewhere:
            read[names.get(key) or key] = value
    return read


def _located(name: str, member: Shape, match: Match, request: Request) -> Any:
    """The value of a member that is in the path, the query or the headers; None if it is not there."""
    wire = member.serialization.get("name", name)
    match _location(member):
        case "uri":
            return match.labels.get(wire)
        case "querystring":
            values = [value for key, value in request.query() if key == wire]
            if member.type_name == "list":
                return values or None
            return values[-1] if values else None
        case "header":
            return request.header(wire)
        case _:
            return None


class _Reader:
    """Goes through shapes and values together, and collects what is wrong."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def structure(self, shape: StructureShape, raw: Params, path: str, *, text: bool = False) -> Params:
        """Members by name. With `text`, those outside of a document are text that stands for their type."""
        read: Params = {}
        for name, value in raw.items():
            member = shape.members.get(name)
            where = _join(path, name)
            if member is None:
                if not is_empty(value):
                    self._report(None, where, "…", "Member must be one that this endpoint's API model knows")
                continue
            if text and _location(member):
                value = _from_text(member, value)
            read[name] = self.value(member, value, where)
        for name in shape.required_members:
            if name not in raw and name != shape.serialization.get("payload"):
                self._report(shape.members[name], _join(path, name), None, "Member must not be null")
        return read

    def value(self, shape: Shape, raw: Any, path: str) -> Any:
        """One value; None stands for what could not be read."""
        if not _has_type(shape, raw):
            article = "an" if shape.type_name == "integer" else "a"
            self._report(shape, path, raw, f"Member must be {article} {shape.type_name}")
            return None
        found = violations(shape, raw)
        for constraint in found:
            self._report(shape, path, raw, constraint)
        if found:
            return None
        if isinstance(shape, StructureShape):
            return self.structure(shape, {name: value for name, value in raw.items() if value is not None}, path)
        if isinstance(shape, ListShape):
            return [self.value(shape.member, item, f"{path}.{n}.member") for n, item in enumerate(raw, 1)]
        if isinstance(shape, MapShape):
            return self._map(shape, raw, path)
        if shape.type_name == "blob":
            return self._blob(shape, raw, path)
        if shape.type_name == "timestamp":
            return self._timestamp(shape, raw, path)
        return raw

    def payload(self, shape: Shape, body: bytes, path: str) -> Any:
        """A member that is the whole body."""
        if shape.type_name == "blob":
            return body
        return self.value(shape, _loads(body), path)

    def _map(self, shape: MapShape, raw: Params, path: str) -> Params:
        read: Params = {}
        for key, value in raw.items():
            for constraint in violations(shape.key, key):
                self._report(shape, path, raw, f"Map keys must satisfy constraint: [{constraint}]")
            read[key] = self.value(shape.value, value, f"{path}.{key}.member")
        return read

    def _blob(self, shape: Shape, raw: str, path: str) -> bytes | None:
        try:
            return base64.b64decode(raw, validate=True)
        except (binascii.Error, ValueError):
            self._report(shape, path, raw, "Member must be Base64")
            return None

    def _timestamp(self, shape: Shape, raw: Any, path: str) -> datetime | None:
        try:
            moment: datetime = parse_timestamp(raw)
            return moment
        except (ValueError, OverflowError, OSError):
            self._report(shape, path, raw, "Member must be a timestamp")
            return None

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
        raise InvalidPayload(f"Could not parse request body into json: {error}") from None


def _from_text(shape: Shape, value: Any) -> Any:
    """What a label, a header or a query's value stands for; the text itself where it stands for nothing."""
    if isinstance(value, list):
        return [_from_text(shape.member, item) for item in value] if isinstance(shape, ListShape) else value
    try:
        match shape.type_name:
            case "integer" | "long":
                return int(value) if value.lstrip("-").isdecimal() and value.isascii() else value
            case "float" | "double":
                return float(value)
            case "boolean":
                return {"true": True, "false": False}.get(value.lower(), value)
            case _:
                return value
    except ValueError:
        return value


def _written(shape: Shape, value: Any) -> Any:
    """A value as it is in a JSON document."""
    if isinstance(shape, StructureShape):
        return {
            _wire_name(name, shape.members[name]): _written(shape.members[name], inner) for name, inner in value.items()
        }
    if isinstance(shape, ListShape):
        return [_written(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {key: _written(shape.value, inner) for key, inner in value.items()}
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def _has_type(shape: Shape, value: Any) -> bool:
    accepted = _TYPES[shape.type_name]
    # To Python, true is an integer.
    return isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))


def _location(shape: Shape) -> str | None:
    location: str | None = shape.serialization.get("location")
    return location


def _wire_name(name: str, shape: Shape) -> str:
    return str(shape.serialization.get("name", name))


def _join(path: str, name: str) -> str:
    return f"{path}.{aws_path(name)}" if path else aws_path(name)
