"""Documents are tests: every command they show exists, every file they link to is there, their Python compiles.

What runs the commands is tests/integration; here it is held that each shown line is one of: a make target, a
`cleave` command with flags that it has, or a line of OTHERS, with the reason why nothing here checks it further.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from tests.style.tree import ROOT, sources, text

DOCUMENTS = sources(".md")
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"sh", "python", "toml", "json", "text", "c", "mermaid", "ini"}

OTHERS = {
    ".ci/run": "runs these tests itself",
    "pip": "downloads packages; tests/bundles.py takes those of requirements/dev.lock",
    "cp": "copies files",
    "export": "sets the reader's own shell",
    "aws": "the AWS CLI: tests/compat/test_cli.py runs what is shown of it",
    "xargs": "the same",
}


class Block(NamedTuple):
    """A fenced block of a document."""

    path: Path
    language: str
    body: str

    def __str__(self) -> str:
        return f"{self.path}:{self.body.splitlines()[0] if self.body else ''}"


def blocks() -> list[Block]:
    return [Block(path, match[1], match[2]) for path in DOCUMENTS for match in FENCE.finditer(text(path))]


def commands(body: str) -> Iterator[list[str]]:
    """The commands of a block: comments and prompts dropped, continued lines joined, pipes and lists taken apart."""
    for line in body.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="|;&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|;&"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


SHOWN = [
    pytest.param(words, id=f"{block.path}: {' '.join(words)}")
    for block in blocks()
    if block.language == "sh"
    for words in commands(block.body)
]


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):.*## ", text(Path("Makefile")), re.MULTILINE))


@cache
def command_line() -> Any:
    from engine.cli.main import build_app

    return typer.main.get_command(build_app())


@pytest.mark.parametrize("words", SHOWN)
def test_a_shown_command_exists(words: list[str]) -> None:
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program = words[0].removeprefix(".venv/bin/")
    if program == "sudo":
        program = words[1].removeprefix(".venv/bin/")
        words = words[1:]
    if program == "make":
        assert {word for word in words[1:] if "=" not in word} <= make_targets()
    elif program == "cleave":
        check_cleave(words[1:])
    elif program == "python":
        assert words[1] == "-m" or (ROOT / words[1]).is_file()
    else:
        assert program in OTHERS, "neither a make target nor a cleave command: add it to OTHERS with a reason"


def check_cleave(words: list[str]) -> None:
    """Whether the command has this subcommand and these flags."""
    # A typer command is one of click's, or of what typer has in its place.
    command = command_line()
    known = flags(command)
    for word in words:
        commands = getattr(command, "commands", {})
        if commands and not word.startswith("-"):
            assert word in commands, f"cleave has no command {word}"
            command = commands[word]
            known |= flags(command)
        elif re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in known | {"--help"}, f"{command.name} has no {word}"


def flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_every_exception_is_needed() -> None:
    shown = {words[0] for block in blocks() if block.language == "sh" for words in commands(block.body)}
    assert set(OTHERS) <= shown


def test_every_block_says_its_language() -> None:
    # A block without one is a drawing or a tree.
    unknown = {str(block): block.language for block in blocks() if block.language and block.language not in LANGUAGES}
    assert not unknown
    commands_unmarked = [
        str(block)
        for block in blocks()
        if not block.language and re.search(r"^\$? ?(make|cleave|pip|git) ", block.body, re.MULTILINE)
    ]
    assert not commands_unmarked, "mark commands as sh, so that they are checked"


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "python"], ids=str)
def test_shown_python_compiles(block: Block) -> None:
    compile(block.body, str(block.path), "exec")


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "toml"], ids=str)
def test_shown_toml_reads(block: Block) -> None:
    tomllib.loads(block.body)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_link_leads_somewhere(path: Path) -> None:
    prose = FENCE.sub("", text(path))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    broken = [
        target
        for target in targets
        if not re.match(r"https?://|mailto:|#", target) and not (ROOT / path.parent / target.split("#")[0]).exists()
    ]
    assert not broken


# What documents name without linking to it.
PLACE = re.compile(r"`((?:engine|native|proto|tests|bench|docs|examples|requirements|\.ci)/[\w./*<>{},-]*)`")


# A changelog names what was.
@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=str)
def test_every_file_that_a_document_names_is_there(path: Path) -> None:
    named = {place for place in PLACE.findall(text(path)) if not set(place) & set("<>{}*,")}
    made = ("bench/results", "engine/v1")
    missing = sorted(place for place in named if not place.startswith(made) and not (ROOT / place).exists())
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_test_that_a_document_names_is_there(path: Path) -> None:
    named = re.findall(r"`(tests/[\w./]+\.py)::(test_\w+)`", text(path))
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or not re.search(rf"^(async )?def {test}\(", text(Path(file)), re.MULTILINE)
    ]
    assert not missing


PROMISE = re.compile(r"^\| \d+ \| (.+?) \| .+? \| (.*) \|$", re.MULTILINE)


def test_every_promise_of_the_threat_model_is_held_by_tests() -> None:
    promises = PROMISE.findall(text(Path("docs/threat-model.md")))
    assert len(promises) >= 20
    loose = [promise for promise, held in promises if not re.fullmatch(r"`tests/[^`]+::test_\w+`(<br>`[^`]+`)*", held)]
    assert not loose, "each promise names the tests that hold it, one by one, and nothing else"


def test_every_file_of_attacks_holds_a_promise_of_the_threat_model() -> None:
    held = text(Path("docs/threat-model.md"))
    files = [path.as_posix() for path in sources(".py") if path.match("tests/security/test_*.py")]
    assert files
    asked_again = {"tests/security/test_inside.py", "tests/security/test_without_root.py"}
    unused = [path for path in files if path not in held and path not in asked_again]
    # What becomes of the network of an engine that ends, and of a host that is unfit, is a matter of the architecture.
    assert all(path.startswith("tests/security/test_network_") for path in unused), unused
