"""UrlService: function URLs as settings. Calls of them come over HTTP."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from engine.errors import InvalidArgument
from engine.model.function import LATEST
from engine.model.names import FunctionRef, function_arn, parse_resource_name
from engine.registry.api import Registry
from engine.registry.urls import MAX_AGE_S, MOST_VALUES, FunctionUrl, Urls, host_of, path_of
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.convert import timestamp
from engine.rpc.names import whole_function
from engine.v1 import urls_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["UrlService"]

CHANGEABLE = ("auth_type", "invoke_mode", "cors")
UNCHANGEABLE = frozenset(field.name for field in pb.Url.DESCRIPTOR.fields) - set(CHANGEABLE)
AUTH = {pb.URL_AUTH_TYPE_UNSPECIFIED: "NONE", pb.URL_AUTH_TYPE_NONE: "NONE", pb.URL_AUTH_TYPE_AWS_IAM: "AWS_IAM"}
MODES = {
    pb.URL_INVOKE_MODE_UNSPECIFIED: "BUFFERED",
    pb.URL_INVOKE_MODE_BUFFERED: "BUFFERED",
    pb.URL_INVOKE_MODE_RESPONSE_STREAM: "RESPONSE_STREAM",
}
_CORS = {
    "AllowCredentials": "allow_credentials",
    "AllowHeaders": "allow_headers",
    "AllowMethods": "allow_methods",
    "AllowOrigins": "allow_origins",
    "ExposeHeaders": "expose_headers",
    "MaxAge": "max_age_s",
}


class UrlService:
    """Makes, reads and changes URLs."""

    def __init__(self, registry: Registry, urls: Urls, *, region: str, account: str) -> None:
        self._registry = registry
        self._urls = urls
        self._region = region
        self._account = account

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "CreateUrl": self.create,
            "GetUrl": self.get,
            "ListUrls": self.list,
            "UpdateUrl": self.update,
            "DeleteUrl": self.delete,
        }

    async def create(self, request: pb.CreateUrlRequest) -> pb.CreateUrlResponse:
        """Make a URL."""
        name, qualifier = self._target(request.url.name)
        url = await self._urls.create(name, qualifier, _settings(request.url, ["auth_type", *_given(request.url)]))
        return pb.CreateUrlResponse(url=self._proto(url))

    async def get(self, request: pb.GetUrlRequest) -> pb.GetUrlResponse:
        """Read one."""
        return pb.GetUrlResponse(url=self._proto(self._urls.get(*self._target(request.name))))

    async def list(self, request: pb.ListUrlsRequest) -> pb.ListUrlsResponse:
        """List a page of them. Aliases begin with a character; the function's own comes before."""
        name = self._registry.get(FunctionRef(whole_function(request.parent, "parent"))).name
        found = [(f"/{key}", url) for key, url in self._urls.of(name).items()]
        limit = pages.page_limit(request.page_size)
        start = bisect_right([key for key, _ in found], pages.page_start(request.page_token))
        here = found[start : start + limit]
        after = here[-1][0] if start + limit < len(found) else ""
        return pb.ListUrlsResponse(urls=[self._proto(url) for _, url in here], next_page_token=pages.page_token(after))

    async def update(self, request: pb.UpdateUrlRequest) -> pb.UpdateUrlResponse:
        """Change what the mask selects."""
        name, qualifier = self._target(request.url.name)
        chosen = _selected(request.update_mask.paths, request.url)
        return pb.UpdateUrlResponse(
            url=self._proto(await self._urls.update(name, qualifier, _settings(request.url, chosen)))
        )

    async def delete(self, request: pb.DeleteUrlRequest) -> pb.DeleteUrlResponse:
        """Remove one."""
        await self._urls.delete(*self._target(request.name))
        return pb.DeleteUrlResponse()

    def _target(self, resource_name: str) -> tuple[str, str]:
        """A function or an alias that is there, as name and qualifier. Raises NotFound, InvalidArgument."""
        ref = parse_resource_name(resource_name)
        if "/versions/" in resource_name:
            raise InvalidArgument(
                f"{resource_name} cannot have a URL: a version is reached by an alias",
                fix=f"use functions/{ref.name} or functions/{ref.name}/aliases/{{alias}}",
                fields={"name": "must be of a function or an alias"},
            )
        self._registry.get(ref)
        return ref.name, "" if ref.qualifier == LATEST else ref.qualifier

    def _proto(self, url: FunctionUrl) -> pb.Url:
        ref = FunctionRef(url.function_name, url.qualifier or LATEST)
        cors = url.settings.get("Cors")
        return pb.Url(
            name=ref.resource_name(),
            url_id=url.url_id,
            auth_type=pb.UrlAuthType.Value(f"URL_AUTH_TYPE_{url.settings['AuthType']}"),
            invoke_mode=pb.UrlInvokeMode.Value(f"URL_INVOKE_MODE_{url.settings['InvokeMode']}"),
            cors=None if cors is None else pb.Cors(**{_CORS[name]: value for name, value in cors.items()}),
            host=host_of(url.url_id, self._region),
            path=path_of(url.url_id),
            create_time=timestamp(datetime.fromisoformat(url.create_time)),
            update_time=timestamp(datetime.fromisoformat(url.update_time)),
            arn=function_arn(self._region, self._account, ref),
        )


def _given(url: pb.Url) -> list[str]:
    return [field.name for field, _ in url.ListFields()]


def _selected(paths: Iterable[str], url: pb.Url) -> Iterable[str]:
    """What the paths of a mask choose. Raises InvalidArgument that names each path that is none."""
    paths = list(paths)
    if not paths:
        return _given(url)
    if paths == ["*"]:
        return CHANGEABLE
    unknown = ", ".join(repr(path) for path in paths if path not in CHANGEABLE and path not in UNCHANGEABLE)
    if unknown:
        raise InvalidArgument(
            f"update_mask names what a URL does not have: {unknown}",
            fix=f'use {", ".join(CHANGEABLE)}, or "*" alone',
            fields={"update_mask": f"unknown: {unknown}"},
        )
    return paths


def _settings(url: pb.Url, chosen: Iterable[str]) -> dict[str, Any]:
    """The settings by AWS's names. Raises InvalidArgument."""
    chosen = set(chosen)
    settings: dict[str, Any] = {}
    if "auth_type" in chosen:
        settings["AuthType"] = _value(AUTH, url.auth_type, "auth_type")
    if "invoke_mode" in chosen:
        settings["InvokeMode"] = _value(MODES, url.invoke_mode, "invoke_mode")
    if "cors" in chosen:
        settings["Cors"] = _cors(url.cors)
    return settings


def _value(values: Mapping[Any, str], number: int, field: str) -> str:
    if number not in values:
        raise InvalidArgument(
            f"{field} {number} is none that this engine knows", fix="use one of the enum", fields={field: "unknown"}
        )
    return values[number]


def _cors(cors: pb.Cors) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in _CORS.items():
        value = getattr(cors, field)
        if name in MOST_VALUES:
            value = list(value)
            if len(value) > MOST_VALUES[name]:
                raise InvalidArgument(
                    f"cors.{field} has {len(value)} values: at most {MOST_VALUES[name]}",
                    fix="leave some out",
                    fields={f"cors.{field}": "too many"},
                )
        if value:
            found[name] = value
    if not 0 <= cors.max_age_s <= MAX_AGE_S:
        raise InvalidArgument(
            f"cors.max_age_s is {cors.max_age_s}: must be 0 to {MAX_AGE_S:,}",
            fix="use seconds within that",
            fields={"cors.max_age_s": "out of range"},
        )
    return found
