"""The public API's files: everything commented, and every enum the same as the engine's own."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.model.concurrency import ProvisionedStatus
from engine.model.function import Egress, FunctionState
from engine.model.outcome import OUTCOMES, Outcome, StartKind
from engine.v1 import concurrency_pb2, reports_pb2, resources_pb2
from tests.style.tree import sources, text

DECLARATION = re.compile(r"\s*(?:message|enum|service|rpc|oneof)\s+\w+|\s*(?:[\w.<>, ]+\s)?\w+\s*=\s*\d+\s*[;\[]")


@pytest.mark.parametrize("path", sources(".proto"), ids=str)
def test_everything_declared_is_commented(path: Path) -> None:
    lines = text(path).splitlines()
    bare = [
        f"{path}:{number + 1}: {line.strip()}"
        for number, line in enumerate(lines)
        if DECLARATION.match(line) and not lines[number - 1].lstrip().startswith("//")
    ]
    assert not bare


@pytest.mark.parametrize(
    ("own", "prefix", "values"),
    [
        (Outcome, "OUTCOME_", reports_pb2.Outcome.keys()),
        (StartKind, "START_KIND_", reports_pb2.StartKind.keys()),
        (FunctionState, "STATE_", resources_pb2.State.keys()),
        (Egress, "EGRESS_", resources_pb2.Egress.keys()),
        (ProvisionedStatus, "PROVISIONED_STATUS_", concurrency_pb2.ProvisionedStatus.keys()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_enum_of_the_engine_and_of_the_api_have_the_same_values(
    own: type[enum.Enum], prefix: str, values: list[str]
) -> None:
    assert [prefix + "UNSPECIFIED", *(prefix + member.name for member in own)] == list(values)


def test_every_outcome_has_one_row_with_names_that_exist() -> None:
    import grpc

    assert set(OUTCOMES) == set(Outcome)
    assert [row.proto for row in OUTCOMES.values()] == list(reports_pb2.Outcome.keys())[1:]
    assert {row.grpc for row in OUTCOMES.values()} <= {code.name for code in grpc.StatusCode}


def test_every_error_has_a_status_that_exists_and_is_in_the_tree_of_its_module() -> None:
    import grpc

    import engine.errors

    classes = [EngineError]
    for cls in classes:
        classes += cls.__subclasses__()
    classes = [cls for cls in classes if cls.__module__ == "engine.errors"]
    assert {cls.grpc_code for cls in classes} <= {code.name for code in grpc.StatusCode}
    tree = engine.errors.__doc__ or ""
    assert not [cls.__name__ for cls in classes if not re.search(rf"\b{cls.__name__}\b", tree)]
