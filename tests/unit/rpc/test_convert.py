"""The engine's data and the API's say the same."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InvalidArgument
from engine.model.function import Egress, FunctionConfig, FunctionState, LogFormat, LogLevel
from engine.model.invocation import Cost, FunctionError
from engine.model.layer import LayerRef, LayerUse
from engine.model.outcome import Outcome, StartKind
from engine.registry.api import ConfigChange
from engine.rpc import convert, masks
from engine.v1 import reports_pb2, resources_pb2
from tests.unit.rpc.things import ACCOUNT, ETAG, REGION, SHA256, function, host, line, report

QUEUE = "arn:aws:sqs:us-east-1:000000000000:failed"
KEY = "arn:aws:kms:us-east-1:000000000000:key/1"


@pytest.mark.parametrize(
    ("table", "own", "proto"),
    [
        (convert.OUTCOME, Outcome, reports_pb2.Outcome),
        (convert.START_KIND, StartKind, reports_pb2.StartKind),
        (convert.STATE, FunctionState, resources_pb2.State),
        (convert.EGRESS, Egress, resources_pb2.Egress),
    ],
)
def test_each_member_of_an_enum_has_one_on_the_other_side(table: dict, own: type, proto: object) -> None:  # type: ignore[type-arg]
    assert set(table) == set(own)  # type: ignore[call-overload]
    values = set(proto.values())  # type: ignore[attr-defined]
    assert set(table.values()) == values - {0}
    assert len(set(table.values())) == len(table)
    for member, value in table.items():
        assert proto.Name(value).endswith(member.name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("there", "back", "proto", "field"),
    [
        (convert.EGRESS, convert.EGRESS_FROM, resources_pb2.Egress, "egress"),
        (convert.LOG_FORMAT, convert.LOG_FORMAT_FROM, resources_pb2.LogFormat, "log_format"),
        (convert.LOG_LEVEL, convert.LOG_LEVEL_FROM, resources_pb2.LogLevel, "log_level"),
        (convert.LOG_LEVEL, convert.LOG_LEVEL_FROM, resources_pb2.LogLevel, "system_log_level"),
    ],
)
def test_each_value_of_the_apis_enums_means_one_of_the_engine(
    there: dict[Any, int], back: dict[int, Any], proto: Any, field: str
) -> None:
    assert set(back) == set(proto.values())
    assert back[0] is getattr(FunctionConfig("", ""), field)
    for own, value in there.items():
        assert back[value] is own
        assert proto.Name(value).endswith(own.name)


def test_a_function_keeps_everything() -> None:
    made = convert.function_to_proto(
        function(
            memory_mb=256,
            timeout_ms=4_000,
            tmp_mb=600,
            environment={"A": "b"},
            description="d",
            role="r",
            egress=Egress.INTERNET,
            log_format=LogFormat.JSON,
            log_level=LogLevel.TRACE,
            system_log_level=LogLevel.WARN,
            preload=("json", "numpy"),
            own_layout=True,
            aws_settings={
                "LogGroup": "/own/group",
                "DeadLetterConfig": {"TargetArn": QUEUE},
                "KMSKeyArn": KEY,
                "TracingConfig": {"Mode": "Active"},
                "SnapStart": {"ApplyOn": "PublishedVersions"},
            },
            layers=(LayerUse(LayerRef("deps", 3), SHA256, 11, 12),),
        ),
        region=REGION,
        account=ACCOUNT,
        preload_bytes=5,
    )
    assert made.preload_memory_bytes == 5
    assert made.name == "functions/thumbs"
    assert made.etag == ETAG
    assert made.state == resources_pb2.STATE_ACTIVE
    assert made.code_blob == f"blobs/{SHA256}"
    assert made.code_size_bytes == 10
    assert made.arn == "arn:aws:lambda:us-east-1:000000000000:function:thumbs"
    assert made.version == "$LATEST"
    assert made.create_time.ToJsonString() == made.update_time.ToJsonString() == "2026-01-02T03:04:05.006Z"
    assert [(layer.name, layer.arn, layer.code_blob, layer.code_size_bytes) for layer in made.layers] == [
        ("layers/deps/versions/3", "arn:aws:lambda:us-east-1:000000000000:layer:deps:3", f"blobs/{SHA256}", 11)
    ]
    # Every field of a config, there and back.
    change = convert.config_change(made.config, masks.populated(made.config))
    log = (LogFormat.JSON, LogLevel.TRACE, LogLevel.WARN)
    plain = ("python3.11", "app.handler", 256, 4_000, 600, {"A": "b"}, "d", "r")
    kept: Any = {"log_group": "/own/group", "dead_letter_arn": QUEUE, "kms_key_arn": KEY}
    assert change == ConfigChange(
        *plain,
        Egress.INTERNET,
        *log,
        ("json", "numpy"),
        True,
        (LayerRef("deps", 3),),
        **kept,
        tracing=True,
        snap_start=True,
    )
    assert masks.populated(made.config) == masks.CONFIG_FIELDS


def test_what_is_not_chosen_does_not_change_and_what_is_chosen_and_zero_takes_its_default() -> None:
    config = resources_pb2.FunctionConfig(memory_mb=256)
    assert convert.config_change(config, frozenset()) == ConfigChange()
    assert convert.config_change(resources_pb2.FunctionConfig(), masks.CONFIG_FIELDS) == ConfigChange(
        *("", "", 128, 3_000, 512, {}, "", "", Egress.NONE),
        *(LogFormat.TEXT, LogLevel.INFO, LogLevel.INFO, (), False, ()),
        log_group="",
        dead_letter_arn="",
        kms_key_arn="",
        tracing=False,
        snap_start=False,
    )


def test_what_is_no_layer_is_refused_by_its_name() -> None:
    config = resources_pb2.FunctionConfig(layers=["layers/deps/versions/1", "x"])
    with pytest.raises(InvalidArgument, match="'x' is not the name of a layer version") as refused:
        convert.config_change(config, masks.populated(config))
    assert list(refused.value.fields) == ["config.layers"]


@pytest.mark.parametrize("name", ["egress", "log_format", "log_level", "system_log_level"])
def test_an_enums_value_of_a_later_api_is_refused(name: str) -> None:
    config = resources_pb2.FunctionConfig(**{name: 99})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as refused:
        convert.config_change(config, masks.populated(config))
    assert list(refused.value.fields) == [f"config.{name}"]
    assert "UNSPECIFIED" not in refused.value.fix


@pytest.mark.parametrize("text", ["x", SHA256, "blobs/", f"blobs/{SHA256}0", f"blobs/{SHA256.upper()}"])
def test_what_names_no_blob_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        convert.blob_sha256(text)
    assert list(refused.value.fields) == ["code_blob"]
    assert convert.blob_sha256(f"blobs/{SHA256}") == SHA256


def test_a_report_keeps_everything() -> None:
    made = convert.report_to_proto(
        report(
            Outcome.TIMEOUT,
            queue_us=1,
            start_us=2,
            init_us=3,
            handler_us=4,
            total_us=5,
            billed_ms=6,
            peak_memory_bytes=7,
            cpu_us=8,
            tmp_written_bytes=9,
            network_in_bytes=10,
            network_out_bytes=11,
            timeline=(("admitted", 1), ("leased", 2)),
            cost=Cost(1, 2, 3, 4, 5, 6, 7, 8, 9),
        )
    )
    assert {field.name for field, _ in made.ListFields()} == {field.name for field in made.DESCRIPTOR.fields}
    assert (made.outcome, made.start_kind) == (reports_pb2.OUTCOME_TIMEOUT, reports_pb2.START_KIND_FORK)
    assert (made.queue_us, made.start_us, made.init_us, made.handler_us, made.total_us) == (1, 2, 3, 4, 5)
    assert (made.billed_ms, made.peak_memory_bytes, made.cpu_us, made.tmp_written_bytes) == (6, 7, 8, 9)
    assert (made.network_in_bytes, made.network_out_bytes) == (10, 11)
    assert (made.request_id, made.executed_version, made.memory_mb) == ("r-1", "$LATEST", 128)
    assert [(mark.phase, mark.offset_us) for mark in made.timeline] == [("admitted", 1), ("leased", 2)]
    assert [value for _, value in made.cost.ListFields()] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert len(made.cost.DESCRIPTOR.fields) == 9


def test_a_function_error_and_a_log_line_keep_their_bytes() -> None:
    error = convert.function_error_to_proto(FunctionError("E", b'{"errorType" :"E"}'))
    assert (error.type, error.document) == ("E", b'{"errorType" :"E"}')
    made = convert.log_line_to_proto(line(b"\xff\x00"))
    assert (made.text, made.request_id) == (b"\xff\x00", "r-1")
    assert made.time.ToMicroseconds() == 1_700_000_000_000_001


async def test_a_host_report_keeps_everything() -> None:
    made = convert.host_to_proto(await host())
    assert {field.name for field, _ in made.ListFields()} == {field.name for field in made.DESCRIPTOR.fields}
    assert [(check.limit, check.enforced) for check in made.checks] == [("memory", True), ("seccomp", False)]
    assert (made.checks[0].mechanism, made.checks[0].detail) == ("cgroup v1 memory", "found")
    assert made.checks[1].fix == "build the kernel with it"
    assert (made.sandboxes, made.idle_sandboxes, made.concurrency) == (3, 2, 1)
    assert [(count.kind, count.made, count.removed) for count in made.resources] == [("leaves", 5, 2)]
    assert [(count.kind, count.count) for count in made.events] == [("timeouts", 1)]
    (started,) = made.starts
    assert started.kind == reports_pb2.START_KIND_PARKED
    counts = [(one.outcome, one.count) for one in started.outcomes]
    assert counts == [(reports_pb2.OUTCOME_OK, 5), (reports_pb2.OUTCOME_TIMEOUT, 1)]
    assert [(one.step, one.count, one.sum_us, one.max_us) for one in started.steps] == [("leaf", 3, 30, 20)]
    parts = (started.queue, started.start, started.init, started.handler, started.total)
    assert [(part.count, part.sum_us) for part in parts] == [(count, 10 * count) for count in (2, 3, 4, 5, 6)]
    assert (started.total.p50_us, started.total.p99_us, started.total.max_us) == (9, 10, 11)
    assert [(bucket.at_most_us, bucket.count) for bucket in started.total.buckets] == [(7, 1), (9, 5)]
