"""An unmodified boto3 client of an HTTP front. The rooms below the front are stubs, empty for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.model import OperationModel

from tests.compat.service_model import faults, faults_of_logs
from tests.compat.stub_rooms import REGION, ROLE, Front, Rooms, make_zip

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

Create = Callable[..., Any]


@pytest.fixture(scope="session")
def front() -> Iterator[Front]:
    with Front(Rooms()) as front:
        yield front


@pytest.fixture
def rooms(front: Front) -> Rooms:
    front.rooms.reset()
    return front.rooms


def make_client(url: str, **settings: Any) -> LambdaClient:
    """boto3's client without retries, and with no time limit near a test's. Every answer is held to the model."""
    client = boto3.client(
        "lambda",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=20, **settings),
    )

    def hold_to_the_model(http_response: Any, model: OperationModel, **_: Any) -> None:
        headers = {name.lower(): value for name, value in http_response.headers.items()}
        is_stream = model.has_event_stream_output or model.has_streaming_output
        body = b"" if is_stream and http_response.status_code < 300 else http_response.content
        assert faults(model, http_response.status_code, headers, body) == []

    client.meta.events.register("after-call.lambda", hold_to_the_model)
    return client


def make_logs_client(url: str, **settings: Any) -> Any:
    """The same for CloudWatch Logs."""
    client = boto3.client(
        "logs",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=20, **settings),
    )

    def hold_to_the_model(http_response: Any, model: OperationModel, **_: Any) -> None:
        headers = {name.lower(): value for name, value in http_response.headers.items()}
        assert faults_of_logs(model, http_response.status_code, headers, http_response.content) == []

    client.meta.events.register("after-call.cloudwatch-logs", hold_to_the_model)
    return client


@pytest.fixture(scope="session")
def shared_client(front: Front) -> Iterator[LambdaClient]:
    client = make_client(front.url)
    yield client
    client.close()


@pytest.fixture
def client(shared_client: LambdaClient, rooms: Rooms) -> LambdaClient:
    return shared_client


@pytest.fixture(scope="session")
def shared_unchecked(front: Front) -> Iterator[LambdaClient]:
    client = make_client(front.url, parameter_validation=False)
    yield client
    client.close()


@pytest.fixture
def unchecked(shared_unchecked: LambdaClient, rooms: Rooms) -> LambdaClient:
    """A client that sends whatever it is given."""
    return shared_unchecked


@pytest.fixture
def create(client: LambdaClient) -> Create:
    """Creates a function, with other parameters where given."""

    def create(name: str = "thumbs", **parameters: Any) -> Any:
        settings = {"Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": make_zip()}}
        return client.create_function(FunctionName=name, **{**settings, **parameters})

    return create
