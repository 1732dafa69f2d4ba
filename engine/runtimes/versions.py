"""What a runtime's exact version is called, as INIT_START and AWS's RuntimeVersionConfig name it.

AWS counts its images (python:3.11.v39); here the interpreter is the host's, and its own version says which it is.
"""

from __future__ import annotations

import hashlib

from engine import __version__
from engine.model.partitions import partition_of


def runtime_version(runtime: str, full: str) -> str:
    """Such as "python:3.11.2", for "python3.11" and "3.11.2"; without `full`, "python:3.11"."""
    family = runtime.rstrip("0123456789.")
    return f"{family}:{full or runtime.removeprefix(family)}"


def runtime_version_arn(region: str, version: str) -> str:
    """An ARN of AWS's form: the same for the same interpreter under the same engine."""
    digest = hashlib.sha256(f"{version} cleave {__version__}".encode()).hexdigest()
    return f"arn:{partition_of(region)}:lambda:{region}::runtime:{digest}"
