"""What the fronts and the pipeline ask of the registry. Reads are answered from memory; writes are durable when they
return (SQLite, synchronous=FULL) and visible to the next read."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.model.function import CodeBlob, Egress, Function, LogFormat, LogLevel
from engine.model.names import FunctionRef


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """The settings of a create or an update; None leaves a field as it is (on create: its default)."""

    runtime: str | None = None
    handler: str | None = None
    memory_mb: int | None = None
    timeout_ms: int | None = None
    tmp_mb: int | None = None
    environment: Mapping[str, str] | None = None
    description: str | None = None
    role: str | None = None
    egress: Egress | None = None
    log_format: LogFormat | None = None
    log_level: LogLevel | None = None
    system_log_level: LogLevel | None = None
    preload: tuple[str, ...] | None = None
    own_layout: bool | None = None


ChangeListener = Callable[[str, Function | None], None]
"""Called on the event loop after a write with the function's name and what it is now (None: deleted)."""


class Registry(Protocol):
    """Functions."""

    async def create(
        self, name: str, change: ConfigChange, code_sha256: str, *, validate_only: bool = False
    ) -> Function:
        """Raises InvalidArgument (every wrong field at once), AlreadyExists, NotFound (no such blob)."""

    def get(self, ref: FunctionRef) -> Function:
        """The function, from memory. Raises NotFound, also for versions and aliases, which this release has none of."""

    def list(self, *, limit: int, after: str = "") -> tuple[list[Function], str]:
        """At most `limit` functions with names after `after`, and the name to go on after ("": no more)."""

    async def update(
        self, name: str, change: ConfigChange, *, code_sha256: str | None = None, etag: str | None = None
    ) -> Function:
        """Raises NotFound, StaleEtag if `etag` is given and is not the current one, InvalidArgument."""

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """Raises NotFound, StaleEtag."""

    def subscribe(self, listener: ChangeListener) -> None:
        """Tell `listener` of every write from now on."""


class CodeStore(Protocol):
    """Code, by the SHA-256 of its zip. The same bytes are stored once; a blob never changes."""

    async def add(
        self, chunks: AsyncIterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None
    ) -> CodeBlob:
        """Store a zip that arrives in pieces. Raises InvalidCode (damaged, harmful paths, too large unpacked, not the
        announced bytes), CodeStorageExceeded (over the zip limit, or the disk is full)."""

    def get(self, sha256: str) -> CodeBlob:
        """Raises NotFound."""

    async def read_zip(self, sha256: str) -> bytes:
        """The zip as it was uploaded. Raises NotFound."""


class BytecodeStore(Protocol):
    """What the code store keeps beside the modules that it has."""

    def get(self, sha256: str) -> CodeBlob:
        """Raises NotFound."""

    def lacks_bytecode(self, sha256: str, python: str) -> bool:
        """Whether there is such code, and nothing compiled it for this version of Python (such as "3.11.7") yet."""

    async def add_bytecode(self, sha256: str, python: str, records: AsyncIterable[bytes]) -> int:
        """Put what compiling the code in a sandbox gave (engine.guest.wire.RECORD) beside its modules, where Python
        looks for it: for how many. Raises NotFound, InvalidCode for records that are none, CodeStorageExceeded, and
        what `records` raises; then nothing was added."""
