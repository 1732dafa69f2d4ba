"""An update changes what its mask names and nothing else."""

from __future__ import annotations

import pytest

from engine.errors import InvalidArgument
from engine.rpc.masks import CONFIG_FIELDS, Selection, select
from engine.v1 import resources_pb2
from engine.v1.resources_pb2 import Function, FunctionConfig


def test_without_a_mask_every_field_that_is_set_changes() -> None:
    changed = Function(config=FunctionConfig(memory_mb=256, environment={"A": "b"}), code_blob="blobs/x", arn="a")
    assert select([], changed) == Selection(frozenset({"memory_mb", "environment"}), True)
    assert select([], Function()) == Selection(frozenset(), False)


def test_a_star_means_every_field() -> None:
    assert select(["*"], Function()) == Selection(CONFIG_FIELDS, True)


def test_a_mask_names_fields_also_those_that_are_not_set() -> None:
    changed = Function(config=FunctionConfig(memory_mb=256, timeout_ms=1_000))
    assert select(["config.timeout_ms", "config.role"], changed) == Selection(frozenset({"timeout_ms", "role"}), False)
    assert select(["code_blob"], changed) == Selection(frozenset(), True)
    assert select(["config"], changed) == Selection(CONFIG_FIELDS, False)


def test_every_field_of_a_function_can_be_named() -> None:
    paths = [field.name for field in resources_pb2.Function.DESCRIPTOR.fields]
    paths += [f"config.{field.name}" for field in resources_pb2.FunctionConfig.DESCRIPTOR.fields]
    assert select(paths, Function()) == Selection(CONFIG_FIELDS, True)


def test_output_only_fields_may_be_named_and_change_nothing() -> None:
    named = ["name", "etag", "state", "state_reason", "code_size_bytes", "create_time", "update_time", "arn", "version"]
    assert select(named, Function()) == Selection(frozenset(), False)


@pytest.mark.parametrize(
    "path", ["memory_mb", "config.memoryMb", "config.", "", "config.environment.A", "function.config"]
)
def test_a_path_that_is_none_is_refused_by_its_name(path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        select(["config.role", path], Function())
    assert repr(path) in refused.value.message
    assert list(refused.value.fields) == ["update_mask"]


def test_a_star_stands_alone() -> None:
    with pytest.raises(InvalidArgument, match=r"'\*'"):
        select(["*", "config.role"], Function())
