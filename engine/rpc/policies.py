"""PolicyService: who may invoke what, as statements of policies."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from engine.model.function import LATEST, Function
from engine.model.names import function_arn, parse_resource_name
from engine.registry.api import Registry
from engine.registry.policies import Policies, document, function_statement, wrong
from engine.rpc.calls import Method
from engine.v1 import policies_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyService"]

_MEMBERS = {
    "SourceArn": "source_arn",
    "SourceAccount": "source_account",
    "PrincipalOrgID": "principal_org_id",
    "EventSourceToken": "event_source_token",
}


class PolicyService:
    """Adds, removes and reads statements."""

    def __init__(self, registry: Registry, policies: Policies, *, region: str, account: str) -> None:
        self._registry = registry
        self._policies = policies
        self._region = region
        self._account = account

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "AddPermission": self.add,
            "RemovePermission": self.remove,
            "GetPolicy": self.get,
            "PutPolicy": self.put,
            "DeletePolicy": self.delete,
        }

    async def add(self, request: pb.AddPermissionRequest) -> pb.AddPermissionResponse:
        """Add a statement."""
        function, qualifier, arn = self._target(request.name)
        given = {name: getattr(request, field) or None for name, field in _MEMBERS.items()}
        statement = function_statement(request.statement_id, request.action, request.principal, arn, given)
        policy = await self._policies.add(function.name, qualifier, statement, revision=request.etag)
        return pb.AddPermissionResponse(statement=orjson.dumps(statement).decode(), etag=policy["RevisionId"])

    async def remove(self, request: pb.RemovePermissionRequest) -> pb.RemovePermissionResponse:
        """Remove a statement."""
        function, qualifier, _ = self._target(request.name)
        await self._policies.remove(function.name, qualifier, request.statement_id, revision=request.etag)
        return pb.RemovePermissionResponse()

    async def get(self, request: pb.GetPolicyRequest) -> pb.GetPolicyResponse:
        """Read a policy."""
        function, qualifier, _ = self._target(request.name)
        found = self._policies.get(function.name, qualifier)
        return pb.GetPolicyResponse(policy=document(found), etag=found["RevisionId"])

    async def put(self, request: pb.PutPolicyRequest) -> pb.PutPolicyResponse:
        """Put a whole policy in place of what there is."""
        function, qualifier, _ = self._target(request.name)
        policy = await self._policies.replace(function.name, qualifier, request.policy, revision=request.etag)
        return pb.PutPolicyResponse(policy=document(policy), etag=policy["RevisionId"])

    async def delete(self, request: pb.DeletePolicyRequest) -> pb.DeletePolicyResponse:
        """Remove a policy."""
        function, qualifier, _ = self._target(request.name)
        await self._policies.delete(function.name, qualifier, revision=request.etag)
        return pb.DeletePolicyResponse()

    def _target(self, resource_name: str) -> tuple[Function, str, str]:
        """What the policy is for: it, its qualifier, its ARN. Raises NotFound, InvalidArgument."""
        ref = parse_resource_name(resource_name)
        if resource_name.endswith(f"/{LATEST}"):
            raise wrong("name", f"is {LATEST}, which has no policy of its own")
        qualifier = "" if ref.qualifier == LATEST else ref.qualifier
        return self._registry.get(ref), qualifier, function_arn(self._region, self._account, ref)
