"""Where the code of a function or a layer comes from, as AWS's clients name it: the zip itself, or an object in S3.

Storing and checking zips is the code store's. Guarantees AWS's own texts where a source is missing, ambiguous, not
there or no zip, and that the bytes are in the store, whole and checked, once a source was read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from engine.errors import InvalidArgument, InvalidCode, PermissionDenied
from engine.model.function import CodeBlob
from engine.registry.api import CodeStore
from engine.registry.code_s3 import S3Object
from engine.rest.aws_words import of_code
from engine.rest.constraints import problem
from engine.rest.errors import BodyTooLarge

CODE_PIECE_BYTES = 2**20
ZIP_LIMIT_BYTES = 52_428_800
"""Of a zip in a request: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
_OF_S3 = ("S3Bucket", "S3Key", "S3ObjectVersion")


def check_source(source: Mapping[str, Any], prefix: str = "") -> None:
    """Raise InvalidArgument unless a FunctionCode, an UpdateFunctionCode or a LayerVersionContentInput names one
    source; `prefix` stands before the members' names, such as "Code."."""
    named = [name for name in _OF_S3 if source.get(name)]
    if source.get("ZipFile") is not None:
        if named:
            raise InvalidArgument(
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
                fields={f"{prefix}{name}": "is beside a ZipFile" for name in named},
            )
        return
    missing = [name for name in ("S3Bucket", "S3Key") if not source.get(name)]
    if missing:
        names = missing if named else ["ZipFile"]
        what = "layer" if prefix == "Content." else "function"
        raise InvalidArgument(
            f"Please provide a source for {what} code.", fields={f"{prefix}{name}": "is missing" for name in names}
        )


def check_package(params: Mapping[str, Any], verb: str = "creating") -> None:
    """Raise InvalidArgument, with AWS's texts, for a container image; `verb` is what is done with the function."""
    image = params.get("ImageUri") or params.get("Code", {}).get("ImageUri")
    if params.get("PackageType") == "Image":
        path = "packageType"
        sentence = problem(None, path, "Image", "Member must satisfy enum value set: [Zip]")
        raise InvalidArgument(
            f"1 validation error detected: {sentence}",
            fix="container images are not served by this release; give the code as a zip (ZipFile, or S3Bucket and "
            "S3Key) with its Runtime and Handler",
            fields={path: "must be Zip"},
        )
    if image:
        raise InvalidArgument(
            f"Please don't provide ImageUri when {verb} a function with packageType Zip.",
            fields={"ImageUri": "is for container images, which are not served"},
        )


async def stored(code: CodeStore, source: Mapping[str, Any], prefix: str = "") -> CodeBlob:
    """Put what a source names into the store. Raises what `check_source` does, BodyTooLarge, InvalidCode,
    CodeStorageExceeded, PermissionDenied, NotServed, Unavailable."""
    check_source(source, prefix)
    zip_file = source.get("ZipFile")
    try:
        if zip_file is None:
            return await code.fetch(S3Object(source["S3Bucket"], source["S3Key"], source.get("S3ObjectVersion") or ""))
        if len(zip_file) > ZIP_LIMIT_BYTES:
            raise BodyTooLarge(f"Zipped size must be smaller than {ZIP_LIMIT_BYTES} bytes")
        return await code.add(_pieces(zip_file), size_bytes=len(zip_file))
    except InvalidCode as error:
        raise of_code(error) from None
    except PermissionDenied as error:
        raise PermissionDenied(error.message) from None


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CODE_PIECE_BYTES):
        yield data[start : start + CODE_PIECE_BYTES]
