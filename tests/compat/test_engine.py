"""A running engine, asked by boto3 for everything that it serves: each answer is held to the service model's shapes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.compat.conftest import make_client, make_logs_client
from tests.compat.test_errors import LATER
from tests.doors import ROLE, RUNTIME, zip_of
from tests.engines import engine

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(120)]

CODE = """
    import logging

    def handler(event, context):
        print("a line")
        logging.getLogger().warning("a warning")
        return {"stream": context.log_stream_name, "group": context.log_group_name}
"""
OTHER_CODE = "handler = lambda event, context: 2"
ARN = "arn:aws:lambda:us-east-1:000000000000:"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:jobs"
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/one/0123456789"


def walk(client: Any) -> None:
    """Every operation that is served, once at least, with success."""
    name = {"FunctionName": "walked"}
    client.create_function(
        **name, Runtime=RUNTIME, Role=ROLE, Handler="app.handler", Code={"ZipFile": zip_of(CODE)}, Tags={"a": "b"}
    )
    client.get_waiter("function_active_v2").wait(**name)
    client.get_function(**name)
    client.get_function_configuration(**name)
    client.list_functions(FunctionVersion="ALL")
    client.invoke(**name, LogType="Tail")
    [*client.invoke_with_response_stream(**name)["EventStream"]]
    client.update_function_configuration(**name, Timeout=5, LoggingConfig={"LogFormat": "JSON"})
    client.update_function_code(**name, ZipFile=zip_of(OTHER_CODE))
    client.get_waiter("function_updated_v2").wait(**name)
    client.publish_version(**name)
    client.list_versions_by_function(**name)
    client.create_alias(**name, Name="live", FunctionVersion="1")
    client.update_alias(**name, Name="live", Description="for all")
    client.get_alias(**name, Name="live")
    client.list_aliases(**name)
    client.get_account_settings()
    client.put_function_concurrency(**name, ReservedConcurrentExecutions=0)
    client.get_function_concurrency(**name)
    client.delete_function_concurrency(**name)
    client.put_provisioned_concurrency_config(**name, Qualifier="live", ProvisionedConcurrentExecutions=1)
    client.get_provisioned_concurrency_config(**name, Qualifier="live")
    client.list_provisioned_concurrency_configs(**name)
    client.delete_provisioned_concurrency_config(**name, Qualifier="live")
    client.add_permission(**name, StatementId="s", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")
    client.get_policy(**name)
    client.remove_permission(**name, StatementId="s")
    statement = {"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction"}
    policy = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": f"{ARN}function:walked"}]}
    client.put_resource_policy(ResourceArn=f"{ARN}function:walked", Policy=json.dumps(policy))
    client.get_resource_policy(ResourceArn=f"{ARN}function:walked")
    client.delete_resource_policy(ResourceArn=f"{ARN}function:walked")
    client.tag_resource(Resource=f"{ARN}function:walked", Tags={"c": "d"})
    client.list_tags(Resource=f"{ARN}function:walked")
    client.untag_resource(Resource=f"{ARN}function:walked", TagKeys=["c"])
    client.create_function_url_config(**name, AuthType="NONE")
    client.get_function_url_config(**name)
    client.update_function_url_config(**name, InvokeMode="RESPONSE_STREAM")
    client.list_function_url_configs(**name)
    client.delete_function_url_config(**name)
    client.put_function_event_invoke_config(**name, MaximumRetryAttempts=1)
    client.update_function_event_invoke_config(**name, MaximumRetryAttempts=0)
    client.get_function_event_invoke_config(**name)
    client.list_function_event_invoke_configs(**name)
    client.delete_function_event_invoke_config(**name)
    client.put_function_recursion_config(**name, RecursiveLoop="Allow")
    client.get_function_recursion_config(**name)
    client.put_runtime_management_config(**name, UpdateRuntimeOn="Auto")
    client.get_runtime_management_config(**name)
    mapping = client.create_event_source_mapping(**name, EventSourceArn=QUEUE)["UUID"]
    client.get_event_source_mapping(UUID=mapping)
    client.list_event_source_mappings(**name)
    client.update_event_source_mapping(UUID=mapping, BatchSize=5)
    client.delete_event_source_mapping(UUID=mapping)
    publishers = {"SigningProfileVersionArns": [PROFILE]}
    signing = client.create_code_signing_config(AllowedPublishers=publishers)["CodeSigningConfig"]
    config = {"CodeSigningConfigArn": signing["CodeSigningConfigArn"]}
    client.get_code_signing_config(**config)
    client.update_code_signing_config(**config, Description="one")
    client.list_code_signing_configs()
    client.put_function_code_signing_config(**name, **config)
    client.get_function_code_signing_config(**name)
    client.list_functions_by_code_signing_config(**config)
    client.delete_function_code_signing_config(**name)
    client.delete_code_signing_config(**config)
    client.delete_alias(**name, Name="live")
    client.delete_function(**name)


async def test_every_operation_that_is_served_succeeds_with_an_answer_of_the_models_shape(tmp_path: Path) -> None:
    async with engine(tmp_path) as one:
        url = f"http://127.0.0.1:{one.service.http_port}"
        client = make_client(url)
        succeeded: set[str] = set()

        def note(http_response: Any, model: Any, **_: Any) -> None:
            if http_response.status_code < 300:
                succeeded.add(model.name)

        client.meta.events.register("after-call.lambda", note)
        with contextlib.closing(client):
            await asyncio.to_thread(walk, client)
        served = set(orjson.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(url).read()))["serves"])
        assert {name for name in served - succeeded if not LATER.fullmatch(name)} == set()


async def test_what_a_function_writes_is_found_in_cloudwatch_logs(tmp_path: Path) -> None:
    async with engine(tmp_path) as one:
        await one.http.create("noted", zip_of(CODE))
        began_ms = time.time_ns() // 1_000_000
        about = json.loads((await one.http.invoke("noted")).payload)
        logs = make_logs_client(f"http://127.0.0.1:{one.service.http_port}")

        def read() -> tuple[Any, Any, Any]:
            group = {"logGroupName": about["group"]}
            return (
                logs.describe_log_streams(**group)["logStreams"],
                logs.get_log_events(**group, logStreamName=about["stream"], startFromHead=True)["events"],
                logs.filter_log_events(**group, filterPattern='WARNING -"a line"')["events"],
            )

        with contextlib.closing(logs):
            streams, events, warnings = await asyncio.to_thread(read)
            kinds = [event["message"].split()[0] for event in events]
            assert kinds == ["INIT_START", "START", "a", "[WARNING]", "END", "REPORT"]
            assert all(began_ms <= event["timestamp"] <= event["ingestionTime"] for event in events)
            assert [stream["logStreamName"] for stream in streams] == [about["stream"]]
            assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", about["stream"])
            assert [event["message"] for event in warnings] == [events[3]["message"]]
            # In JSON, what the engine says is too; levels decide what is kept.
            settings: Any = {"LogFormat": "JSON", "ApplicationLogLevel": "ERROR"}
            change = one.http.client.update_function_configuration
            await asyncio.to_thread(lambda: change(FunctionName="noted", LoggingConfig=settings))
            await one.http.invoke("noted")
            pattern = '{ $.type = "platform.*" || $.level = "WARN*" || $.message = * }'
            found = await asyncio.to_thread(
                lambda: logs.filter_log_events(logGroupName=about["group"], filterPattern=pattern)["events"]
            )
            kinds = [json.loads(event["message"])["type"] for event in found]
            assert kinds[0] == "platform.initStart"
            assert kinds[-1] == "platform.report"
            assert {event["logStreamName"] for event in found}.isdisjoint({about["stream"]})
