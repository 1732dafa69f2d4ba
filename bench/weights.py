"""Functions of three weights: one that imports nothing, one that imports boto3, one that imports NumPy.

The heavier ones carry what they import in their zip, as functions on AWS do: the packages that the bench itself runs
with, so that their versions are those of requirements/dev.lock. What an import does not read is left out: tests, and
the descriptions of services that botocore reads when a client is made. Zips have no bytecode in them.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from engine.cli.benching.scenarios import SCENARIOS as TRIVIAL
from engine.cli.benching.scenarios import Scenario

_HANDLER = """import {module}


def handler(event, context):
    return event
"""
_PACKAGES = {
    "boto3": ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six"),
    "numpy": ("numpy",),
}
_LEFT_OUT = {"__pycache__", "data", "tests", "testing.py", "include", "f2py", "distutils"}
_SUFFIXES = (".py", ".so", ".pem", ".json")


def _zip(module: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr(zipfile.ZipInfo("app.py"), _HANDLER.format(module=module))
        for package in _PACKAGES[module]:
            for name, path in _files(package):
                entry = zipfile.ZipInfo(name)  # with a fixed date: the same bytes each time
                entry.external_attr = 0o644 << 16
                file.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 1)
    return archive.getvalue()


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """What a package needs to be imported: names in the zip, and the files."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    origin = Path(spec.origin)
    if origin.name != "__init__.py":
        yield origin.name, origin
        return
    site = origin.parent.parent
    libraries = site / f"{package}.libs"  # where a wheel keeps the shared libraries of its extensions
    for folder in (origin.parent, libraries):
        for path in sorted(folder.rglob("*")) if folder.exists() else ():
            inside = path.relative_to(site)
            if path.is_file() and (".so" in path.name or path.suffix in _SUFFIXES) and not _LEFT_OUT & {*inside.parts}:
                yield str(inside), path


CODES = {module: cache(lambda module=module: _zip(module)) for module in _PACKAGES}
"""What makes the zip of each weight."""


def _heavier(start: str) -> Iterator[Scenario]:
    for scenario in TRIVIAL:
        if scenario.name == f"{start}-1769":
            for module in _PACKAGES:
                # A start takes a hundred times as long: fewer say as much.
                yield replace(scenario, name=f"{start}-{module}-1769", code=module, share=0.1)


SCENARIOS: Sequence[Scenario] = (*_heavier("parked"), *_heavier("fork"))
"""Those of engine.cli.benching.scenarios that start something, with the heavier functions."""
