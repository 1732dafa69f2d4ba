"""CloudWatch's filter patterns over lines of text: words, "phrases", -exclusions and ?alternatives.

A pattern in braces goes to engine.observe.log_json_patterns. Source:
docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html. Guarantees that a pattern is followed as a
whole or refused with the reason, and that no pattern makes matching take longer than in proportion to the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.errors import InvalidArgument
from engine.observe.log_json_patterns import json_pattern

Matches = Callable[[bytes], bool]

_TERM = re.compile(r'\s*(?P<sign>[-?]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"]+))(?=\s|$)', re.DOTALL)
_WORD = re.compile(r"\w+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_pattern(pattern: str) -> Matches | None:
    """Whether a line is wanted; None where every line is. Raises InvalidArgument."""
    text = pattern.strip()
    if not text:
        return None
    if text.startswith("{"):
        return json_pattern(text)
    if text.startswith("["):
        raise _refused("patterns of columns in brackets are not served", "name terms, or fields of JSON in braces")
    if text.startswith("%"):
        raise _refused("regular expressions are not served", "name terms, or phrases in double quotes")
    return _terms(text)


def _refused(why: str, fix: str) -> InvalidArgument:
    """The error for a pattern that is not followed."""
    return InvalidArgument(f"Invalid filter pattern: {why}", fix=fix, fields={"filterPattern": why})


def _terms(text: str) -> Matches:
    found: dict[str, list[bytes]] = {"": [], "-": [], "?": []}
    at = 0
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None:
            raise _refused(
                f"what begins at character {at + 1} is no term", "end each quotation, and put blanks between"
            )
        word = term["word"]
        if word is None:
            word = _ESCAPED.sub(r"\1", term["phrase"])
        elif not _WORD.fullmatch(word):
            raise _refused(
                f"{word} is not of letters, digits and underscores alone", f'put it in double quotes: "{word}"'
            )
        found[term["sign"]].append(word.encode(errors="replace"))
        at = term.end()
    wanted, unwanted, either = found[""], found["-"], found["?"]
    if wanted or unwanted:
        # As on AWS, alternatives beside other terms decide nothing.
        return lambda line: all(term in line for term in wanted) and not any(term in line for term in unwanted)
    return lambda line: any(term in line for term in either)
