"""The native box as the rest of the engine imports it: the one importer of the extension, which is built from
native/engine/sandbox/_box.pyx over native/box. What each call does and costs is said in native/box/box.h.
"""

from engine.sandbox._box import (
    REPORT_BYTES,
    Host,
    Leaf,
    code_mount,
    fork,
    kill,
    mount_used,
    read_report,
    reap,
    scratch_mount,
    scratch_tmpfs,
)

__all__ = [
    "REPORT_BYTES",
    "Host",
    "Leaf",
    "code_mount",
    "fork",
    "kill",
    "mount_used",
    "read_report",
    "reap",
    "scratch_mount",
    "scratch_tmpfs",
]
