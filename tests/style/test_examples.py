"""The examples are what they say: their packages are installed with the tools, their commands exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.style.test_docs import check_cleave, commands
from tests.style.tree import ROOT, files, text

FOLDERS = sorted({path.parts[1] for path in files() if path.parts[0] == "examples" and len(path.parts) > 2})
OTHERS = {"sam": "deploy.py", "terraform": "main.tf"}
"""Examples that the command does not deploy, and what does."""


@pytest.mark.parametrize(("folder", "deployer"), OTHERS.items())
def test_an_example_that_is_deployed_otherwise_is_listed_with_what_deploys_it(folder: str, deployer: str) -> None:
    assert f"[{folder}]({folder}/{deployer})" in text(Path("examples/README.md"))
    assert Path(ROOT, "examples", folder, deployer).exists()


@pytest.mark.parametrize("folder", sorted(set(FOLDERS) - set(OTHERS)))
def test_an_example_begins_with_the_commands_that_deploy_and_invoke_it(folder: str) -> None:
    docstring = ast.get_docstring(ast.parse(text(Path("examples", folder, "app.py")))) or ""
    shown = [words for line in re.findall(r"^    (\S.*)$", docstring, re.MULTILINE) for words in commands(line)]
    shown = [words[: words.index(">")] if ">" in words else words for words in shown]
    cleave = [words[1:] for words in shown if words[0] == "cleave"]
    assert {"deploy", "invoke"} <= {words[0] for words in cleave}
    for words in cleave:
        check_cleave(words)
    installed = any(words[0] == "pip" for words in shown)
    assert installed == Path(ROOT, "examples", folder, "requirements.txt").exists()
    assert f"[{folder}]({folder}/app.py)" in text(Path("examples/README.md"))


def test_the_tools_bring_what_the_examples_require_and_no_more_for_them() -> None:
    groups = tomllib.loads(text(Path("pyproject.toml")))["dependency-groups"]
    required = {
        str(Requirement(line))
        for path in files()
        if path.parts[0] == "examples" and path.name == "requirements.txt"
        for line in text(path).splitlines()
    }
    known = {str(Requirement(line)) for line in groups["examples"]}
    known |= {str(Requirement(line)) for line in groups["demo"] if isinstance(line, str)}
    assert {"include-group": "examples"} in groups["dev"]
    assert required <= known
    assert {str(Requirement(line)) for line in groups["examples"]} <= required
