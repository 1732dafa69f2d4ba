"""The calls of engine.client.attached_calls as RPCs of engine.v1: how a request is made, what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import orjson
from google.protobuf.field_mask_pb2 import FieldMask

from engine.client.attached_calls import Policy, Url
from engine.client.rpcs import Rpc
from engine.model.function import LATEST
from engine.model.names import parse_resource_name
from engine.v1 import (
    layers_pb2,
    layers_pb2_grpc,
    policies_pb2,
    policies_pb2_grpc,
    tags_pb2,
    tags_pb2_grpc,
    urls_pb2_grpc,
)
from engine.v1 import urls_pb2 as urls

_CORS = {
    "AllowCredentials": "allow_credentials",
    "AllowHeaders": "allow_headers",
    "AllowMethods": "allow_methods",
    "AllowOrigins": "allow_origins",
    "ExposeHeaders": "expose_headers",
    "MaxAge": "max_age_s",
}
_FIELDS = {"AuthType": "auth_type", "InvokeMode": "invoke_mode", "Cors": "cors"}


def url_from_proto(message: urls.Url) -> Url:
    """The whole resource."""
    ref = parse_resource_name(message.name)
    cors = {name: _plain(getattr(message.cors, field)) for name, field in _CORS.items()}
    return Url(
        function_name=ref.name,
        qualifier="" if ref.qualifier == LATEST else ref.qualifier,
        url_id=message.url_id,
        auth_type=urls.UrlAuthType.Name(message.auth_type).removeprefix("URL_AUTH_TYPE_"),
        invoke_mode=urls.UrlInvokeMode.Name(message.invoke_mode).removeprefix("URL_INVOKE_MODE_"),
        cors={name: value for name, value in cors.items() if value} if message.HasField("cors") else None,
        host=message.host,
        path=message.path,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else list(value)


def _made(fields: Mapping[str, Any]) -> urls.Url:
    settings = fields["settings"]
    url = urls.Url(name=fields["name"])
    if "AuthType" in settings:
        url.auth_type = urls.UrlAuthType.Value(f"URL_AUTH_TYPE_{settings['AuthType']}")
    if "InvokeMode" in settings:
        url.invoke_mode = urls.UrlInvokeMode.Value(f"URL_INVOKE_MODE_{settings['InvokeMode']}")
    if "Cors" in settings:
        url.cors.CopyFrom(urls.Cors(**{_CORS[name]: value for name, value in settings["Cors"].items()}))
    return url


def _create(fields: Mapping[str, Any]) -> urls.CreateUrlRequest:
    return urls.CreateUrlRequest(url=_made(fields))


def _update(fields: Mapping[str, Any]) -> urls.UpdateUrlRequest:
    paths = [field for name, field in _FIELDS.items() if name in fields["settings"]]
    # An empty mask would mean whatever is set.
    return urls.UpdateUrlRequest(url=_made(fields), update_mask=FieldMask(paths=paths or ["name"]))


def _nothing(message: Any) -> None:
    return None


def _tags(message: Any) -> Mapping[str, str]:
    return dict(message.tags)


def _url(message: Any) -> Url:
    return url_from_proto(message.url)


def _policy(message: Any) -> Policy:
    return Policy(orjson.loads(message.policy), message.etag)


def _statement(message: Any) -> Any:
    return orjson.loads(message.statement)


_TAGS = (tags_pb2_grpc.TagServiceStub, tags_pb2)
_URLS = (urls_pb2_grpc.UrlServiceStub, urls)
_POLICIES = (policies_pb2_grpc.PolicyServiceStub, policies_pb2)
_LAYERS = (layers_pb2_grpc.LayerServiceStub, layers_pb2)

ATTACHED: dict[str, Rpc] = {
    "AddTags": Rpc(*_TAGS, _tags),
    "RemoveTags": Rpc(*_TAGS, _tags),
    "ListTags": Rpc(*_TAGS, _tags),
    "CreateUrl": Rpc(*_URLS, _url, make=_create),
    "GetUrl": Rpc(*_URLS, _url),
    "ListUrls": Rpc(*_URLS, lambda answer: [url_from_proto(one) for one in answer.urls], True),
    "UpdateUrl": Rpc(*_URLS, _url, make=_update),
    "DeleteUrl": Rpc(*_URLS, _nothing),
    "AddPermission": Rpc(*_POLICIES, _statement),
    "RemovePermission": Rpc(*_POLICIES, _nothing),
    "GetPolicy": Rpc(*_POLICIES, _policy),
    "PutPolicy": Rpc(*_POLICIES, _policy),
    "DeletePolicy": Rpc(*_POLICIES, _nothing),
    "AddLayerVersionPermission": Rpc(*_LAYERS, _statement),
    "GetLayerVersionPolicy": Rpc(*_LAYERS, _policy),
    "RemoveLayerVersionPermission": Rpc(*_LAYERS, _nothing),
}
