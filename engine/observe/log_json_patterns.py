"""CloudWatch's filter patterns over lines of JSON: `{ $.level = "ERROR" && ($.ms > 100 || $.user.name = a*) }`.

Source: docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html. A quoted value is compared with
text, a number with a number, a word without quotes with the text of any value that is no object or list. Guarantees
that what is not understood is refused, and that a line which is no JSON object matches nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import orjson

from engine.errors import InvalidArgument

Matches = Callable[[bytes], bool]
Test = Callable[[Any], bool]
"""Of a value, which is MISSING where the line has none."""
_Of = Callable[[Any], bool]
"""Of a whole document."""

MISSING = object()
MOST_PARENTHESES = 32

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<selector>\$(?:\.[\w-]+|\[\d+\]|\['[^']*'\]|\["[^"]*"\])+)
    |(?P<sign>&&|\|\||!=|<=|>=|=|<|>|\(|\))
    |"(?P<quoted>(?:[^"\\]|\\.)*)"
    |(?P<word>[\w*./:@#+-]+)
    )""",
    re.VERBOSE,
)
_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_IS: dict[str, Any] = {"NULL": None, "TRUE": True, "FALSE": False}


def json_pattern(text: str) -> Matches:
    """Whether a line is wanted, by a pattern in braces. Raises InvalidArgument."""
    if not text.endswith("}"):
        raise _refused("its brace is not closed")
    wanted = _Parser(text[1:-1]).whole()

    def matches(line: bytes) -> bool:
        if not line.lstrip().startswith(b"{"):
            return False
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            return False
        return wanted(document)

    return matches


class _Parser:
    """Recursive descent over the tokens of one pattern."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            token = _TOKEN.match(text, at)
            if token is None:
                raise _refused(f"{text[at:].strip()[:40]} is not understood")
            kind = str(token.lastgroup)
            self._tokens.append((kind, token[kind]))
            at = token.end()
        self._at = 0
        self._depth = 0

    def whole(self) -> _Of:
        if not self._tokens:
            raise _refused("there is nothing between its braces")
        found = self._either()
        if self._at < len(self._tokens):
            raise _refused(f"{self._peek()[1]} is one too many")
        return found

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "its end")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _takes(self, sign: str) -> bool:
        if self._peek() == ("sign", sign):
            self._at += 1
            return True
        return False

    def _either(self) -> _Of:
        some = [self._all()]
        while self._takes("||"):
            some.append(self._all())
        return some[0] if len(some) == 1 else lambda document: any(one(document) for one in some)

    def _all(self) -> _Of:
        some = [self._one()]
        while self._takes("&&"):
            some.append(self._one())
        return some[0] if len(some) == 1 else lambda document: all(one(document) for one in some)

    def _one(self) -> _Of:
        if self._takes("("):
            self._depth += 1
            if self._depth > MOST_PARENTHESES:
                raise _refused(f"it has more than {MOST_PARENTHESES} parentheses")
            found = self._either()
            if not self._takes(")"):
                raise _refused(f"a parenthesis is not closed before {self._peek()[1]}")
            return found
        kind, selector = self._next()
        if kind != "selector":
            raise _refused(f"a selector such as $.level is missing before {selector}")
        steps = _steps(selector)
        test = self._test()
        return lambda document: test(_at(document, steps))

    def _test(self) -> Test:
        kind, sign = self._next()
        if kind == "word" and sign.upper() == "IS":
            _, name = self._next()
            if name.upper() not in _IS:
                raise _refused(f"IS is followed by NULL, TRUE or FALSE, not by {name}")
            wanted = _IS[name.upper()]
            return lambda value: value is wanted
        if kind == "word" and sign.upper() == "NOT":
            _, name = self._next()
            if name.upper() != "EXISTS":
                raise _refused(f"NOT is followed by EXISTS, not by {name}")
            return lambda value: value is MISSING
        if kind != "sign" or sign in ("(", ")", "&&", "||"):
            raise _refused(f"=, !=, <, >, <=, >=, IS or NOT EXISTS is missing before {sign}")
        return _comparison(sign, *self._next())


def _comparison(sign: str, kind: str, text: str) -> Test:
    if kind not in ("quoted", "word"):
        raise _refused(f"a value is missing after {sign}")
    if sign in _ORDER:
        if kind != "word" or not _NUMBER.fullmatch(text):
            raise _refused(f"{sign} is for numbers, and {text} is none")
        order, bound = _ORDER[sign], float(text)
        return lambda value: _is_number(value) and order(value, bound)
    equals = _equals(kind, text)
    if sign == "=":
        return equals
    return lambda value: value is not MISSING and not equals(value)


def _equals(kind: str, text: str) -> Test:
    if kind == "quoted":
        pieces = re.sub(r"\\(.)", r"\1", text).split("*")
        return lambda value: isinstance(value, str) and _fits(value, pieces)
    if _NUMBER.fullmatch(text):
        number = float(text)
        return lambda value: _is_number(value) and value == number
    pieces = text.split("*")
    return lambda value: isinstance(value, str | int | float) and _fits(_said(value), pieces)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _fits(text: str, pieces: list[str]) -> bool:
    """Whether a text is these pieces with anything between them; in time in proportion to it."""
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _steps(selector: str) -> list[str | int]:
    steps: list[str | int] = []
    for name, index, single, double in _STEP.findall(selector):
        steps.append(int(index) if index else name or single or double)
    return steps


def _at(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        if isinstance(step, str):
            value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else MISSING
    return value


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(
        f"Invalid filter pattern: {why}",
        fix='write it like { $.level = "ERROR" && $.ms > 100 }',
        fields={"filterPattern": why},
    )
