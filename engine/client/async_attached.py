"""Tags, function URLs and policies for async callers: the part of engine.client.calls.AsyncCalls about them.

Policies are stored and returned as on AWS: nothing decides by them yet. Documents have AWS's names and values.
"""

from __future__ import annotations

import abc
from collections.abc import Collection
from typing import TypeVar

from engine.client import attached_calls as calls
from engine.client.attached_calls import Policy, Tags, Url
from engine.client.stored_calls import Document, StoredCall
from engine.model.layer import LayerRef

T = TypeVar("T")


class AsyncAttachedCalls(abc.ABC):
    """Every call raises EngineError for what the engine refuses; `name` may be a name, name:qualifier or an ARN,
    `layer` is name:version or an ARN."""

    @abc.abstractmethod
    async def _ask(self, call: StoredCall[T]) -> T: ...

    async def add_tags(self, resource: str, tags: Tags) -> Tags:
        """Give a resource tags, in place of those with the same names; returns all that it has. `resource` is a
        function's name, or the ARN of a function, an event source mapping or a code signing configuration. Raises
        NotFound, InvalidArgument."""
        return await self._ask(calls.add_tags(resource, tags))

    async def remove_tags(self, resource: str, names: Collection[str]) -> Tags:
        """Take tags away, and return what is left. Fine for those that are not there. Raises NotFound."""
        return await self._ask(calls.remove_tags(resource, names))

    async def list_tags(self, resource: str) -> Tags:
        """Raises NotFound."""
        return await self._ask(calls.list_tags(resource))

    async def create_url(
        self, name: str, *, auth_type: str = "NONE", invoke_mode: str = "BUFFERED", cors: Document | None = None
    ) -> Url:
        """Give a function or an alias (name:live) a URL. `cors` is such as {"AllowOrigins": ["*"]}. Raises NotFound,
        AlreadyExists, InvalidArgument."""
        return await self._ask(calls.create_url(name, auth_type, invoke_mode, cors))

    async def get_url(self, name: str) -> Url:
        """That of a function, or of an alias of it. Raises NotFound."""
        return await self._ask(calls.get_url(name))

    async def list_urls(self, name: str) -> list[Url]:
        """That of a function, then those of its aliases. Raises NotFound."""
        return await self._ask(calls.list_urls(name))

    async def update_url(
        self, name: str, *, auth_type: str | None = None, invoke_mode: str | None = None, cors: Document | None = None
    ) -> Url:
        """Change what is given. Raises NotFound, InvalidArgument."""
        return await self._ask(calls.update_url(name, auth_type, invoke_mode, cors))

    async def delete_url(self, name: str) -> None:
        """Remove it; its id never comes again. Raises NotFound."""
        await self._ask(calls.delete_url(name))

    async def add_permission(
        self,
        name: str,
        statement_id: str,
        principal: str,
        *,
        action: str = "lambda:InvokeFunction",
        source_arn: str = "",
        source_account: str = "",
        principal_org_id: str = "",
        event_source_token: str = "",
        etag: str = "",
    ) -> Document:
        """Add a statement to a policy, and return it. `principal` is "*", an account, an ARN of IAM or a service such
        as s3.amazonaws.com. Raises AlreadyExists, StaleEtag, InvalidArgument, NotFound."""
        only = {
            "source_arn": source_arn,
            "source_account": source_account,
            "principal_org_id": principal_org_id,
            "event_source_token": event_source_token,
        }
        return await self._ask(calls.add_permission(name, statement_id, principal, action, only, etag))

    async def remove_permission(self, name: str, statement_id: str, *, etag: str = "") -> None:
        """Remove a statement, and with the last one the policy. Raises NotFound, StaleEtag."""
        await self._ask(calls.remove_permission(name, statement_id, etag))

    async def get_policy(self, name: str) -> Policy:
        """That of a function, a version or an alias. Raises NotFound."""
        return await self._ask(calls.get_policy(name))

    async def put_policy(self, name: str, policy: Document, *, etag: str = "") -> Policy:
        """Put a whole policy in place of what there is. Raises InvalidArgument, StaleEtag, NotFound."""
        return await self._ask(calls.put_policy(name, policy, etag))

    async def delete_policy(self, name: str, *, etag: str = "") -> None:
        """Remove it with all of its statements. Raises NotFound, StaleEtag."""
        await self._ask(calls.delete_policy(name, etag))

    async def add_layer_permission(
        self, layer: str | LayerRef, statement_id: str, principal: str, *, organization_id: str = "", etag: str = ""
    ) -> Document:
        """Let a principal (an account, its root, or "*") have a version of a layer; returns the statement. Raises
        AlreadyExists, StaleEtag, InvalidArgument, NotFound."""
        return await self._ask(calls.add_layer_permission(layer, statement_id, principal, organization_id, etag))

    async def get_layer_policy(self, layer: str | LayerRef) -> Policy:
        """Raises NotFound."""
        return await self._ask(calls.get_layer_policy(layer))

    async def remove_layer_permission(self, layer: str | LayerRef, statement_id: str, *, etag: str = "") -> None:
        """Remove a statement. Raises NotFound, StaleEtag."""
        await self._ask(calls.remove_layer_permission(layer, statement_id, etag))
