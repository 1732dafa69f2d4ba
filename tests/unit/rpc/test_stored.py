"""Event source mappings, code signing, small settings and whole policies over gRPC, with a real registry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from engine.v1 import code_signing_pb2 as signing
from engine.v1 import (
    code_signing_pb2_grpc,
    event_sources_pb2_grpc,
    function_settings_pb2_grpc,
    policies_pb2_grpc,
    tags_pb2,
    tags_pb2_grpc,
    versions_pb2_grpc,
)
from engine.v1 import event_sources_pb2 as sources
from engine.v1 import function_settings_pb2 as settings
from engine.v1 import policies_pb2 as policies
from engine.v1 import versions_pb2 as versions
from tests.registries import served
from tests.unit.rpc.things import ACCOUNT, REGION, code, fields, refusal

F = "functions/f"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/a"
NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass
class Doors:
    """The stubs. Untyped: the published types are the blocking channel's."""

    registry: Any
    sources: Any
    signing: Any
    settings: Any
    policies: Any
    tags: Any


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    """With the function f and its version 1."""
    async with served(tmp_path) as it:
        channel: Any = grpc.aio.insecure_channel(it.address)
        publish: Any = versions_pb2_grpc.VersionServiceStub(channel)
        await publish.PublishVersion(versions.PublishVersionRequest(parent=F))
        stubs = (
            event_sources_pb2_grpc.EventSourceServiceStub,
            code_signing_pb2_grpc.CodeSigningServiceStub,
            function_settings_pb2_grpc.FunctionSettingsServiceStub,
            policies_pb2_grpc.PolicyServiceStub,
            tags_pb2_grpc.TagServiceStub,
        )
        yield Doors(it.registry, *(stub(channel) for stub in stubs))
        await channel.close()


def wanted(**given: Any) -> sources.CreateEventSourceMappingRequest:
    mapping = {"function": F, "event_source_arn": QUEUE, **given}
    return sources.CreateEventSourceMappingRequest(event_source_mapping=sources.EventSourceMapping(**mapping))


async def test_a_mapping_is_made_read_changed_and_removed(doors: Doors) -> None:
    given = sources.EventSourceSettings(
        batch_size=5,
        scaling_config=sources.EventSourceScalingConfig(maximum_concurrency=7),
        function_response_types=["ReportBatchItemFailures"],
        filter_criteria=sources.EventSourceFilterCriteria(filters=[sources.EventSourceFilter(pattern='{"a": ["b"]}')]),
    )
    made = (await doors.sources.CreateEventSourceMapping(wanted(settings=given))).event_source_mapping
    mapping_id = made.name.removeprefix("eventSourceMappings/")
    assert made.arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{mapping_id}"
    assert (made.function, made.event_source_arn, made.state) == (F, QUEUE, sources.EVENT_SOURCE_MAPPING_STATE_CREATING)
    assert (made.settings.batch_size, made.settings.maximum_batching_window_s) == (5, 0)
    assert (made.settings.scaling_config, made.settings.filter_criteria) == (
        given.scaling_config,
        given.filter_criteria,
    )
    got = await doors.sources.GetEventSourceMapping(sources.GetEventSourceMappingRequest(name=made.name))
    assert got.event_source_mapping.state == sources.EVENT_SOURCE_MAPPING_STATE_ENABLED
    change = sources.EventSourceMapping(name=made.name, enabled=False, function=f"{F}/versions/1")
    change.settings.batch_size = 6
    changed = await doors.sources.UpdateEventSourceMapping(
        sources.UpdateEventSourceMappingRequest(event_source_mapping=change)
    )
    after = changed.event_source_mapping
    assert (after.state, after.function, after.settings.batch_size) == (
        sources.EVENT_SOURCE_MAPPING_STATE_DISABLING,
        f"{F}/versions/1",
        6,
    )
    paths = ["settings.scaling_config", "settings.function_response_types", "settings.filter_criteria"]
    emptied = await doors.sources.UpdateEventSourceMapping(
        sources.UpdateEventSourceMappingRequest(event_source_mapping=change, update_mask=FieldMask(paths=paths))
    )
    left = emptied.event_source_mapping
    assert left.state == sources.EVENT_SOURCE_MAPPING_STATE_UPDATING
    assert not left.settings.HasField("scaling_config")
    assert not left.settings.HasField("filter_criteria")
    assert not left.settings.function_response_types
    gone = await doors.sources.DeleteEventSourceMapping(sources.DeleteEventSourceMappingRequest(name=made.name))
    assert gone.event_source_mapping.state == sources.EVENT_SOURCE_MAPPING_STATE_DELETING
    missing = await refusal(doors.sources.GetEventSourceMapping(sources.GetEventSourceMappingRequest(name=made.name)))
    assert code(missing) == "NOT_FOUND"


async def test_every_setting_of_a_source_goes_in_and_comes_out(doors: Doors) -> None:
    given = sources.EventSourceSettings(
        starting_position="AT_TIMESTAMP",
        parallelization_factor=2,
        maximum_record_age_s=60,
        bisect_batch_on_function_error=True,
        maximum_retry_attempts=0,
        tumbling_window_s=30,
        maximum_batching_window_s=0,
        batch_size=9,
        function_response_types=["ReportBatchItemFailures"],
        destination_config=sources.EventSourceDestinationConfig(
            on_failure=sources.EventSourceDestination(destination=QUEUE)
        ),
        metrics_config=sources.EventSourceMetricsConfig(metrics=["EventCount"]),
        kms_key_arn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k",
    )
    given.starting_position_timestamp.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    stream = await doors.sources.CreateEventSourceMapping(wanted(event_source_arn=STREAM, settings=given))
    assert stream.event_source_mapping.settings == given
    own = sources.EventSourceSettings(
        starting_position="LATEST",
        batch_size=100,
        topics=["topic"],
        source_access_configurations=[sources.EventSourceAccessConfiguration(type="BASIC_AUTH", uri="s")],
        self_managed_event_source=sources.SelfManagedEventSource(
            endpoints=sources.SelfManagedEndpoints(kafka_bootstrap_servers=["kafka:1"])
        ),
        self_managed_kafka_event_source_config=sources.KafkaConsumerConfig(
            consumer_group_id="g",
            schema_registry_config=sources.KafkaSchemaRegistryConfig(
                schema_registry_uri="http://r",
                event_record_format="JSON",
                schema_validation_configs=[sources.KafkaSchemaValidationConfig(attribute="KEY")],
            ),
        ),
        provisioned_poller_config=sources.ProvisionedPollerConfig(minimum_pollers=1, maximum_pollers=3),
        logging_config=sources.EventSourceLoggingConfig(system_log_level="WARN"),
    )
    kafka = await doors.sources.CreateEventSourceMapping(wanted(event_source_arn="", settings=own))
    assert kafka.event_source_mapping.settings == own
    document = f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:d"
    theirs = sources.EventSourceSettings(
        starting_position="LATEST",
        batch_size=1,
        source_access_configurations=[sources.EventSourceAccessConfiguration(type="BASIC_AUTH", uri="s")],
        document_db_event_source_config=sources.DocumentDbEventSourceConfig(database_name="d", full_document="Default"),
    )
    made = await doors.sources.CreateEventSourceMapping(wanted(event_source_arn=document, settings=theirs))
    assert made.event_source_mapping.settings == theirs


async def test_mappings_are_listed_by_function_by_source_and_page_by_page(doors: Doors) -> None:
    names = []
    for number in range(3):
        made = await doors.sources.CreateEventSourceMapping(wanted(event_source_arn=f"{QUEUE}{number}"))
        names.append(made.event_source_mapping.name)
    other = await doors.sources.CreateEventSourceMapping(wanted(function=f"{F}/versions/1"))

    async def listed(**given: Any) -> Any:
        return await doors.sources.ListEventSourceMappings(sources.ListEventSourceMappingsRequest(**given))

    first = await listed(page_size=2, function=F)
    rest = await listed(page_token=first.next_page_token, function=F)
    assert [one.name for one in (*first.event_source_mappings, *rest.event_source_mappings)] == sorted(names)
    assert not rest.next_page_token
    (found,) = (await listed(event_source_arn=QUEUE)).event_source_mappings
    assert found.name == other.event_source_mapping.name
    assert len((await listed()).event_source_mappings) == 4


async def test_mappings_that_cannot_be_are_refused(doors: Doors) -> None:
    made = (await doors.sources.CreateEventSourceMapping(wanted())).event_source_mapping
    for given, refused in (
        ({}, "ALREADY_EXISTS"),
        ({"function": "functions/g"}, "NOT_FOUND"),
        ({"function": ""}, "INVALID_ARGUMENT"),
        ({"event_source_arn": "arn"}, "INVALID_ARGUMENT"),
        ({"settings": sources.EventSourceSettings(parallelization_factor=2)}, "INVALID_ARGUMENT"),
        ({"settings": sources.EventSourceSettings(batch_size=0)}, "INVALID_ARGUMENT"),
    ):
        assert code(await refusal(doors.sources.CreateEventSourceMapping(wanted(**given)))) == refused, given
    mapping = sources.EventSourceMapping(name=made.name)
    for paths in (["colour"], ["settings.colour"], ["settings.batch_size"], ["settings.topics"]):
        request = sources.UpdateEventSourceMappingRequest(
            event_source_mapping=mapping, update_mask=FieldMask(paths=paths)
        )
        assert code(await refusal(doors.sources.UpdateEventSourceMapping(request))) == "INVALID_ARGUMENT", paths
    for name, refused in ((f"eventSourceMappings/{NOBODY}", "NOT_FOUND"), (NOBODY, "INVALID_ARGUMENT")):
        read = sources.GetEventSourceMappingRequest(name=name)
        assert code(await refusal(doors.sources.GetEventSourceMapping(read))) == refused


async def test_a_code_signing_configuration_is_made_given_changed_and_removed(doors: Doors) -> None:
    ask = doors.signing
    config = signing.CodeSigningConfig(signing_profile_version_arns=[PROFILE], description="a")
    made = (
        await ask.CreateCodeSigningConfig(signing.CreateCodeSigningConfigRequest(code_signing_config=config))
    ).code_signing_config
    assert made.arn.endswith(":code-signing-config:" + made.name.removeprefix("codeSigningConfigs/"))
    assert (list(made.signing_profile_version_arns), made.untrusted_artifact) == ([PROFILE], 1)
    got = await ask.GetCodeSigningConfig(signing.GetCodeSigningConfigRequest(name=made.name))
    assert got.code_signing_config == made
    await ask.PutFunctionCodeSigningConfig(
        signing.PutFunctionCodeSigningConfigRequest(name=F, code_signing_config=made.name)
    )
    whose = signing.GetFunctionCodeSigningConfigRequest(name=F)
    assert (await ask.GetFunctionCodeSigningConfig(whose)).code_signing_config == made.name
    by = await ask.ListFunctionsByCodeSigningConfig(signing.ListFunctionsByCodeSigningConfigRequest(name=made.name))
    assert list(by.functions) == [F]
    removal = signing.DeleteCodeSigningConfigRequest(name=made.name)
    assert code(await refusal(ask.DeleteCodeSigningConfig(removal))) == "FAILED_PRECONDITION"
    enforce = signing.CodeSigningConfig(name=made.name, untrusted_artifact=signing.UNTRUSTED_ARTIFACT_ENFORCE)
    update = signing.UpdateCodeSigningConfigRequest(code_signing_config=enforce)
    assert code(await refusal(ask.UpdateCodeSigningConfig(update))) == "INVALID_ARGUMENT"
    await ask.DeleteFunctionCodeSigningConfig(signing.DeleteFunctionCodeSigningConfigRequest(name=F))
    assert (await ask.GetFunctionCodeSigningConfig(whose)).code_signing_config == ""
    after = (await ask.UpdateCodeSigningConfig(update)).code_signing_config
    assert (after.untrusted_artifact, after.description) == (signing.UNTRUSTED_ARTIFACT_ENFORCE, "a")
    listed = await ask.ListCodeSigningConfigs(signing.ListCodeSigningConfigsRequest())
    assert list(listed.code_signing_configs) == [after]
    await ask.DeleteCodeSigningConfig(removal)
    assert code(await refusal(ask.GetCodeSigningConfig(signing.GetCodeSigningConfigRequest(name=made.name)))) == (
        "NOT_FOUND"
    )


async def test_code_signing_configurations_that_cannot_be_are_refused(doors: Doors) -> None:
    async def refused(**given: Any) -> str:
        config = signing.CodeSigningConfig(**{"signing_profile_version_arns": [PROFILE], **given})
        request = signing.CreateCodeSigningConfigRequest(code_signing_config=config)
        return code(await refusal(doors.signing.CreateCodeSigningConfig(request)))

    assert await refused(signing_profile_version_arns=[]) == "INVALID_ARGUMENT"
    assert await refused(signing_profile_version_arns=[PROFILE] * 21) == "INVALID_ARGUMENT"
    assert await refused(signing_profile_version_arns=["x"]) == "INVALID_ARGUMENT"
    assert await refused(description="x" * 257) == "INVALID_ARGUMENT"
    assert await refused(untrusted_artifact=9) == "INVALID_ARGUMENT"
    none = signing.PutFunctionCodeSigningConfigRequest(name=F, code_signing_config="codeSigningConfigs/csc-0")
    assert code(await refusal(doors.signing.PutFunctionCodeSigningConfig(none))) == "NOT_FOUND"


async def test_small_settings_are_what_they_were_set_to(doors: Doors) -> None:
    ask = doors.settings
    whose = settings.GetFunctionRecursionConfigRequest(name=F)
    assert (await ask.GetFunctionRecursionConfig(whose)).recursive_loop == settings.RECURSIVE_LOOP_TERMINATE
    allow = settings.PutFunctionRecursionConfigRequest(name=F, recursive_loop=settings.RECURSIVE_LOOP_ALLOW)
    assert (await ask.PutFunctionRecursionConfig(allow)).recursive_loop == settings.RECURSIVE_LOOP_ALLOW
    assert (await ask.GetFunctionRecursionConfig(whose)).recursive_loop == settings.RECURSIVE_LOOP_ALLOW

    own = f"arn:aws:lambda:{REGION}::runtime:python3.11"
    manual = settings.RuntimeManagementConfig(
        update_runtime_on=settings.UPDATE_RUNTIME_ON_MANUAL, runtime_version_arn=own
    )
    version = f"{F}/versions/1"
    put = settings.PutRuntimeManagementConfigRequest(name=version, config=manual)
    assert (await ask.PutRuntimeManagementConfig(put)).config == manual
    read = settings.GetRuntimeManagementConfigRequest(name=version)
    assert (await ask.GetRuntimeManagementConfig(read)).config == manual
    latest = await ask.GetRuntimeManagementConfig(settings.GetRuntimeManagementConfigRequest(name=F))
    assert latest.config.update_runtime_on == settings.UPDATE_RUNTIME_ON_AUTO
    put.config.runtime_version_arn = own + "x"
    assert list(fields(await refusal(ask.PutRuntimeManagementConfig(put)))) == ["RuntimeVersionArn"]

    wish = settings.FunctionScalingConfig(min_execution_environments=0, max_execution_environments=4)
    await ask.PutFunctionScalingConfig(settings.PutFunctionScalingConfigRequest(name=version, requested=wish))
    asked = settings.GetFunctionScalingConfigRequest(name=version)
    assert (await ask.GetFunctionScalingConfig(asked)).requested == wish
    await ask.PutFunctionScalingConfig(settings.PutFunctionScalingConfigRequest(name=version))
    assert not (await ask.GetFunctionScalingConfig(asked)).HasField("requested")
    for name, refused in ((f"{F}/versions/$LATEST", "INVALID_ARGUMENT"), (f"{F}/versions/2", "NOT_FOUND")):
        request = settings.GetFunctionScalingConfigRequest(name=name)
        assert code(await refusal(ask.GetFunctionScalingConfig(request))) == refused
    unknown = settings.PutFunctionRecursionConfigRequest(name=F, recursive_loop=9)  # type: ignore[arg-type]
    assert code(await refusal(ask.PutFunctionRecursionConfig(unknown))) == "INVALID_ARGUMENT"


async def test_a_policy_is_put_and_removed_as_a_whole(doors: Doors) -> None:
    statement = {"Sid": "s", "Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunction"}
    text = json.dumps({"Statement": [statement]})
    put = await doors.policies.PutPolicy(policies.PutPolicyRequest(name=F, policy=text))
    assert json.loads(put.policy)["Statement"] == [statement]
    stale = policies.PutPolicyRequest(name=F, policy=text, etag="x")
    assert code(await refusal(doors.policies.PutPolicy(stale))) == "ABORTED"
    for wrong in ("{", "[]", '{"Statement": []}', json.dumps({"Statement": [statement, statement]})):
        request = policies.PutPolicyRequest(name=F, policy=wrong)
        assert code(await refusal(doors.policies.PutPolicy(request))) == "INVALID_ARGUMENT"
    await doors.policies.DeletePolicy(policies.DeletePolicyRequest(name=F, etag=put.etag))
    assert code(await refusal(doors.policies.DeletePolicy(policies.DeletePolicyRequest(name=F)))) == "NOT_FOUND"


async def test_mappings_and_code_signing_configurations_have_tags(doors: Doors) -> None:
    request = wanted()
    request.tags["team"] = "a"
    mapping = (await doors.sources.CreateEventSourceMapping(request)).event_source_mapping
    config = signing.CodeSigningConfig(signing_profile_version_arns=[PROFILE])
    made = await doors.signing.CreateCodeSigningConfig(
        signing.CreateCodeSigningConfigRequest(code_signing_config=config, tags={"team": "a"})
    )
    for name in (mapping.name, made.code_signing_config.name):
        assert dict((await doors.tags.ListTags(tags_pb2.ListTagsRequest(name=name))).tags) == {"team": "a"}
        await doors.tags.AddTags(tags_pb2.AddTagsRequest(name=name, tags={"x": "y"}))
        left = await doors.tags.RemoveTags(tags_pb2.RemoveTagsRequest(name=name, tag_names=["team"]))
        assert dict(left.tags) == {"x": "y"}
    gone = tags_pb2.ListTagsRequest(name=f"eventSourceMappings/{NOBODY}")
    assert code(await refusal(doors.tags.ListTags(gone))) == "NOT_FOUND"
