"""The operations that are served: the one list of their rooms."""

from __future__ import annotations

from engine.rest.aliases import Aliases
from engine.rest.code_signing import CodeSigning
from engine.rest.concurrency import Concurrency
from engine.rest.event_invoke import EventInvokeConfigs
from engine.rest.function_settings import FunctionSettings
from engine.rest.functions import Functions
from engine.rest.invocations import Invocations
from engine.rest.layers import Layers
from engine.rest.mappings import Mappings
from engine.rest.permissions import Permissions
from engine.rest.resource_policies import ResourcePolicies
from engine.rest.table import Operation, Rooms, table
from engine.rest.tags import TagOperations
from engine.rest.url_configs import UrlConfigs
from engine.rest.versions import Versions


def served(rooms: Rooms) -> dict[str, Operation]:
    """Every operation that has a handler; the one that streams is engine.rest.streams'."""
    return table(
        rooms,
        Aliases,
        CodeSigning,
        Concurrency,
        EventInvokeConfigs,
        FunctionSettings,
        Functions,
        Invocations,
        Layers,
        Mappings,
        Permissions,
        ResourcePolicies,
        TagOperations,
        UrlConfigs,
        Versions,
    )
