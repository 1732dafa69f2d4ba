"""What each function needs of a sandbox, worked out once for each state of the function.

Leaves to others: noticing that a function changed (engine.invoke.retire). Guarantees: what is returned belongs to the
etag that was asked for; the warm path neither builds an environment nor looks for code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from engine.invoke.platformlog import PlatformLog, platform_log
from engine.model.function import Function
from engine.model.invocation import RESULT_LIMIT_BYTES
from engine.model.names import FunctionRef, function_arn
from engine.registry.api import CodeStore
from engine.runtimes.environment import function_environment
from engine.runtimes.versions import runtime_version, runtime_version_arn
from engine.sandbox.api import SandboxSpec


@dataclass(frozen=True, slots=True)
class Prepared:
    """A function ready to be invoked. `arn` is the unqualified one, `platform` what the engine says in its log,
    `log_stream` the name of its log stream."""

    function: Function
    spec: SandboxSpec
    arn: str
    platform: PlatformLog
    log_stream: str


def key_of(function: Function) -> tuple[str, ...]:
    """Of its sandboxes: no others may run it."""
    return function.name, function.version, function.etag


NO_VERSIONS: Mapping[str, str] = MappingProxyType({})


class Specs:
    """The cache, by function and version."""

    def __init__(
        self,
        code: CodeStore,
        *,
        region: str,
        account: str,
        init_timeout_ms: int = 10_000,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
        python_versions: Mapping[str, str] = NO_VERSIONS,
        wall_ns: Callable[[], int],
        new_uuid: Callable[[], str],
    ) -> None:
        self._code = code
        self._region = region
        self._account = account
        self._init_timeout_ms = init_timeout_ms
        self._result_limit_bytes = result_limit_bytes
        self._python_versions = python_versions
        self._wall_ns = wall_ns
        self._new_uuid = new_uuid
        self._prepared: dict[str, dict[str, Prepared]] = {}

    def get(self, function: Function) -> Prepared:
        """Raises NotFound if its code is gone."""
        versions = self._prepared.get(function.name)
        if versions is None:
            versions = self._prepared[function.name] = {}
        prepared = versions.get(function.version)
        if prepared is None or prepared.function.etag != function.etag:
            prepared = versions[function.version] = self._prepare(function)
        return prepared

    def holds(self, prepared: Prepared) -> bool:
        """Whether it is still what `get` gives."""
        function = prepared.function
        return self._prepared.get(function.name, {}).get(function.version) is prepared

    def drop(self, function_name: str, version: str | None = None) -> None:
        """Forget one version of a function, or all (None)."""
        if version is None:
            self._prepared.pop(function_name, None)
        else:
            self._prepared.get(function_name, {}).pop(version, None)

    def _prepare(self, function: Function) -> Prepared:
        config = function.config
        day = datetime.fromtimestamp(self._wall_ns() / 1e9, UTC).strftime("%Y/%m/%d")
        # AWS names a stream for each sandbox; sandboxes of one spec are interchangeable here, and share theirs.
        stream = f"{day}/[{function.version}]{self._new_uuid().replace('-', '')}"
        spec = SandboxSpec(
            key=key_of(function),
            runtime=config.runtime,
            handler=config.handler,
            code_path=self._code.get(function.code_sha256).path,
            memory_mb=config.memory_mb,
            tmp_mb=config.tmp_mb,
            environment=function_environment(function, region=self._region, log_stream_name=stream),
            init_timeout_ms=self._init_timeout_ms,
            egress=config.egress,
            result_limit_bytes=self._result_limit_bytes,
            preload=tuple(sorted(set(config.preload))),
            own_layout=config.own_layout,
            layer_paths=tuple(self._code.get(layer.code_sha256).path for layer in config.layers),
        )
        arn = function_arn(self._region, self._account, FunctionRef(function.name))
        version = runtime_version(config.runtime, self._python_versions.get(config.runtime, ""))
        platform = platform_log(function, version, runtime_version_arn(self._region, version))
        return Prepared(function, spec, arn, platform, stream)
