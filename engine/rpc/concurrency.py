"""ConcurrencyService: reserved and provisioned concurrency, and the account, over the registry."""

from __future__ import annotations

from collections.abc import Mapping

from engine.model.concurrency import Provisioned, ProvisionedStatus
from engine.model.names import FunctionRef, function_arn, parse_resource_name
from engine.registry.api import Registry
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.convert import timestamp
from engine.rpc.names import whole_function
from engine.v1 import concurrency_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["ConcurrencyService"]

STATUS: dict[ProvisionedStatus, pb.ProvisionedStatus.ValueType] = {
    ProvisionedStatus.IN_PROGRESS: pb.PROVISIONED_STATUS_IN_PROGRESS,
    ProvisionedStatus.READY: pb.PROVISIONED_STATUS_READY,
    ProvisionedStatus.FAILED: pb.PROVISIONED_STATUS_FAILED,
}


class ConcurrencyService:
    """Sets and reads concurrency."""

    def __init__(self, registry: Registry, *, region: str, account: str) -> None:
        self._registry = registry
        self._region = region
        self._account = account

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "PutFunctionConcurrency": self.put,
            "GetFunctionConcurrency": self.get,
            "DeleteFunctionConcurrency": self.delete,
            "PutProvisionedConcurrencyConfig": self.provision,
            "GetProvisionedConcurrencyConfig": self.provisioned,
            "ListProvisionedConcurrencyConfigs": self.list_provisioned,
            "DeleteProvisionedConcurrencyConfig": self.unprovision,
            "GetAccountSettings": self.account,
        }

    async def put(self, request: pb.PutFunctionConcurrencyRequest) -> pb.PutFunctionConcurrencyResponse:
        """Give a function concurrency of its own."""
        reserved = await self._registry.concurrency.reserve(
            whole_function(request.name), request.reserved_concurrent_executions
        )
        return pb.PutFunctionConcurrencyResponse(reserved_concurrent_executions=reserved)

    async def get(self, request: pb.GetFunctionConcurrencyRequest) -> pb.GetFunctionConcurrencyResponse:
        """Read it."""
        reserved = self._registry.concurrency.reserved(whole_function(request.name))
        return pb.GetFunctionConcurrencyResponse(reserved_concurrent_executions=reserved)

    async def delete(self, request: pb.DeleteFunctionConcurrencyRequest) -> pb.DeleteFunctionConcurrencyResponse:
        """Take it back."""
        await self._registry.concurrency.unreserve(whole_function(request.name))
        return pb.DeleteFunctionConcurrencyResponse()

    async def provision(
        self, request: pb.PutProvisionedConcurrencyConfigRequest
    ) -> pb.PutProvisionedConcurrencyConfigResponse:
        """Ask for environments of a version or an alias."""
        ref = parse_resource_name(request.name)
        found = await self._registry.concurrency.provision(ref, request.requested)
        return pb.PutProvisionedConcurrencyConfigResponse(config=self._proto(found))

    async def provisioned(
        self, request: pb.GetProvisionedConcurrencyConfigRequest
    ) -> pb.GetProvisionedConcurrencyConfigResponse:
        """Read what was asked for and what there is."""
        found = self._registry.concurrency.provisioned(parse_resource_name(request.name))
        return pb.GetProvisionedConcurrencyConfigResponse(config=self._proto(found))

    async def list_provisioned(
        self, request: pb.ListProvisionedConcurrencyConfigsRequest
    ) -> pb.ListProvisionedConcurrencyConfigsResponse:
        """List a page of configurations."""
        found, after = self._registry.concurrency.list_provisioned(
            whole_function(request.parent, "parent"),
            limit=pages.page_limit(request.page_size),
            after=pages.page_start(request.page_token),
        )
        return pb.ListProvisionedConcurrencyConfigsResponse(
            configs=[self._proto(one) for one in found], next_page_token=pages.page_token(after)
        )

    async def unprovision(
        self, request: pb.DeleteProvisionedConcurrencyConfigRequest
    ) -> pb.DeleteProvisionedConcurrencyConfigResponse:
        """Ask for none any more."""
        await self._registry.concurrency.unprovision(parse_resource_name(request.name))
        return pb.DeleteProvisionedConcurrencyConfigResponse()

    async def account(self, request: pb.GetAccountSettingsRequest) -> pb.GetAccountSettingsResponse:
        """Read the limits of the account."""
        found = self._registry.concurrency.account()
        return pb.GetAccountSettingsResponse(
            concurrent_executions=found.concurrency,
            unreserved_concurrent_executions=found.unreserved,
            code_limit_bytes=found.code_limit_bytes,
            unpacked_limit_bytes=found.unpacked_limit_bytes,
            zip_limit_bytes=found.zip_limit_bytes,
            functions=found.functions,
            code_bytes=found.code_bytes,
        )

    def _proto(self, found: Provisioned) -> pb.ProvisionedConcurrencyConfig:
        config, allocation = found.config, found.allocation
        ref = FunctionRef(config.function_name, config.qualifier)
        return pb.ProvisionedConcurrencyConfig(
            name=ref.resource_name(),
            requested=config.requested,
            allocated=allocation.allocated,
            available=allocation.available,
            status=STATUS[allocation.status],
            status_reason=allocation.reason,
            update_time=timestamp(config.update_time),
            arn=function_arn(self._region, self._account, ref),
        )
