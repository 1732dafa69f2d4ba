"""A plugin of the pytest that runs moto's tests, in moto's environment: clients speak to servers, nothing is mocked.

A client of `lambda` or `logs` gets the engine of its region for its endpoint, every other one moto's server. Where
`mock_aws` would throw away moto's state, both are emptied. The runtime that the tests use is one that the engine has.
CLEAVE_MOTO holds what the runner says, as JSON: `engines` (URLs by region), `server`, `runtime`, and `results`, the
file for what came of each test.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError

TOLD = json.loads(os.environ["CLEAVE_MOTO"])
OF_THE_ENGINE = ("lambda", "logs")
touched: set[str] = set()
"""Regions whose engine a client was made for since it was last emptied."""
results: dict[str, dict[str, str]] = {}

create_client: Callable[..., Any] = botocore.session.Session.create_client


def routed(session: Any, service_name: str, region_name: str | None = None, *args: Any, **settings: Any) -> Any:
    """Session.create_client, with an endpoint."""
    if settings.get("endpoint_url") is None:
        settings["endpoint_url"] = TOLD["server"]
        if service_name in OF_THE_ENGINE:
            region = region_name or session.get_config_variable("region")
            settings["endpoint_url"] = TOLD["engines"][region]
            touched.add(region)
    return create_client(session, service_name, region_name, *args, **settings)


def enable(mock: Any, reset: bool = True) -> None:
    """What `mock_aws` does first."""
    if reset:
        empty(mock)


def disable(mock: Any, remove_data: bool) -> None:
    """What it does at its end."""
    if remove_data:
        empty(mock)


def empty(mock: Any) -> None:
    """Leave nothing in moto's server, and in no engine that was spoken to."""
    urllib.request.urlopen(f"{TOLD['server']}/moto-api/reset", data=b"").close()
    for region in sorted(touched):
        empty_engine(region)
    touched.clear()


def empty_engine(region: str) -> None:
    """Delete all there is, through the API."""
    settings: Any = {"region_name": region, "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    client, logs = boto3.client("lambda", **settings), boto3.client("logs", **settings)
    for mapping in pages(client, "list_event_source_mappings", "EventSourceMappings"):
        with contextlib.suppress(ClientError):  # one whose deletion is under way
            client.delete_event_source_mapping(UUID=mapping["UUID"])
    for function in pages(client, "list_functions", "Functions"):
        client.delete_function(FunctionName=function["FunctionName"])
    for layer in pages(client, "list_layers", "Layers"):
        for version in client.list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"]:
            client.delete_layer_version(LayerName=layer["LayerName"], VersionNumber=version["Version"])
    for signing in pages(client, "list_code_signing_configs", "CodeSigningConfigs"):
        client.delete_code_signing_config(CodeSigningConfigArn=signing["CodeSigningConfigArn"])
    for group in pages(logs, "describe_log_groups", "logGroups"):
        logs.delete_log_group(logGroupName=group["logGroupName"])
    client.close()
    logs.close()


def pages(client: Any, operation: str, member: str) -> Iterator[Any]:
    """All that an operation lists, read before any of it is deleted."""
    found = [one for page in client.get_paginator(operation).paginate() for one in page[member]]
    return iter(found)


def pytest_configure(config: pytest.Config) -> None:
    mock: Any = importlib.import_module("moto.core.models").MockAWS
    mock._enable_patching, mock._disable_patching, mock.reset = enable, disable, empty
    session: Any = botocore.session.Session
    session.create_client = routed
    sys.path.insert(0, str(config.rootpath))
    for module in ("tests.test_awslambda", "tests.test_awslambda.utilities"):
        found: Any = importlib.import_module(module)
        found.PYTHON_VERSION = TOLD["runtime"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = "xfailed" if report.skipped and hasattr(report, "wasxfail") else report.outcome
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.removeprefix("tests/test_awslambda/")
        why = "" if report.passed else str(report.longrepr)[-1_500:]
        if results.get(name, {}).get("outcome") != "failed":
            results[name] = {"outcome": outcome, "why": why}


def pytest_sessionfinish(session: pytest.Session) -> None:
    Path(TOLD["results"]).write_text(json.dumps(results))
