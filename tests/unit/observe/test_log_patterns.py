"""Filter patterns take the lines that CloudWatch's documentation says; what is not understood is refused."""

from __future__ import annotations

import json

import pytest

from engine.errors import InvalidArgument
from engine.observe.log_patterns import parse_pattern


def wants(pattern: str, line: str) -> bool:
    matches = parse_pattern(pattern)
    return matches is None or matches(line.encode())


@pytest.mark.parametrize(
    ("pattern", "line", "wanted"),
    [
        ("", "anything", True),
        ("ERROR", "[ERROR] A fatal exception has occurred", True),
        ("ERROR", "Exiting with ERRORCODE: -1", True),
        ("ERROR", "an error", False),
        ("ERROR Exception", "[ERROR] Caught IllegalArgumentException", True),
        ("ERROR Exception", "[ERROR] Unhandled", False),
        ('"to process the"', "[WARN] Failed to process the request", True),
        ('"to process the"', "the process to", False),
        ('"a \\"b\\" c"', 'a "b" c', True),
        ("ERROR -Exiting", "[ERROR] fatal", True),
        ("ERROR -Exiting", "Exiting with ERRORCODE: -1", False),
        ('-"START RequestId"', "START RequestId: 1", False),
        ("?ERROR ?WARN", "[WARN] a", True),
        ("?ERROR ?WARN", "[INFO] a", False),
        ("?ERROR ?WARN INFO", "[INFO] a", True),
        ("  ERROR  ", "ERROR", True),
    ],
)
def test_terms_select_lines(pattern: str, line: str, wanted: bool) -> None:
    assert wants(pattern, line) is wanted


DOCUMENT = {
    "level": "ERROR",
    "ms": 120.5,
    "status": 503,
    "ok": False,
    "none": None,
    "user": {"name": "ada", "tags": ["x", {"y": 2}], "odd key": 1},
}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ('{ $.level = "ERROR" }', True),
        ("{ $.level = ERROR }", True),
        ('{$.level="WARN"}', False),
        ('{ $.level != "WARN" }', True),
        ('{ $.level != "ERROR" }', False),
        ('{ $.missing != "WARN" }', False),
        ('{ $.level = "ERR*" }', True),
        ('{ $.level = "*R*R" }', True),
        ('{ $.level = "*RO" }', False),
        ("{ $.status = 5* }", True),
        ("{ $.status = 503 }", True),
        ('{ $.status = "503" }', False),
        ("{ $.ms > 120 && $.ms <= 120.5 }", True),
        ("{ $.ms < 1.205e2 }", False),
        ("{ $.ok > -1 }", False),
        ("{ $.ok IS FALSE }", True),
        ("{ $.ok IS TRUE }", False),
        ("{ $.none IS NULL }", True),
        ("{ $.missing IS NULL }", False),
        ("{ $.missing NOT EXISTS }", True),
        ("{ $.none NOT EXISTS }", False),
        ('{ $.user.name = "ada" && $.user.tags[1].y = 2 }', True),
        ('{ $.user.tags[2] = "x" }', False),
        ("{ $.user['odd key'] = 1 }", True),
        ('{ $.level = "WARN" && $.status = 503 || $.ms > 1 }', True),
        ('{ $.level = "WARN" && ($.status = 503 || $.ms > 1) }', False),
        ("{ $.user = ada }", False),
    ],
)
def test_selectors_select_lines_of_json(pattern: str, wanted: bool) -> None:
    assert wants(pattern, json.dumps(DOCUMENT)) is wanted
    assert not wants(pattern, f"text {DOCUMENT}")
    assert not wants(pattern, "{no json")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("%ERR.*%", "regular expressions"),
        ("[ip, user, status=4*]", "brackets"),
        ("a.b", "letters, digits"),
        ('"open', "character 1"),
        ('a"b"', "letters, digits|character"),
        ("{ $.a = 1", "not closed"),
        ("{ }", "nothing between"),
        ("{ a = 1 }", "selector"),
        ("{ $.a }", "missing before its end"),
        ("{ $.a = }", "value is missing"),
        ("{ $.a > x }", "for numbers"),
        ("{ $.a = 1 $.b = 2 }", "one too many"),
        ("{ ($.a = 1 }", "not closed"),
        ("{ $.a = %x% }", "not understood"),
        ("{ $.a[*] = 1 }", "not understood|missing"),
        ("{ $.a IS 1 }", "NULL, TRUE or FALSE"),
        ("{ $.a NOT NULL }", "EXISTS"),
        ("{ " + "(" * 200 + "$.a = 1" + ")" * 200 + " }", "parentheses"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_reason(pattern: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as refused:
        parse_pattern(pattern)
    assert refused.value.message.startswith("Invalid filter pattern: ")
    assert refused.value.fix
