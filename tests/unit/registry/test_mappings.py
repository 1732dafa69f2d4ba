"""Event source mappings as they are kept: their states, and what a door that checks nothing may ask for."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.errors import InvalidArgument
from engine.registry.attached import MIGRATIONS, Attached
from engine.registry.mappings import TRANSITIONS, EventSourceMapping, EventSourceMappings, MappingInUse, moved
from engine.registry.mappings import MappingState as State
from tests.compat.stub_rooms import ACCOUNT, REGION, MemoryStore, StubCodeStore, StubRegistry

FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
SETTLED = {State.ENABLED, State.DISABLED}


@pytest.fixture
def mappings() -> EventSourceMappings:
    attached = Attached(MemoryStore(MIGRATIONS), StubRegistry(StubCodeStore()))
    return EventSourceMappings(attached, region=REGION, account=ACCOUNT)


def mapping_in(state: State) -> EventSourceMapping:
    return EventSourceMapping("id", "arn", FUNCTION, "sqs", state, "", datetime(2026, 1, 1, tzinfo=UTC), "", {})


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_a_state_follows_another_only_by_the_table(before: State, after: State) -> None:
    if after in TRANSITIONS[before]:
        assert moved(mapping_in(before), after).state is after
    else:
        with pytest.raises(MappingInUse):
            moved(mapping_in(before), after)


def test_every_change_settles_and_no_settled_state_settles_by_itself() -> None:
    for state in State:
        follows = TRANSITIONS[state]
        assert not follows & SETTLED if state in SETTLED or state is State.DELETING else follows <= SETTLED


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_change_has_settled_at_the_next_read(mappings: EventSourceMappings, enabled: bool) -> None:
    settled = State.ENABLED if enabled else State.DISABLED
    made = await mappings.create(FUNCTION, {"EventSourceArn": QUEUE}, enabled=enabled, tags={})
    assert (made.state, mappings.get(made.mapping_id).state) == (State.CREATING, settled)
    updated = await mappings.update(made.mapping_id, {"BatchSize": 5})
    assert (updated.state, mappings.get(made.mapping_id).state) == (State.UPDATING, settled)
    assert (await mappings.update(made.mapping_id, {}, enabled=not enabled)).state is not State.UPDATING
    assert mappings.get(made.mapping_id).state in SETTLED - {settled}
    assert (await mappings.delete(made.mapping_id)).state is State.DELETING
    assert mappings.ids() == []


@pytest.mark.parametrize(
    "settings",
    [
        {"BatchSize": 0},
        {"BatchSize": 10_001},
        {"MaximumBatchingWindowInSeconds": 301},
        {"ParallelizationFactor": 11},
        {"MaximumRecordAgeInSeconds": 604_801},
        {"MaximumRetryAttempts": -2},
        {"TumblingWindowInSeconds": 901},
        {"StartingPosition": "MIDDLE"},
        {"FunctionResponseTypes": ["All"]},
        {"FunctionResponseTypes": ["ReportBatchItemFailures"] * 2},
        {"MetricsConfig": {"Metrics": ["Count"]}},
        {"FilterCriteria": {"Filters": [{"Pattern": '{"a": ["' + "b" * 4_096 + '"]}'}]}},
        {"Colour": "red"},
    ],
)
async def test_the_ranges_of_the_service_model_hold_at_every_door(
    mappings: EventSourceMappings, settings: dict[str, Any]
) -> None:
    stream = {"EventSourceArn": STREAM, "StartingPosition": "LATEST"}
    with pytest.raises(InvalidArgument) as refused:
        await mappings.create(FUNCTION, {**stream, **settings}, tags={})
    assert next(iter(refused.value.fields)).split(".")[0] in settings
    if "StartingPosition" not in settings:
        made = await mappings.create(FUNCTION, stream, tags={})
        with pytest.raises(InvalidArgument):
            await mappings.update(made.mapping_id, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"Topics": [""]},
        {"Topics": [".x"]},
        {"Topics": ["a", "b"]},
        {"Topics": "clicks"},
        {"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka"]}}},
        {"SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": ""}]},
        {"SourceAccessConfigurations": ["BASIC_AUTH"]},
        {"SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "s"}] * 24},
        {"SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g" * 201}},
        {"ProvisionedPollerConfig": {"MinimumPollers": 201}},
        {"ProvisionedPollerConfig": {"MinimumPollers": "1"}},
        {"ProvisionedPollerConfig": {"PollerGroupName": "a b"}},
        {"LoggingConfig": {"SystemLogLevel": "TRACE"}},
        {"DestinationConfig": {"OnFailure": {"Destination": "kafka://.x"}}},
        {"KMSKeyArn": "key"},
    ],
)
async def test_what_the_service_model_says_of_texts_holds_at_every_door(
    mappings: EventSourceMappings, settings: dict[str, Any]
) -> None:
    kafka: dict[str, Any] = {
        "Topics": ["clicks"],
        "StartingPosition": "LATEST",
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka.example:9092"]}},
        "SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "s"}],
        "DestinationConfig": {"OnFailure": {"Destination": "kafka://failures"}},
        "KMSKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k",
    }
    with pytest.raises(InvalidArgument):
        await mappings.create(FUNCTION, {**kafka, **settings}, tags={})
    assert (await mappings.create(FUNCTION, kafka, tags={})).settings.items() >= kafka.items()


async def test_where_a_mapping_reads_is_never_changed(mappings: EventSourceMappings) -> None:
    made = await mappings.create(FUNCTION, {"EventSourceArn": QUEUE}, tags={})
    with pytest.raises(InvalidArgument, match="EventSourceArn cannot be changed"):
        await mappings.update(made.mapping_id, {"EventSourceArn": f"{QUEUE}2"})
