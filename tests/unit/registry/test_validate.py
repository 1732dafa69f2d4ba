"""Settings: Lambda's limits, each wrong field named, all at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import InvalidArgument, NotServed
from engine.model.function import Egress, FunctionConfig, LogFormat, LogLevel
from engine.registry.api import ConfigChange
from engine.registry.validate import merged, refuse_if, refuse_unserved, wrong_fields, wrong_runtime

GOOD = FunctionConfig(runtime="python3.11", handler="app.handler")


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [("memory_mb", 128, 10_240), ("timeout_ms", 1_000, 900_000), ("tmp_mb", 512, 10_240)],
)
def test_numbers_are_taken_up_to_lambdas_limits_and_not_beyond(field: str, least: int, most: int) -> None:
    for value in (least, least + 1, most):
        assert wrong_fields(replace(GOOD, **{field: value})) == {}  # type: ignore[arg-type]
    for value in (least - 1, most + 1, 0, -1):
        assert list(wrong_fields(replace(GOOD, **{field: value}))) == [f"config.{field}"]  # type: ignore[arg-type]


@pytest.mark.parametrize("level", list(LogLevel))
def test_a_log_in_json_has_any_level_and_the_engines_lines_three(level: LogLevel) -> None:
    assert wrong_fields(replace(GOOD, log_format=LogFormat.JSON, log_level=level)) == {}
    found = wrong_fields(replace(GOOD, log_format=LogFormat.JSON, system_log_level=level))
    assert list(found) == ([] if level.value in ("DEBUG", "INFO", "WARN") else ["config.system_log_level"])


def test_a_log_in_text_has_no_levels_and_one_that_becomes_text_loses_them() -> None:
    assert list(wrong_fields(replace(GOOD, log_level=LogLevel.DEBUG))) == ["config.log_level"]
    assert list(wrong_fields(replace(GOOD, system_log_level=LogLevel.WARN))) == ["config.system_log_level"]
    json = replace(GOOD, log_format=LogFormat.JSON, log_level=LogLevel.ERROR, system_log_level=LogLevel.WARN)
    assert merged(json, ConfigChange(memory_mb=256)) == replace(json, memory_mb=256)
    assert merged(json, ConfigChange(log_format=LogFormat.TEXT)) == GOOD
    explicit = merged(json, ConfigChange(log_format=LogFormat.TEXT, log_level=LogLevel.DEBUG))
    assert list(wrong_fields(explicit)) == ["config.log_level"]


@pytest.mark.parametrize("handler", ["app.handler", "src/deep/app.handler", "nodot", "a" * 128, "été.handler"])
def test_handlers_that_lambda_takes_are_taken(handler: str) -> None:
    assert wrong_fields(replace(GOOD, handler=handler)) == {}


@pytest.mark.parametrize("handler", ["", "a b", "a\n", "a" * 129, "a\0b", "\ud800"])
def test_other_handlers_are_refused(handler: str) -> None:
    assert list(wrong_fields(replace(GOOD, handler=handler))) == ["config.handler"]


@pytest.mark.parametrize(
    ("role", "good"),
    [
        ("", True),
        ("arn:aws:iam::000000000000:role/service-role/my.role", True),
        ("arn:aws-cn:iam::123456789012:role/x", True),
        ("arn:aws:iam::1234:role/x", False),
        ("arn:aws:iam::123456789012:user/x", False),
        ("admin", False),
        ("arn:aws:iam::123456789012:role/" + "x" * 10_000, False),
    ],
)
def test_a_role_is_an_arn_or_left_out(role: str, good: bool) -> None:
    assert list(wrong_fields(replace(GOOD, role=role))) == ([] if good else ["config.role"])


@pytest.mark.parametrize(
    ("text", "good"), [("x" * 256, True), ("ü" * 256, True), ("x" * 257, False), ("\ud800", False)]
)
def test_a_description_has_at_most_256_characters_of_text(text: str, good: bool) -> None:
    assert list(wrong_fields(replace(GOOD, description=text))) == ([] if good else ["config.description"])


def test_the_environment_may_have_4096_bytes_as_json() -> None:
    separators = len('{"":"","":""}')
    assert wrong_fields(replace(GOOD, environment={"ABCD": "x" * (2_042 - separators), "EF": "é" * 1_024})) == {}
    wrong = wrong_fields(replace(GOOD, environment={"ABCD": "x" * (2_043 - separators), "EF": "é" * 1_024}))
    assert wrong == {"config.environment": "names and values have 4,097 bytes as JSON: at most 4,096"}


@pytest.mark.parametrize("name", ["A", "a1_", "AWS_LAMBDA_EXEC_WRAPPER", "PATH", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH"])
def test_variables_that_lambda_lets_users_set_are_taken(name: str) -> None:
    assert wrong_fields(replace(GOOD, environment={name: "x"})) == {}


@pytest.mark.parametrize(
    "name",
    ["", "1A", "_A", "A-B", "A B", "É", "A\n", "_HANDLER", "AWS_REGION", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_RUNTIME_API"],
)
def test_other_variables_are_refused_by_name(name: str) -> None:
    assert list(wrong_fields(replace(GOOD, environment={name: "x"}))) == [f"config.environment[{name!a}]"]


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_a_value_that_no_environment_can_hold_is_refused(value: str) -> None:
    assert list(wrong_fields(replace(GOOD, environment={"A": value}))) == ["config.environment['A']"]


def test_an_unknown_runtime_is_refused_with_those_there_are() -> None:
    assert wrong_runtime("python3.11", {"python3.11"}) == {}
    text = wrong_runtime("cobol", ["python3.12", "python3.11"])["config.runtime"]
    assert text == "'cobol' is not available here: use python3.11, python3.12"
    assert "required" in wrong_runtime("", ["python3.11"])["config.runtime"]
    assert "cleave doctor" in wrong_runtime("python3.11", [])["config.runtime"]


def test_everything_wrong_is_said_at_once() -> None:
    bad = replace(GOOD, handler="", memory_mb=1, timeout_ms=1, tmp_mb=1, role="x", environment={"_": ""})
    with pytest.raises(InvalidArgument) as caught:
        refuse_if(wrong_fields(bad))
    expected = ["memory_mb", "timeout_ms", "tmp_mb", "handler", "role", "environment['_']"]
    assert list(caught.value.fields) == [f"config.{field}" for field in expected]
    assert all(field in caught.value.message for field in expected)
    assert caught.value.fix


def test_egress_to_the_internet_is_refused_where_nobody_offers_it_and_says_what_is_served() -> None:
    refuse_unserved(GOOD)
    with pytest.raises(NotServed, match=r"only 'none' is") as caught:
        refuse_unserved(replace(GOOD, egress=Egress.INTERNET))
    assert "none" in caught.value.fix


def test_a_change_replaces_what_it_names_and_nothing_else() -> None:
    assert merged(GOOD, ConfigChange()) == GOOD
    changed = merged(GOOD, ConfigChange(memory_mb=256, description=""))
    assert changed == replace(GOOD, memory_mb=256)


def test_a_change_of_the_callers_dictionary_later_changes_no_function() -> None:
    environment = {"A": "1"}
    config = merged(GOOD, ConfigChange(environment=environment))
    environment["A"] = "2"
    assert config.environment == {"A": "1"}


@pytest.mark.parametrize(
    ("name", "good"),
    [("/aws/lambda/x", True), ("a.b-c_d/e#F9", True), ("x" * 512, True), ("x" * 513, False), ("a b", False)],
)
def test_a_log_group_has_awss_characters(name: str, good: bool) -> None:
    config = merged(GOOD, ConfigChange(log_group=name))
    assert config.log_group == name
    assert list(wrong_fields(config)) == ([] if good else ["config.log_group"])


def test_a_log_group_is_one_of_the_settings_that_are_kept_and_is_taken_back() -> None:
    config = merged(GOOD, ConfigChange(aws_settings={"TracingConfig": {"Mode": "Active"}}, log_group="own"))
    assert config.aws_settings == {"TracingConfig": {"Mode": "Active"}, "LogGroup": "own"}
    assert merged(config, ConfigChange(description="d")).log_group == "own"
    assert merged(config, ConfigChange(log_group="")).aws_settings == {"TracingConfig": {"Mode": "Active"}}
