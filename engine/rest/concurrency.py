"""Reserved and provisioned concurrency and the account's settings as AWS's clients have them, over the registry, in
AWS's own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InUse, InvalidArgument, NotFound, NotProvisioned
from engine.model.concurrency import Provisioned
from engine.model.function import LATEST
from engine.model.names import FunctionRef
from engine.rest.aliases import plainly
from engine.rest.configuration import last_modified
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

PAGE_MAX = 50


class Concurrency:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._registry = rooms.registry
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "DeleteFunctionConcurrency": self.delete,
            "DeleteProvisionedConcurrencyConfig": self.unprovision,
            "GetAccountSettings": self.account,
            "GetFunctionConcurrency": self.get,
            "GetProvisionedConcurrencyConfig": self.provisioned,
            "ListProvisionedConcurrencyConfigs": self.list_provisioned,
            "PutFunctionConcurrency": self.put,
            "PutProvisionedConcurrencyConfig": self.provision,
        }

    async def put(self, params: Params, request: Request) -> dict[str, Any]:
        """PutFunctionConcurrency."""
        name = self._named.unqualified(params)
        if self._named.find(name) is None:
            raise NotFound(f"Function not found: {self._documents.arn(name, LATEST)}")
        try:
            reserved = await self._registry.concurrency.reserve(name, params["ReservedConcurrentExecutions"])
        except InvalidArgument as error:
            raise plainly(error) from None
        except NotFound:
            raise self._named.missing(FunctionRef(name)) from None
        return {"ReservedConcurrentExecutions": reserved}

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionConcurrency: nothing where nothing is reserved."""
        reserved = self._registry.concurrency.reserved(self._function(params))
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunctionConcurrency."""
        name = self._function(params)
        try:
            await self._registry.concurrency.unreserve(name)
        except NotFound:
            raise self._named.missing(FunctionRef(name)) from None
        return {}

    async def provision(self, params: Params, request: Request) -> dict[str, Any]:
        """PutProvisionedConcurrencyConfig."""
        ref = self._named.ref(params)
        if ref.qualifier == LATEST:
            raise InvalidArgument(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
                fields={"Qualifier": "must be a version or an alias"},
            )
        try:
            found = await self._registry.concurrency.provision(ref, params["ProvisionedConcurrentExecutions"])
        except InvalidArgument as error:
            raise plainly(error) from None
        except InUse as error:
            raise InUse(error.message) from None
        except NotFound:
            raise self._missing(ref) from None
        return self._document(found)

    async def provisioned(self, params: Params, request: Request) -> dict[str, Any]:
        """GetProvisionedConcurrencyConfig."""
        ref = self._published(params)
        try:
            return self._document(self._registry.concurrency.provisioned(ref))
        except NotProvisioned as error:
            raise NotProvisioned(error.message) from None
        except NotFound:
            raise self._missing(ref) from None

    async def list_provisioned(self, params: Params, request: Request) -> dict[str, Any]:
        """ListProvisionedConcurrencyConfigs. The marker is the last version or alias of the page before."""
        name = self._function(params)
        found, more = self._registry.concurrency.list_provisioned(
            name, limit=min(params.get("MaxItems") or PAGE_MAX, PAGE_MAX), after=params.get("Marker") or ""
        )
        configs = [
            {"FunctionArn": self._documents.arn(name, one.config.qualifier), **self._document(one)} for one in found
        ]
        listed = {"ProvisionedConcurrencyConfigs": configs}
        return {**listed, "NextMarker": more} if more else listed

    async def unprovision(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteProvisionedConcurrencyConfig. One that is not there is no error, as on AWS."""
        ref = self._published(params)
        try:
            await self._registry.concurrency.unprovision(ref)
        except NotFound:
            raise self._missing(ref) from None
        return {}

    async def account(self, params: Params, request: Request) -> dict[str, Any]:
        """GetAccountSettings."""
        found = self._registry.concurrency.account()
        return {
            "AccountLimit": {
                "TotalCodeSize": found.code_limit_bytes,
                "CodeSizeUnzipped": found.unpacked_limit_bytes,
                "CodeSizeZipped": found.zip_limit_bytes,
                "ConcurrentExecutions": found.concurrency,
                "UnreservedConcurrentExecutions": found.unreserved,
            },
            "AccountUsage": {"TotalCodeSize": found.code_bytes, "FunctionCount": found.functions},
        }

    def _function(self, params: Params) -> str:
        """The function. Raises NotFound in AWS's words."""
        name = self._named.unqualified(params)
        self._named.function(FunctionRef(name))
        return name

    def _published(self, params: Params) -> FunctionRef:
        ref = self._named.ref(params)
        if ref.qualifier == LATEST:
            raise InvalidArgument(
                "The function resource provided must be an alias or a published version.",
                fields={"Qualifier": "must be a version or an alias"},
            )
        return ref

    def _document(self, found: Provisioned) -> dict[str, Any]:
        allocation = found.allocation
        document = {
            "RequestedProvisionedConcurrentExecutions": found.config.requested,
            "AvailableProvisionedConcurrentExecutions": allocation.available,
            "AllocatedProvisionedConcurrentExecutions": allocation.allocated,
            "Status": allocation.status.value,
            "LastModified": last_modified(found.config.update_time),
        }
        return {**document, "StatusReason": allocation.reason} if allocation.reason else document

    def _missing(self, ref: FunctionRef) -> NotFound:
        if ref.qualifier.isdigit():
            return self._named.missing(ref)
        return NotFound(f"Cannot find alias arn: {self._documents.arn(ref.name, ref.qualifier)}")
