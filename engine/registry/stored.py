"""What a client stores beside functions and reads back, put together: each room over the same documents."""

from __future__ import annotations

from engine.registry.api import Registry
from engine.registry.attached import Attached
from engine.registry.function_settings import FunctionSettings
from engine.registry.mappings import EventSourceMappings
from engine.registry.policies import Policies
from engine.registry.signing import SigningConfigs
from engine.registry.tags import Tags


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
