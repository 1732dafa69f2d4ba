"""JSON in and out, as AWS's Python runtime client reads events and writes results.

That client encodes with simplejson, which differs from json: named tuples (anything with `_asdict`) become objects,
bytes become text, a Decimal is written with all its digits. Source: awslambdaric/lambda_runtime_marshaller.py.

The interpreter's C accelerator is used directly: importing json would bring re, enum and functools into every
sandbox, and functions that patch json.JSONEncoder would change what the engine gets.
"""

from __future__ import annotations

import sys
from _json import (  # the same from 3.9 to 3.14
    encode_basestring,
    encode_basestring_ascii,
    make_encoder,
    make_scanner,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\n\r"
_SCALARS = frozenset((str, int, float, bool, type(None)))
_CONTAINERS = frozenset((dict, list, tuple))
_PLAIN = _SCALARS | _CONTAINERS
_SCAN_DEPTH = 1_000  # deeper is circular, or over the recursion limit: the encoder says which
_SCAN_MEMBERS = 2_200_000  # of one level, at three bytes each or more: no result holds as many

# AWS's client writes characters as they are from Python 3.12 on, and escapes them before.
_encode_string: Callable[[str], str] = encode_basestring if sys.version_info >= (3, 12) else encode_basestring_ascii


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _ScanSettings:
    """What the accelerator's scanner asks of a json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)


_scan = make_scanner(_ScanSettings())  # type: ignore[arg-type]  # the stub asks for what json passes


def decode(data: bytes | bytearray | memoryview) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError, or RecursionError where it is nested too deeply."""
    text = str(data, "utf-8")
    start = 1 if text[:1] == "\ufeff" else 0
    while text[start : start + 1] and text[start] in _SPACE:
        start += 1
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise _syntax_error("Expecting value", text, stop.value) from None
    except SystemError:  # until 3.11 the scanner finds the class of its errors only where json is loaded
        import json

        return json.loads(text[start:])
    if end != len(text) and text[end:].strip(_SPACE):
        while text[end] in _SPACE:
            end += 1
        raise _syntax_error("Extra data", text, end)
    return value


def _syntax_error(what: str, text: str, position: int) -> ValueError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return ValueError(f"{what}: line {line} column {column} (char {position})")


def encode(value: object) -> bytes:
    """JSON text in UTF-8. Raises TypeError, ValueError or RecursionError for what has no JSON form."""
    text = None
    if _is_plain(value):
        try:
            text = _write(value, _encode_string)
        except TypeError:  # a key that is not plain; the other way knows more of them
            text = None
    if text is None:
        value = _simplify(value, set())
        text = _write(value, _encode_string_or_raw)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates have a JSON form only when escaped
        return _write(_simplify(value, set()), _escape_string_or_raw).encode()


def _write(value: object, encode_string: Callable[[str], str]) -> str:
    # arguments: markers, default, encoder, indent, key_separator, item_separator, sort_keys, skipkeys, allow_nan
    encoder = make_encoder({}, _refuse_type, encode_string, None, ": ", ", ", False, False, True)
    return "".join(encoder(value, 0))


def _refuse_type(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _is_plain(value: object) -> bool:
    """Whether every value within is of a type that the accelerator writes as AWS's client would."""
    if type(value) in _SCALARS:
        return True
    if type(value) not in _CONTAINERS:
        return False
    level: list[Any] = [value]
    for _ in range(_SCAN_DEPTH):
        members: list[Any] = []
        for container in level:
            members.extend(container.values() if type(container) is dict else container)
        kinds = set(map(type, members))
        if not kinds <= _PLAIN:
            return False
        if kinds.isdisjoint(_CONTAINERS) or len(members) > _SCAN_MEMBERS:
            return True
        level = [member for member in members if type(member) in _CONTAINERS]
    return True


class _Raw(str):
    """JSON text that is written as it is."""

    __slots__ = ()


def _encode_string_or_raw(text: str) -> str:
    return text if type(text) is _Raw else _encode_string(text)


def _escape_string_or_raw(text: str) -> str:
    return text if type(text) is _Raw else encode_basestring_ascii(text)


def _simplify(value: Any, above: set[int]) -> Any:
    """The same value made of plain types and _Raw, in the order of simplejson's own tests."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if id(value) in above:
        raise ValueError("Circular reference detected")
    above.add(id(value))
    as_dict = _as_dict(value)
    if as_dict is None and isinstance(value, (list, tuple)):
        simple: Any = [_simplify(member, above) for member in value]
    elif as_dict is not None or isinstance(value, dict):
        members = value if as_dict is None else as_dict
        simple = {
            key.decode() if isinstance(key, bytes) else key: _simplify(member, above) for key, member in members.items()
        }
    else:
        simple = _simplify_decimal(value)
    above.discard(id(value))
    return simple


def _as_dict(value: Any) -> dict[Any, Any] | None:
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        members = method()
    except TypeError:  # a class rather than an object of it
        return None
    if not isinstance(members, dict):
        raise TypeError(f"_asdict() must return a dict, not {type(members).__name__}")
    return members


def _simplify_decimal(value: Any) -> Any:
    decimal = sys.modules.get("decimal") or sys.modules.get("_decimal")  # not loaded: there is no Decimal to meet
    if decimal is None or not isinstance(value, decimal.Decimal):
        return _refuse_type(value)
    return float("nan") if value.is_nan() else _Raw(str(value))
