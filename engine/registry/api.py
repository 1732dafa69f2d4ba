"""What the fronts and the pipeline ask of the registry. Reads are answered from memory; writes are durable when they
return (SQLite, synchronous=FULL) and visible to the next read."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.model.alias import Alias
from engine.model.concurrency import AccountSettings, Allocation, Provisioned
from engine.model.function import CodeBlob, Egress, Function, LogFormat, LogLevel
from engine.model.layer import LayerRef, LayerVersion
from engine.model.names import FunctionRef
from engine.registry.code_links import CodeLinks
from engine.registry.code_s3 import S3Object


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
    layers: tuple[LayerRef, ...] | None = None  # lowest first
    aws_settings: Mapping[str, Any] | None = None
    """Those that change; one that is None is left out from then on."""
    log_group: str | None = None  # "": /aws/lambda/{function}
    dead_letter_arn: str | None = None  # "": none, as of the next
    kms_key_arn: str | None = None
    tracing: bool | None = None
    snap_start: bool | None = None


ChangeListener = Callable[[str, Function | None], None]
"""Called on the event loop after a write with the function's name and what it is now (None: deleted)."""


class Changed(enum.Enum):
    """What a write was about."""

    FUNCTION = "function"  # $LATEST; gone: the function with everything that belongs to it
    VERSION = "version"  # one was published, or deleted
    ALIAS = "alias"
    RESERVED = "reserved"  # the reserved concurrency of a function
    PROVISIONED = "provisioned"  # the provisioned concurrency of a version or an alias


@dataclass(frozen=True, slots=True)
class Change:
    """One write. What there is from now on is asked of the registry."""

    function_name: str
    what: Changed
    qualifier: str = ""  # the version or the alias; "" where it is the function's
    gone: bool = False  # deleted


ChangeObserver = Callable[[Change], None]
"""Called on the event loop after a write."""


Route = Callable[[Alias, Sequence[Function]], int]
"""Says which of an alias' versions, given in the order of its `shares`, an invocation runs."""


class Registry(Protocol):
    """Functions, and what belongs to them."""

    @property
    def versions(self) -> Versions:
        """Versions of functions."""

    @property
    def aliases(self) -> Aliases:
        """Aliases of versions."""

    @property
    def concurrency(self) -> Concurrency:
        """Reserved and provisioned concurrency."""

    @property
    def layers(self) -> Layers:
        """Layers of functions."""

    async def create(
        self, name: str, change: ConfigChange, code_sha256: str, *, validate_only: bool = False
    ) -> Function:
        """Raises InvalidArgument (every wrong field at once), AlreadyExists, NotFound (no such blob)."""

    def get(self, ref: FunctionRef) -> Function:
        """The function or a version of it, from memory; of an alias the version that has no weight of its own. Raises
        NotFound."""

    def resolve(self, ref: FunctionRef, route: Route) -> Function:
        """What one invocation of `ref` runs: as `get`, but of an alias with two versions the one that `route` says."""

    def list(self, *, limit: int, after: str = "") -> tuple[list[Function], str]:
        """At most `limit` functions with names after `after`, and the name to go on after ("": no more)."""

    async def update(
        self, name: str, change: ConfigChange, *, code_sha256: str | None = None, etag: str | None = None
    ) -> Function:
        """Raises NotFound, StaleEtag if `etag` is given and is not the current one, InvalidArgument."""

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """Delete a function with everything that belongs to it. Raises NotFound, StaleEtag."""

    def subscribe(self, listener: ChangeListener) -> None:
        """Tell `listener` of every write of a function from now on: of $LATEST and of its end."""

    def observe(self, observer: ChangeObserver) -> None:
        """Tell `observer` of every write from now on, also of what belongs to functions."""


class Versions(Protocol):
    """Immutable snapshots of functions. They go with their function."""

    async def publish(
        self,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        etag: str | None = None,
    ) -> Function:
        """A version of what $LATEST is; the last one where nothing has changed since. `description` is its own,
        `code_sha256` (hex) and `etag` are refused where they are not those of $LATEST. Raises NotFound, StaleEtag,
        InvalidArgument."""

    def list(self, name: str, *, limit: int, after: str = "") -> tuple[list[Function], str]:
        """At most `limit` versions with numbers after `after`, and the number to go on after ("": no more). Raises
        NotFound."""

    async def delete(self, name: str, version: str) -> None:
        """Delete a version with the provisioned concurrency that it has. Raises NotFound, InUse while an alias points
        at it."""


@dataclass(frozen=True, slots=True)
class AliasChange:
    """The settings of a create or an update of an alias; None leaves a field as it is (on create: its default)."""

    version: str | None = None  # a number, or $LATEST
    weights: Mapping[str, float] | None = None  # another version, and its share
    description: str | None = None


class Aliases(Protocol):
    """Names for versions."""

    async def create(self, function_name: str, name: str, change: AliasChange) -> Alias:
        """Raises NotFound (also for versions that are not there), AlreadyExists, InvalidArgument."""

    def get(self, function_name: str, name: str) -> Alias:
        """Raises NotFound."""

    def list(
        self, function_name: str, *, limit: int, after: str = "", version: str = ""
    ) -> tuple[Sequence[Alias], str]:
        """At most `limit` aliases with names after `after`, of all versions or those that may run `version`, and the
        name to go on after ("": no more). Raises NotFound."""

    async def update(self, function_name: str, name: str, change: AliasChange, *, etag: str | None = None) -> Alias:
        """Raises NotFound, StaleEtag, InvalidArgument, InUse where its provisioned concurrency forbids it."""

    async def delete(self, function_name: str, name: str, *, etag: str | None = None) -> None:
        """Delete an alias with the provisioned concurrency that it has. Raises NotFound, StaleEtag."""


class Provisioner(Protocol):
    """Who keeps environments ready, so that the registry can say how many there are."""

    def allocation(self, function_name: str, qualifier: str) -> Allocation:
        """What there is of a configuration now. It is asked for those that are stored, from the moment on in which
        observers are told."""


class Concurrency(Protocol):
    """How many invocations of a function may run at once, and which environments are ready ahead of them."""

    def reserved(self, function_name: str) -> int | None:
        """What a function has for itself, which is also its limit; None: its share of what is unreserved. Raises
        NotFound."""

    async def reserve(self, function_name: str, executions: int) -> int:
        """Set it; 0 stops the function. Raises NotFound, InvalidArgument where too little would be left for others, or
        for what is provisioned of it."""

    async def unreserve(self, function_name: str) -> None:
        """Take it back. Raises NotFound."""

    async def provision(self, ref: FunctionRef, environments: int) -> Provisioned:
        """Ask for environments of a version or an alias. Raises NotFound, InvalidArgument ($LATEST, more than the
        function's reserved concurrency or than is unreserved), InUse where the version is another configuration's."""

    def provisioned(self, ref: FunctionRef) -> Provisioned:
        """What a version or an alias has. Raises NotFound, NotProvisioned."""

    def list_provisioned(self, function_name: str, *, limit: int, after: str = "") -> tuple[Sequence[Provisioned], str]:
        """At most `limit` configurations of a function with qualifiers after `after`, and the one to go on after
        ("": no more). Raises NotFound."""

    async def unprovision(self, ref: FunctionRef) -> None:
        """Ask for none any more; fine where none are. Raises NotFound."""

    def account(self) -> AccountSettings:
        """The limits of the account, and what of them is used."""

    def provision_with(self, provisioner: Provisioner) -> None:
        """Ask `provisioner` from now on what there is. Before, no environment is, and each configuration says so."""


@dataclass(frozen=True, slots=True)
class LayerContent:
    """What a new layer version is made of."""

    code_sha256: str  # hex, names a blob of the code store
    description: str = ""
    license_info: str = ""
    runtimes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()


class Layers(Protocol):
    """Immutable archives that functions share. A function keeps what it uses, whatever becomes of the version."""

    async def publish(self, name: str, content: LayerContent) -> LayerVersion:
        """A version with the next number, which never comes again. Raises InvalidArgument (every wrong field at once),
        NotFound (no such blob)."""

    def get(self, ref: LayerRef) -> LayerVersion:
        """Raises NotFound."""

    def list(
        self, *, limit: int, after: str = "", runtime: str = "", architecture: str = ""
    ) -> tuple[list[LayerVersion], str]:
        """The latest version of each layer that says it is for `runtime` and `architecture`, as far as they are given,
        at most `limit` with names after `after`, and the name to go on after ("": no more)."""

    def list_versions(
        self, name: str, *, limit: int, after: int = 0, runtime: str = "", architecture: str = ""
    ) -> tuple[Sequence[LayerVersion], int]:
        """At most `limit` versions, newest first, with numbers below `after` (0: any), and the number to go on after
        (0: no more). None of a layer that is not there."""

    async def delete(self, ref: LayerRef) -> None:
        """Delete a version with its policy. Fine where there is none."""

    def policy(self, ref: LayerRef) -> Mapping[str, Any]:
        """Its `Statement` and its `RevisionId`. Raises NotFound."""

    async def permit(self, ref: LayerRef, statement: Mapping[str, Any], *, revision: str = "") -> Mapping[str, Any]:
        """Add a statement to its policy, which is returned. Raises NotFound, AlreadyExists, StaleEtag,
        PolicyTooLong."""

    async def forbid(self, ref: LayerRef, sid: str, *, revision: str = "") -> None:
        """Take a statement away. Raises NotFound, StaleEtag."""


class CodeStore(Protocol):
    """Code, by the SHA-256 of its zip. The same bytes are stored once; a blob never changes."""

    async def add(
        self, chunks: AsyncIterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None
    ) -> CodeBlob:
        """Store a zip that arrives in pieces. Raises InvalidCode (damaged, harmful paths, too large unpacked, not the
        announced bytes), CodeStorageExceeded (over the zip limit, or the disk is full)."""

    async def fetch(self, wanted: S3Object) -> CodeBlob:
        """Store a zip that lies in the engine's S3-compatible store. Raises what `add` does and
        engine.registry.code_s3.S3Reader.read."""

    def get(self, sha256: str) -> CodeBlob:
        """Raises NotFound."""

    @property
    def links(self) -> CodeLinks:
        """Signs links to zips, and checks them."""

    def read_zip(self, sha256: str) -> AsyncGenerator[bytes]:
        """The zip as it came, in pieces, also where it is swept meanwhile; close it. Raises NotFound."""


class BytecodeStore(Protocol):
    """What the code store keeps beside the modules that it has."""

    def get(self, sha256: str) -> CodeBlob:
        """Raises NotFound."""

    def lacks_bytecode(self, sha256: str, python: str, *, layer: bool = False) -> bool:
        """Whether there is such code, and nothing compiled it for this version of Python (such as "3.11.7") yet. For a
        `layer`, whose sources another may hide, bytecode has to say of which source it is."""

    async def add_bytecode(
        self, sha256: str, python: str, records: AsyncIterable[bytes], *, layer: bool = False
    ) -> int:
        """Put what compiling the code in a sandbox gave (engine.guest.wire.RECORD) beside its modules, where Python
        looks for it: for how many. Raises NotFound, InvalidCode for records that are none, CodeStorageExceeded, and
        what `records` raises; then nothing was added."""
