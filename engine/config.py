"""The engine's settings and where they come from: defaults, one TOML file, CLEAVE_… variables, flags of `cleave serve`;
each overrides the one before.

load() guarantees that what it returns is complete and within bounds, or raises one InvalidArgument that names every
wrong field with its source and what to do. It reads the file and nothing else: whether a directory can be written or a
port is free is the parts' own business. What a setting is called where is engine.config_fields'.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from engine.config_address import is_loopback, parse_resolver, parse_subnet, split_address
from engine.config_fields import ENV_PREFIX, Field, describe, setting
from engine.config_http import HttpSettings
from engine.config_s3 import USUAL_VARIABLES
from engine.errors import InvalidArgument
from engine.model.invocation import EVENT_LIMIT_BYTES, RESULT_LIMIT_BYTES
from engine.model.weaker import Weaker

CONFIG_VARIABLE = "CLEAVE_CONFIG"
SYSTEM_CONFIG = Path("/etc/cleave/cleave.toml")
UID_LIMIT = 2**31  # uids from here on are negative to programs that keep them in an int
UID_LEAST = 100_000  # below are the host's own users

_ADDRESS = "a loopback address and a port, such as 127.0.0.1:50051"


class Settings(HttpSettings, frozen=True, kw_only=True):
    """How an engine runs. Units are in the names; docs/settings.md lists them all."""

    data_dir: Annotated[
        str, setting("Where functions, code and state are kept; one engine a directory.", values="an absolute path")
    ]
    grpc_address: Annotated[str, setting("Where gRPC listens; port 0 takes a free one.", values=_ADDRESS)] = (
        "127.0.0.1:50051"
    )
    grpc_front: Annotated[
        Literal["auto", "native", "grpcio"],
        setting("What gRPC clients speak to: the engine's own front, or grpcio's; auto: its own where it was built."),
    ] = "auto"
    http_address: Annotated[
        str, setting("Where the AWS Lambda API listens; port 0 takes a free one.", values=_ADDRESS)
    ] = "127.0.0.1:9000"
    account: Annotated[
        str, setting("The account in the functions' ARNs.", values="12 digits", pattern=r"^[0-9]{12}$")
    ] = "000000000000"
    region: Annotated[
        str,
        setting(
            "The region in the functions' ARNs.",
            values="a region's name, such as us-east-1",
            pattern=r"^[a-z]{2,}(-[a-z0-9]+)+$",
        ),
    ] = "us-east-1"
    max_concurrency: Annotated[
        int, setting("Invocations that may run at a time; one more is throttled.", ge=1, le=100_000, reloadable=True)
    ] = 1_000
    requests_per_concurrency: Annotated[
        int,
        setting("Invocations a second for each that may run at a time; 0: any number.", ge=0, le=100, reloadable=True),
    ] = 10
    burst_sandboxes: Annotated[
        int,
        setting("Sandboxes a function may start in 10 seconds; 0: any number.", ge=0, le=1_000_000, reloadable=True),
    ] = 1_000
    max_sandboxes: Annotated[
        int, setting("Sandboxes that may exist at a time, idle ones included.", ge=1, le=100_000)
    ] = 1_000
    keep_alive_s: Annotated[
        float, setting("Seconds that an idle sandbox is kept for the next event.", ge=0, le=86_400, reloadable=True)
    ] = 600
    drain_s: Annotated[
        float, setting("Seconds that running invocations get when the engine stops.", ge=0, le=3_600, reloadable=True)
    ] = 30
    shutdown_grace_ms: Annotated[
        int,
        setting(
            "Milliseconds that an idle sandbox gets for its SIGTERM and exit handlers before it is killed; 0: none.",
            ge=0,
            le=2_000,
        ),
    ] = 500
    init_timeout_ms: Annotated[
        int, setting("Milliseconds that a function's init phase may take.", ge=100, le=900_000)
    ] = 10_000
    provisioned_init_timeout_ms: Annotated[
        int, setting("The same of a provisioned sandbox, unless its function's timeout is longer.", ge=100, le=900_000)
    ] = 130_000
    event_limit_bytes: Annotated[
        int, setting("The most bytes of an event; AWS's is 6 MB.", ge=1_024, le=33_554_432)
    ] = EVENT_LIMIT_BYTES
    result_limit_bytes: Annotated[
        int, setting("The most bytes of a result in one piece; AWS's is 6 MB and 100 bytes.", ge=1_024, le=33_554_432)
    ] = RESULT_LIMIT_BYTES
    stream_limit_mb: Annotated[
        int, setting("The most megabytes (2^20 bytes) of an answer that is streamed.", ge=1, le=1_048_576)
    ] = 200
    stream_mb_per_s: Annotated[
        float,
        setting(
            "Megabytes a second of a streamed answer after its first 6; AWS grants 2. 0: as fast as it is read.",
            ge=0,
            le=1_048_576,
        ),
    ] = 0
    uid_base: Annotated[
        int,
        setting(
            "The first of the user ids that sandboxes run under, one each; 0: the data directory decides, so that two"
            " engines on a host share none.",
            ge=0,
            le=UID_LIMIT - 1,
        ),
    ] = 0
    parked_floor: Annotated[
        int, setting("Sandboxes that wait for a function at least, of the default runtime.", ge=0, le=10_000)
    ] = 4
    parked_ceiling: Annotated[
        int,
        setting(
            "Sandboxes that wait for a function at most, as many as recent starts call for; 0: none.", ge=0, le=10_000
        ),
    ] = 64
    parked_memory_mb: Annotated[
        int, setting("Megabytes that waiting sandboxes may take together.", ge=0, le=1_048_576)
    ] = 256
    parked_free_mb: Annotated[
        int,
        setting(
            "Megabytes of the host's memory that stay free beside waiting sandboxes; where they are not, none waits.",
            ge=0,
            le=1_048_576,
        ),
    ] = 256
    parked_rate: Annotated[
        float, setting("Waiting sandboxes that are made in a second at most.", ge=0.1, le=10_000)
    ] = 100.0
    zygote_max_age_s: Annotated[
        float,
        setting(
            "Seconds after which an interpreter that sandboxes are forked from is replaced: all forks of one share an"
            " address-space layout.",
            ge=1,
            le=31_536_000,
        ),
    ] = 3_600
    zygote_max_forks: Annotated[
        int, setting("Forks after which such an interpreter is replaced.", ge=1, le=1_000_000_000)
    ] = 10_000
    zygote_limit: Annotated[
        int,
        setting(
            "Such interpreters at most: one for each runtime and set of modules imported ahead; the one that was asked"
            " for longest ago makes room.",
            ge=2,
            le=1_024,
        ),
    ] = 32
    tmp_pool_size: Annotated[
        int, setting("Images for /tmp that are kept ready, of each size in use; 0 makes each anew.", ge=0, le=1_024)
    ] = 8
    tmp_backend: Annotated[
        Literal["auto", "loop", "project", "btrfs", "tmpfs"],
        setting(
            "What each /tmp is made of; auto: the strongest that this host has. loop: images; project: quotas of ext4 "
            "or XFS; btrfs: its quota groups, turned on if they are off; tmpfs: the function's memory."
        ),
    ] = "auto"
    leaf_pool_size: Annotated[
        int,
        setting("Cgroups that are made ahead of need, of each memory size in use; 0 makes each anew.", ge=0, le=1_024),
    ] = 8
    tmp_encryption: Annotated[
        bool, setting("Encrypt what is in /tmp on the disk, with a key that is gone with the sandbox.")
    ] = True
    tmp_reserve: Annotated[
        bool,
        setting("Take the whole of each /tmp from the disk when it is made: a full disk then fails no write in one."),
    ] = False
    janitors: Annotated[int, setting("Threads that take away what is left of ended sandboxes.", ge=1, le=64)] = 4
    network_pool_size: Annotated[int, setting("Network namespaces that are made ahead of need.", ge=0, le=1_024)] = 16
    egress_subnet: Annotated[
        str,
        setting(
            "Addresses for sandboxes with egress, which nothing else on this host's networks has.",
            values="private IPv4 addresses from /8 to /22, such as 10.213.0.0/16",
        ),
    ] = "10.213.0.0/16"
    egress_resolvers: Annotated[
        tuple[str, ...],
        setting(
            "Name servers for sandboxes with egress, two at most; none: those of this host.",
            values="IPv4 addresses beyond loopback, such as 1.1.1.1",
        ),
    ] = ()
    compile_ahead: Annotated[
        bool,
        setting(
            "Compile a function's Python modules once, in a sandbox, when its code arrives, and not at each cold start;"
            " the function sees __pycache__ folders beside them.",
        ),
    ] = True
    init_cpu: Annotated[bool, setting("Give the init phase a whole vCPU, whatever the memory tier, as AWS does.")] = (
        True
    )
    cpu_burst: Annotated[
        bool,
        setting("Let a function use idle CPU beyond what its memory tier buys; neighbours keep their share by weight."),
    ] = False
    accept_weaker: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(Weaker)})$")], ...],
        setting(
            "Weaker forms of limits that will do where this host lacks the full ones: docs/unprivileged.md.",
            values=f"some of {', '.join(Weaker)}",
        ),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], setting("The least that is logged.", reloadable=True)
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"], setting("How logs look; auto: text on a terminal, else JSON.")
    ] = "auto"
    function_log_days: Annotated[float, setting("Days that what functions write is kept.", ge=1, le=3_650)] = 14
    function_log_mb: Annotated[
        int, setting("Megabytes (2^20 bytes, compressed) that are kept of one function's log.", ge=1, le=1_048_576)
    ] = 64
    function_logs_mb: Annotated[
        int, setting("Megabytes that are kept of all of them; the largest gives way first.", ge=1, le=1_048_576)
    ] = 1_024
    function_log_mb_per_s: Annotated[
        float,
        setting(
            "Megabytes a second that are kept of what one function writes; a line tells what is missing.",
            ge=1,
            le=1_024,
        ),
    ] = 16
    metrics_functions: Annotated[
        int, setting("Functions that are told apart in metrics; the others are counted together.", ge=1, le=100_000)
    ] = 500
    recent_mb: Annotated[
        int,
        setting(
            "Megabytes (2^20 bytes) of memory for the last invocations and where their time went; 0: none are kept.",
            ge=0,
            le=1_024,
        ),
    ] = 8
    interpreters: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^/")], ...],
        setting(
            "Python interpreters to offer as runtimes, before those that are found; `cleave runtimes add` needs no"
            " restart.",
            values="absolute paths",
        ),
    ] = ()

    @property
    def uid_count(self) -> int:
        """User ids that sandboxes take, those included that are being taken away."""
        return max(4_096, 2 * self.max_sandboxes)


FIELDS: Mapping[str, Field] = describe(Settings)
_TYPES = {name: hint for name, hint in get_type_hints(Settings, include_extras=True).items() if name in FIELDS}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and where it was found."""

    value: Any
    source: str  # such as "CLEAVE_REGION" or "/etc/cleave/cleave.toml"
    text: bool  # a string to be read, rather than a TOML value


def load(
    path: str | os.PathLike[str] | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    *,
    euid: int | None = None,
) -> Settings:
    """The settings in force. `path` is what --config said, if anything; `flags` maps field names to strings, booleans
    or lists of strings, None where a flag was not given. Raises InvalidArgument."""
    problems: dict[str, str] = {}
    fixes: list[str] = []
    given: dict[str, _Given] = {"data_dir": _Given(default_data_dir(environ, euid), "the default", text=False)}
    file = find_file(path, environ)
    if file is not None:
        table = _read(file)
        for key in table.keys() - FIELDS.keys():
            problems[f"{file}: {key}"] = "no such setting"
            fixes.append(_nearest(key, list(FIELDS)) or "see docs/settings.md for all settings")
        given |= {key: _Given(table[key], str(file), text=False) for key in table.keys() & FIELDS.keys()}
    for variable, name in USUAL_VARIABLES.items():
        if environ.get(variable):
            given[name] = _Given(environ[variable], variable, text=True)
    given |= {
        name: _Given(environ[field.variable], field.variable, text=True)
        for name, field in FIELDS.items()
        if field.variable in environ
    }
    for variable in _misspelt(environ):
        problems[variable] = "no such setting"
        fixes.append(_nearest(variable, [field.variable for field in FIELDS.values()]))
    given |= {name: _Given(value, FIELDS[name].flag, text=True) for name, value in flags.items() if value is not None}

    values: dict[str, Any] = {}
    for name, entry in given.items():
        try:
            values[name] = _convert(FIELDS[name], entry)
        except ValueError as error:
            problems[name if entry.source == "the default" else f"{entry.source}: {name}"] = str(error)
            fixes.append(f"set {name} to {FIELDS[name].values}")
    if not problems:
        settings = Settings(**values)
        problems, fixes = _check_together(settings, given)
        if not problems:
            return settings
    listed = "; ".join(f"{where}: {what}" for where, what in sorted(problems.items()))
    raise InvalidArgument(f"the settings cannot be used: {listed}", fix="; ".join(fixes), fields=problems)


def changed(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """The names of the fields that differ: those that a running engine takes, and those that need a restart."""
    names = [name for name in FIELDS if getattr(old, name) != getattr(new, name)]
    return [n for n in names if FIELDS[n].reloadable], [n for n in names if not FIELDS[n].reloadable]


def reloaded(old: Settings, new: Settings) -> Settings:
    """`old` with every change of `new` that a running engine takes."""
    return msgspec.structs.replace(old, **{name: getattr(new, name) for name in changed(old, new)[0]})


def default_data_dir(environ: Mapping[str, str], euid: int | None = None) -> str:
    """/var/lib/cleave for root, $XDG_DATA_HOME/cleave otherwise."""
    if (os.geteuid() if euid is None else euid) == 0:
        return "/var/lib/cleave"
    return str(_xdg(environ, "XDG_DATA_HOME", ".local/share") / "cleave")


def find_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: `path`, else $CLEAVE_CONFIG, else the first that exists of /etc/cleave/cleave.toml and
    $XDG_CONFIG_HOME/cleave/cleave.toml."""
    named = path or environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    user = _xdg(environ, "XDG_CONFIG_HOME", ".config") / "cleave" / "cleave.toml"
    return next((candidate for candidate in (SYSTEM_CONFIG, user) if candidate.exists()), None)


def _xdg(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    # A relative value is to be ignored: XDG Base Directory Specification.
    named = environ.get(variable, "")
    if named.startswith("/"):
        return Path(named)
    return Path(environ.get("HOME") or os.path.expanduser("~")) / below_home


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        what, fix = f"cannot be read: {error.strerror}", f"make {file} readable, or name another with --config"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        what, fix = f"is not TOML: {error}", "write one `name = value` a line; strings stand in quotes"
    raise InvalidArgument(f"the settings cannot be used: {file} {what}", fix=fix, fields={str(file): what})


def _convert(field: Field, given: _Given) -> Any:
    value = given.value
    if given.text and field.is_list and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if field.name == "data_dir" and isinstance(value, str):
        value = _data_dir(value, given)
    try:
        converted = msgspec.convert(value, _TYPES[field.name], strict=not given.text)
    except msgspec.ValidationError:
        raise ValueError(f"must be {field.values}, is {_shown(given.value)}") from None
    if field.name == "egress_subnet":
        parse_subnet(converted)
    if field.name == "egress_resolvers":
        for address in converted:
            parse_resolver(address)
    if field.name.endswith("_address"):
        host, _ = split_address(converted)
        if not is_loopback(host):
            raise ValueError(f"{host} is not loopback, and beyond it the engine would need authentication and TLS")
    return converted


def _data_dir(value: str, given: _Given) -> str:
    # A path on a command line is relative to where it was typed; one in a file has no such place.
    if given.text and value:
        return os.path.abspath(value)
    if not os.path.isabs(value):
        raise ValueError(f"must be an absolute path, is {_shown(value)}")
    return value


def _check_together(settings: Settings, given: Mapping[str, _Given]) -> tuple[dict[str, str], list[str]]:
    problems: dict[str, str] = {}
    fixes: list[str] = []

    def report(name: str, what: str, fix: str) -> None:
        problems[f"{given[name].source}: {name}" if name in given else name] = what
        fixes.append(fix)

    if settings.grpc_address == settings.http_address and split_address(settings.grpc_address)[1] != 0:
        report("http_address", f"is grpc_address too: {settings.http_address}", "give each a port of its own")
    if 0 < settings.uid_base < UID_LEAST:
        report("uid_base", f"{settings.uid_base} may be a user's", f"set uid_base to 0, or to {UID_LEAST} or more")
    if settings.uid_base + settings.uid_count > UID_LIMIT:
        highest = UID_LIMIT - settings.uid_count
        report("uid_base", f"leaves no {settings.uid_count} user ids below 2^31", f"set uid_base to at most {highest}")
    return problems, fixes


def _misspelt(environ: Mapping[str, str]) -> list[str]:
    from difflib import get_close_matches

    # Others may use the prefix (Kubernetes sets CLEAVE_SERVICE_HOST): only what is all but a setting's name is refused.
    known = [field.variable for field in FIELDS.values()]
    candidates = [name for name in environ if name.startswith(ENV_PREFIX) and name not in known]
    return [name for name in candidates if get_close_matches(name, known, 1, 0.9)]


def _nearest(key: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    match = get_close_matches(key, known, 1)
    return f"{key}: did you mean {match[0]}?" if match else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
