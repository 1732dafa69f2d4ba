"""Tags, function URLs and policies for callers without an event loop: the part of engine.client.sync.Client on them.
The same calls as engine.client.async_attached.AsyncAttachedCalls, which documents them."""

from __future__ import annotations

import abc
from collections.abc import Collection
from typing import TypeVar

from engine.client import attached_calls as calls
from engine.client.attached_calls import Policy, Tags, Url
from engine.client.stored_calls import Document, StoredCall
from engine.model.layer import LayerRef

T = TypeVar("T")


class AttachedCalls(abc.ABC):
    """Every call raises EngineError for what the engine refuses."""

    @abc.abstractmethod
    def _ask(self, call: StoredCall[T]) -> T: ...

    def add_tags(self, resource: str, tags: Tags) -> Tags:
        """See AsyncAttachedCalls.add_tags."""
        return self._ask(calls.add_tags(resource, tags))

    def remove_tags(self, resource: str, names: Collection[str]) -> Tags:
        """See AsyncAttachedCalls.remove_tags."""
        return self._ask(calls.remove_tags(resource, names))

    def list_tags(self, resource: str) -> Tags:
        """See AsyncAttachedCalls.list_tags."""
        return self._ask(calls.list_tags(resource))

    def create_url(
        self, name: str, *, auth_type: str = "NONE", invoke_mode: str = "BUFFERED", cors: Document | None = None
    ) -> Url:
        """See AsyncAttachedCalls.create_url."""
        return self._ask(calls.create_url(name, auth_type, invoke_mode, cors))

    def get_url(self, name: str) -> Url:
        """See AsyncAttachedCalls.get_url."""
        return self._ask(calls.get_url(name))

    def list_urls(self, name: str) -> list[Url]:
        """See AsyncAttachedCalls.list_urls."""
        return self._ask(calls.list_urls(name))

    def update_url(
        self, name: str, *, auth_type: str | None = None, invoke_mode: str | None = None, cors: Document | None = None
    ) -> Url:
        """See AsyncAttachedCalls.update_url."""
        return self._ask(calls.update_url(name, auth_type, invoke_mode, cors))

    def delete_url(self, name: str) -> None:
        """See AsyncAttachedCalls.delete_url."""
        self._ask(calls.delete_url(name))

    def add_permission(
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
        """See AsyncAttachedCalls.add_permission."""
        only = {
            "source_arn": source_arn,
            "source_account": source_account,
            "principal_org_id": principal_org_id,
            "event_source_token": event_source_token,
        }
        return self._ask(calls.add_permission(name, statement_id, principal, action, only, etag))

    def remove_permission(self, name: str, statement_id: str, *, etag: str = "") -> None:
        """See AsyncAttachedCalls.remove_permission."""
        self._ask(calls.remove_permission(name, statement_id, etag))

    def get_policy(self, name: str) -> Policy:
        """See AsyncAttachedCalls.get_policy."""
        return self._ask(calls.get_policy(name))

    def put_policy(self, name: str, policy: Document, *, etag: str = "") -> Policy:
        """See AsyncAttachedCalls.put_policy."""
        return self._ask(calls.put_policy(name, policy, etag))

    def delete_policy(self, name: str, *, etag: str = "") -> None:
        """See AsyncAttachedCalls.delete_policy."""
        self._ask(calls.delete_policy(name, etag))

    def add_layer_permission(
        self, layer: str | LayerRef, statement_id: str, principal: str, *, organization_id: str = "", etag: str = ""
    ) -> Document:
        """See AsyncAttachedCalls.add_layer_permission."""
        return self._ask(calls.add_layer_permission(layer, statement_id, principal, organization_id, etag))

    def get_layer_policy(self, layer: str | LayerRef) -> Policy:
        """See AsyncAttachedCalls.get_layer_policy."""
        return self._ask(calls.get_layer_policy(layer))

    def remove_layer_permission(self, layer: str | LayerRef, statement_id: str, *, etag: str = "") -> None:
        """See AsyncAttachedCalls.remove_layer_permission."""
        self._ask(calls.remove_layer_permission(layer, statement_id, etag))
