"""What the HTTP API can do to a resource, engine.v1 and the command can do too: the three lists.

Each operation that HTTP serves has its gRPC method and its command here, or is on the list of those that only HTTP has
so far. Who serves an operation adds a line; who gives it another door moves it.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import orjson
import pytest
import typer.main

from engine.cli.main import build_app
from tests.compat.stub_rooms import Rooms
from tests.unit.rest.conftest import Wire

PROJECT = Path(__file__).parents[3]
DOORS: dict[str, tuple[str, str]] = {
    "CreateAlias": ("AliasService.CreateAlias", "aliases create"),
    "CreateFunction": ("FunctionService.CreateFunction", "deploy"),
    "DeleteAlias": ("AliasService.DeleteAlias", "aliases delete"),
    "DeleteFunction": ("FunctionService.DeleteFunction", "delete"),
    "DeleteFunctionConcurrency": ("ConcurrencyService.DeleteFunctionConcurrency", "concurrency unreserve"),
    "DeleteProvisionedConcurrencyConfig": (
        "ConcurrencyService.DeleteProvisionedConcurrencyConfig",
        "concurrency unprovision",
    ),
    "GetAccountSettings": ("ConcurrencyService.GetAccountSettings", "concurrency account"),
    "GetAlias": ("AliasService.GetAlias", "aliases get"),
    "GetFunction": ("FunctionService.GetFunction", "get"),
    "GetFunctionConfiguration": ("FunctionService.GetFunction", "get"),
    "GetFunctionConcurrency": ("ConcurrencyService.GetFunctionConcurrency", "concurrency get"),
    "GetProvisionedConcurrencyConfig": ("ConcurrencyService.GetProvisionedConcurrencyConfig", "concurrency get"),
    "Invoke": ("InvocationService.Invoke", "invoke"),
    "InvokeAsync": ("InvocationService.InvokeAsync", "invoke"),
    "InvokeWithResponseStream": ("InvocationService.InvokeStream", "invoke"),
    "ListAliases": ("AliasService.ListAliases", "aliases list"),
    "ListFunctions": ("FunctionService.ListFunctions", "list"),
    "ListProvisionedConcurrencyConfigs": ("ConcurrencyService.ListProvisionedConcurrencyConfigs", "concurrency get"),
    "ListVersionsByFunction": ("VersionService.ListVersions", "versions list"),
    "PublishVersion": ("VersionService.PublishVersion", "versions publish"),
    "PutFunctionConcurrency": ("ConcurrencyService.PutFunctionConcurrency", "concurrency reserve"),
    "PutProvisionedConcurrencyConfig": (
        "ConcurrencyService.PutProvisionedConcurrencyConfig",
        "concurrency provision",
    ),
    "CreateFunctionUrlConfig": ("UrlService.CreateUrl", "urls create"),
    "DeleteFunctionUrlConfig": ("UrlService.DeleteUrl", "urls delete"),
    "GetFunctionUrlConfig": ("UrlService.GetUrl", "urls get"),
    "ListFunctionUrlConfigs": ("UrlService.ListUrls", "urls list"),
    "UpdateFunctionUrlConfig": ("UrlService.UpdateUrl", "urls update"),
    "ListTags": ("TagService.ListTags", "tags list"),
    "TagResource": ("TagService.AddTags", "tags add"),
    "UntagResource": ("TagService.RemoveTags", "tags remove"),
    "AddPermission": ("PolicyService.AddPermission", "permissions add"),
    "GetPolicy": ("PolicyService.GetPolicy", "permissions get"),
    "RemovePermission": ("PolicyService.RemovePermission", "permissions remove"),
    "CreateCodeSigningConfig": ("CodeSigningService.CreateCodeSigningConfig", "signing create"),
    "DeleteCodeSigningConfig": ("CodeSigningService.DeleteCodeSigningConfig", "signing delete"),
    "GetCodeSigningConfig": ("CodeSigningService.GetCodeSigningConfig", "signing get"),
    "ListCodeSigningConfigs": ("CodeSigningService.ListCodeSigningConfigs", "signing list"),
    "UpdateCodeSigningConfig": ("CodeSigningService.UpdateCodeSigningConfig", "signing update"),
    "ListFunctionsByCodeSigningConfig": ("CodeSigningService.ListFunctionsByCodeSigningConfig", "signing functions"),
    "PutFunctionCodeSigningConfig": ("CodeSigningService.PutFunctionCodeSigningConfig", "signing set"),
    "GetFunctionCodeSigningConfig": ("CodeSigningService.GetFunctionCodeSigningConfig", "signing show"),
    "DeleteFunctionCodeSigningConfig": ("CodeSigningService.DeleteFunctionCodeSigningConfig", "signing unset"),
    "CreateEventSourceMapping": ("EventSourceService.CreateEventSourceMapping", "sources create"),
    "DeleteEventSourceMapping": ("EventSourceService.DeleteEventSourceMapping", "sources delete"),
    "GetEventSourceMapping": ("EventSourceService.GetEventSourceMapping", "sources get"),
    "ListEventSourceMappings": ("EventSourceService.ListEventSourceMappings", "sources list"),
    "UpdateEventSourceMapping": ("EventSourceService.UpdateEventSourceMapping", "sources update"),
    "GetFunctionRecursionConfig": ("FunctionSettingsService.GetFunctionRecursionConfig", "settings get"),
    "GetFunctionScalingConfig": ("FunctionSettingsService.GetFunctionScalingConfig", "settings get"),
    "GetRuntimeManagementConfig": ("FunctionSettingsService.GetRuntimeManagementConfig", "settings get"),
    "PutFunctionRecursionConfig": ("FunctionSettingsService.PutFunctionRecursionConfig", "settings set"),
    "PutFunctionScalingConfig": ("FunctionSettingsService.PutFunctionScalingConfig", "settings set"),
    "PutRuntimeManagementConfig": ("FunctionSettingsService.PutRuntimeManagementConfig", "settings set"),
    "DeleteResourcePolicy": ("PolicyService.DeletePolicy", "permissions delete"),
    "GetResourcePolicy": ("PolicyService.GetPolicy", "permissions get"),
    "PutResourcePolicy": ("PolicyService.PutPolicy", "permissions put"),
    "DeleteFunctionEventInvokeConfig": ("EventService.DeleteEventInvokeConfig", "events delete"),
    "GetFunctionEventInvokeConfig": ("EventService.GetEventInvokeConfig", "events get"),
    "ListFunctionEventInvokeConfigs": ("EventService.ListEventInvokeConfigs", "events list"),
    "PutFunctionEventInvokeConfig": ("EventService.PutEventInvokeConfig", "events put"),
    "UpdateFunctionEventInvokeConfig": ("EventService.UpdateEventInvokeConfig", "events update"),
    "AddLayerVersionPermission": ("LayerService.AddLayerVersionPermission", "layers permissions add"),
    "DeleteLayerVersion": ("LayerService.DeleteLayerVersion", "layers delete"),
    "GetLayerVersion": ("LayerService.GetLayerVersion", "layers get"),
    "GetLayerVersionByArn": ("LayerService.GetLayerVersion", "layers get"),
    "GetLayerVersionPolicy": ("LayerService.GetLayerVersionPolicy", "layers permissions get"),
    "ListLayerVersions": ("LayerService.ListLayerVersions", "layers list"),
    "ListLayers": ("LayerService.ListLayers", "layers list"),
    "PublishLayerVersion": ("LayerService.PublishLayerVersion", "layers publish"),
    "RemoveLayerVersionPermission": ("LayerService.RemoveLayerVersionPermission", "layers permissions remove"),
    "UpdateAlias": ("AliasService.UpdateAlias", "aliases update"),
    "UpdateFunctionCode": ("FunctionService.UpdateFunction", "deploy"),
    "UpdateFunctionConfiguration": ("FunctionService.UpdateFunction", "deploy"),
}
"""By the operation of AWS's API: the method of engine.v1 and the command that do the same."""

HTTP_ONLY_SO_FAR: set[str] = set()
"""The doors that are missing."""


def test_every_operation_that_http_serves_has_its_other_doors_or_is_on_the_list(wire: Wire, rooms: Rooms) -> None:
    served = set(orjson.loads(wire.ask("GET", "/").body)["serves"])
    assert served == set(DOORS) | HTTP_ONLY_SO_FAR
    assert not set(DOORS) & HTTP_ONLY_SO_FAR


@pytest.mark.parametrize(("method", "command"), sorted(set(DOORS.values())))
def test_the_other_doors_are_there(method: str, command: str) -> None:
    service, name = method.split(".")
    files = [
        importlib.import_module(f"engine.v1.{file.stem}_pb2") for file in (PROJECT / "proto/engine/v1").glob("*.proto")
    ]
    services = {key: found for file in files for key, found in file.DESCRIPTOR.services_by_name.items()}
    assert name in services[service].methods_by_name
    found: object = typer.main.get_command(build_app())
    for word in command.split():
        found = getattr(found, "commands", {}).get(word)
    assert found is not None
