"""The types of what `engine` loads when it is first used."""

from engine.client.aio import AsyncClient as AsyncClient
from engine.client.results import FunctionFailed as FunctionFailed
from engine.client.results import Result as Result
from engine.client.results import TimedOut as TimedOut
from engine.client.sync import Client as Client
from engine.embedded import Engine as Engine
from engine.errors import EngineError as EngineError
from engine.model.invocation import CognitoIdentity as CognitoIdentity

__version__: str
