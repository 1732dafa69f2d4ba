"""How the command fails: what failed, why, what to do next, and the exit code. Loads quickly."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any


class ExitCode(enum.IntEnum):
    """The command's exit codes, as `cleave --help` lists them."""

    OK = 0
    FAILED = 1  # the engine refused, or the command could not do its work
    USAGE = 2  # wrong arguments, or wrong settings
    FUNCTION_ERROR = 3  # the function ran and failed: its code's fault
    UNREACHABLE = 4  # no engine answers
    INTERRUPTED = 130  # Ctrl-C, as shells count it


EXIT_CODES_HELP = (
    "Exit codes: 0 done; 1 refused or failed; 2 wrong arguments or settings; 3 the function itself failed; "
    "4 no engine answers; 130 interrupted."
)


class Problem(Exception):
    """A failure with all that its user needs. `what` failed, for the reason `why`; `fix` starts with a command where
    one helps. `code` and `reason` are google.rpc's where the engine refused."""

    def __init__(
        self,
        what: str,
        why: str,
        fix: str,
        *,
        exit_code: ExitCode = ExitCode.FAILED,
        code: str = "",
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why
        self.fix = fix
        self.exit_code = exit_code
        self.code = code
        self.reason = reason
        self.fields = dict(fields or {})
        self.retry_after_ms = retry_after_ms
        self.throttle_reason = ""
        """AWS's name of why a call was throttled."""

    def document(self) -> dict[str, Any]:
        """What `--output json` prints."""
        error: dict[str, Any] = {
            "what": self.what,
            "message": self.why,
            "fix": self.fix,
            "exit_code": int(self.exit_code),
        }
        optional = {
            "code": self.code,
            "reason": self.reason,
            "fields": self.fields,
            "retry_after_ms": self.retry_after_ms,
            "throttle_reason": self.throttle_reason,
        }
        return {"error": error | {name: value for name, value in optional.items() if value}}

    def text(self) -> str:
        """What a person reads."""
        lines = [f"Error: {self.what}", f"  Why: {self.why}"]
        lines += [f"       {field}: {what}" for field, what in self.fields.items() if what not in self.why]
        return "\n".join([*lines, f"  Fix: {self.fix}"])


def usage(what: str, why: str, fix: str) -> Problem:
    """Arguments that cannot be used."""
    return Problem(what, why, fix, exit_code=ExitCode.USAGE, code="INVALID_ARGUMENT", reason="USAGE")
