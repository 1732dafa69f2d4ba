"""The tests of calls run on both gRPC servers: the engine's own and grpcio's."""

from __future__ import annotations

import pytest

from engine.rpc import fronts

ON_BOTH = ("test_server", "test_invoke", "test_stream", "test_converse", "test_logs")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH and "grpc_front" in metafunc.fixturenames:
        metafunc.parametrize("grpc_front", ["native", "grpcio"], indirect=True)


@pytest.fixture(autouse=True)
def grpc_front(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers be of the kind that the test is for."""
    if getattr(request, "param", "native") == "grpcio":
        monkeypatch.setattr(fronts, "is_built", lambda: False)
