"""What a client stores beside functions and reads back, put together: each room over the same documents."""

from __future__ import annotations

from engine.model.names import FunctionRef
from engine.registry import mappings, signing
from engine.registry.api import Registry
from engine.registry.attached import Attached
from engine.registry.function_settings import FunctionSettings
from engine.registry.mappings import EventSourceMappings
from engine.registry.policies import Policies
from engine.registry.signing import SigningConfigs
from engine.registry.tags import Tags
from engine.registry.urls import Urls


class Stored:
    """The rooms of one engine. They keep nothing of their own, so several may be made."""

    def __init__(self, registry: Registry, attached: Attached, *, region: str, account: str) -> None:
        self.registry = registry
        self.region = region
        self.account = account
        self.mappings = EventSourceMappings(attached, region=region, account=account)
        self.policies = Policies(attached)
        self.settings = FunctionSettings(attached)
        self.signing = SigningConfigs(attached, region=region, account=account)
        self.tags = Tags(attached)
        self.urls = Urls(attached)

    def tagged(self, resource_name: str) -> tuple[str, str]:
        """The owner and the key of a resource's tags: a function (its bare name), eventSourceMappings/{uuid} or
        codeSigningConfigs/{id}. Raises NotFound."""
        if match := mappings.RESOURCE_NAME.fullmatch(resource_name):
            return "", self.mappings.tag_key(self.mappings.get(match[1]).mapping_id)
        if match := signing.RESOURCE_NAME.fullmatch(resource_name):
            return "", self.signing.tag_key(self.signing.get(self.signing.arn(match[1]))["CodeSigningConfigArn"])
        return self.registry.get(FunctionRef(resource_name)).name, ""
