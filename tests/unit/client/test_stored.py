"""Event source mappings, code signing and small settings by each client: over gRPC, and in the process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine import AsyncClient, Client
from engine.client.async_stored import AsyncStoredCalls
from engine.client.stored_calls import StoredCall
from engine.client.stored_wire import STORED
from engine.client.sync_stored import StoredCalls
from engine.embedded import Engine
from engine.errors import AlreadyExists, EngineError, InvalidArgument, NotFound
from engine.registry.mappings import MappingState
from engine.registry.stored import Stored
from engine.rpc import code_signing, event_sources, function_settings
from tests.registries import Served, served
from tests.unit.rpc.things import ACCOUNT, REGION

T = TypeVar("T")
Ask = Callable[..., Awaitable[Any]]
"""Make a call by its name."""
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/a"
KAFKA: Any = {
    "Topics": ["clicks"],
    "StartingPosition": "LATEST",
    "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:1"]}},
    "SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "s"}],
}


class Local(AsyncStoredCalls):
    """What engine.embedded.Engine does, without an engine."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    async def _ask(self, call: StoredCall[T]) -> T:
        return await call.local(self._stored)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as it:
        await it.registry.versions.publish("f")
        yield it


@pytest.fixture
def stored(it: Served) -> Stored:
    return Stored(it.registry, it.attached, region=REGION, account=ACCOUNT)


@pytest.fixture(params=["sync", "async", "local"])
async def ask(request: pytest.FixtureRequest, it: Served, stored: Stored) -> AsyncIterator[Ask]:
    if request.param == "sync":
        with Client(it.address) as client:
            yield lambda method, *args, **kwargs: asyncio.to_thread(getattr(client, method), *args, **kwargs)
    elif request.param == "async":
        async with AsyncClient(it.address) as calls:
            yield lambda method, *args, **kwargs: getattr(calls, method)(*args, **kwargs)
    else:
        local = Local(stored)
        yield lambda method, *args, **kwargs: getattr(local, method)(*args, **kwargs)


async def test_event_source_mappings(ask: Ask, stored: Stored) -> None:
    given = {"BatchSize": 5, "ScalingConfig": {"MaximumConcurrency": 7}}
    made = await ask("create_event_source_mapping", "f:1", QUEUE, settings=given, tags={"team": "a"})
    assert made.function_arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f:1"
    assert made.arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{made.mapping_id}"
    assert (made.source, made.state, made.state_reason) == ("sqs", MappingState.CREATING, "USER_INITIATED")
    assert made.settings == {**given, "EventSourceArn": QUEUE, "MaximumBatchingWindowInSeconds": 0}
    assert stored.tags.of("", stored.mappings.tag_key(made.mapping_id)) == {"team": "a"}
    with pytest.raises(AlreadyExists):
        await ask("create_event_source_mapping", "f:1", QUEUE)
    got = await ask("get_event_source_mapping", made.mapping_id)
    assert (got.state, got.settings, got.update_time) == (MappingState.ENABLED, made.settings, made.update_time)
    after = await ask(
        "update_event_source_mapping", made.mapping_id, settings={"ScalingConfig": {}}, enabled=False, name="f"
    )
    assert (after.state, "ScalingConfig" in after.settings) == (MappingState.DISABLING, False)
    assert after.function_arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    touched = await ask("update_event_source_mapping", made.mapping_id)
    assert (touched.state, touched.settings) == (MappingState.UPDATING, after.settings)
    other = await ask("create_event_source_mapping", "f:1", settings=KAFKA)
    assert (other.source, other.last_result) == ("kafka", "No records processed")
    assert len(await ask("list_event_source_mappings")) == 2
    (found,) = await ask("list_event_source_mappings", "f:1")
    assert (found.mapping_id, found.settings) == (other.mapping_id, other.settings)
    (found,) = await ask("list_event_source_mappings", source_arn=QUEUE)
    assert (found.mapping_id, found.state) == (made.mapping_id, MappingState.DISABLED)
    assert (await ask("delete_event_source_mapping", made.mapping_id)).state is MappingState.DELETING
    with pytest.raises(NotFound):
        await ask("get_event_source_mapping", made.mapping_id)
    for wrong in ({"Colour": 1}, {"BatchSize": 0}, {"BatchSize": "many"}, {"ParallelizationFactor": 2}):
        with pytest.raises(InvalidArgument):
            await ask("create_event_source_mapping", "f", QUEUE, settings=wrong)
    with pytest.raises(NotFound):
        await ask("create_event_source_mapping", "g", QUEUE)


async def test_a_moment_to_begin_at(ask: Ask) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    begin = {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": moment}
    made = await ask("create_event_source_mapping", "f", STREAM, settings=begin)
    assert made.settings["StartingPositionTimestamp"] == moment.timestamp()


async def test_code_signing(ask: Ask) -> None:
    made = await ask("create_code_signing_config", [PROFILE], description="a")
    config, arn = made["CodeSigningConfigId"], made["CodeSigningConfigArn"]
    assert made["AllowedPublishers"] == {"SigningProfileVersionArns": [PROFILE]}
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert await ask("get_code_signing_config", arn) == made
    assert await ask("get_function_code_signing_config", "f") == ""
    await ask("put_function_code_signing_config", "f", config)
    assert await ask("get_function_code_signing_config", "f") == config
    assert await ask("list_functions_by_code_signing_config", config) == ["f"]
    with pytest.raises(EngineError, match="functions have it"):
        await ask("delete_code_signing_config", config)
    with pytest.raises(InvalidArgument):
        await ask("update_code_signing_config", config, enforce=True)
    await ask("delete_function_code_signing_config", "f")
    after = await ask("update_code_signing_config", config, enforce=True, profiles=[PROFILE, f"{PROFILE}b"])
    assert after["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
    assert (after["Description"], len(after["AllowedPublishers"]["SigningProfileVersionArns"])) == ("a", 2)
    assert await ask("list_code_signing_configs") == [after]
    await ask("delete_code_signing_config", config)
    with pytest.raises(NotFound):
        await ask("get_code_signing_config", config)


async def test_small_settings(ask: Ask) -> None:
    assert await ask("get_function_recursion_config", "f") == "Terminate"
    assert await ask("put_function_recursion_config", "f", "Allow") == "Allow"
    assert await ask("get_function_recursion_config", "f") == "Allow"
    own = f"arn:aws:lambda:{REGION}::runtime:python3.11"
    manual = {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": own}
    put = await ask("put_runtime_management_config", "f", "Manual", runtime_version_arn=own, qualifier="1")
    assert put == await ask("get_runtime_management_config", "f:1") == manual
    assert await ask("get_runtime_management_config", "f") == {"UpdateRuntimeOn": "Auto"}
    assert await ask("get_function_scaling_config", "f", 1) is None
    await ask("put_function_scaling_config", "f", 1, least=0, most=4)
    wanted = {"MinExecutionEnvironments": 0, "MaxExecutionEnvironments": 4}
    assert await ask("get_function_scaling_config", "f", "1") == wanted
    await ask("put_function_scaling_config", "f", 1)
    assert await ask("get_function_scaling_config", "f", 1) is None
    for method, *arguments in (
        ("put_function_recursion_config", "f", "Never"),
        ("put_runtime_management_config", "f", "Never"),
        ("put_runtime_management_config", "f", "Manual"),
        ("put_function_scaling_config", "f", 1, -1, None),
    ):
        with pytest.raises((InvalidArgument, TypeError)):
            await ask(method, *arguments)
    with pytest.raises(NotFound):
        await ask("get_function_recursion_config", "g")


def test_every_client_has_the_same_calls_for_each_rpc_that_there_is() -> None:
    def calls(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert calls(StoredCalls) == calls(AsyncStoredCalls)
    for name in calls(StoredCalls):
        here, there = (inspect.signature(getattr(kind, name)) for kind in (StoredCalls, AsyncStoredCalls))
        assert here.parameters == there.parameters
    assert issubclass(Client, StoredCalls)
    assert issubclass(AsyncClient, AsyncStoredCalls)
    assert issubclass(Engine, AsyncStoredCalls)
    rooms = (event_sources, code_signing, function_settings)
    assert set(STORED) == {name for room in rooms for name in room.SERVICE.methods_by_name}
    assert len(calls(StoredCalls)) == len(STORED)


async def test_settings_that_are_only_kept(it: Served) -> None:
    queue, key = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
    async with AsyncClient(it.address) as client:
        await client.update_function("f", dead_letter_arn=queue, kms_key_arn=key, tracing=True, snap_start=True)
        config = (await client.update_function("f", description="the rest stays")).config
        assert (config.dead_letter_arn, config.kms_key_arn) == (queue, key)
        assert (config.tracing, config.snap_start) == (True, True)
        assert it.registry.list(limit=1)[0][0].config.aws_settings == {
            "DeadLetterConfig": {"TargetArn": queue},
            "KMSKeyArn": key,
            "TracingConfig": {"Mode": "Active"},
            "SnapStart": {"ApplyOn": "PublishedVersions"},
        }
        for wrong in ("a", key):
            with pytest.raises(InvalidArgument, match="dead_letter_arn"):
                await client.update_function("f", dead_letter_arn=wrong)
        with pytest.raises(InvalidArgument, match="kms_key_arn"):
            await client.update_function("f", kms_key_arn="k")
        await client.update_function("f", dead_letter_arn="", kms_key_arn="", tracing=False, snap_start=False)
        assert it.registry.list(limit=1)[0][0].config.aws_settings == {}


async def test_a_log_group_of_its_own(it: Served) -> None:
    async with AsyncClient(it.address) as client:
        assert (await client.update_function("f", log_group="/own")).config.log_group == "/own"
        assert it.registry.list(limit=1)[0][0].config.aws_settings == {"LogGroup": "/own"}
        assert (await client.update_function("f", log_group="")).config.log_group == ""
        with pytest.raises(InvalidArgument, match="log_group"):
            await client.update_function("f", log_group="a b")
