"""The functions that rows about HTTP call: a trivial one, and one that streams."""

from __future__ import annotations

import io
import zipfile

CODE = "web"
MEMORY_MB = 1_769
CHUNK_BYTES = 65_536
_HANDLER = """def ok(event, context):
    return "ok"


def stream(event, context):
    chunk = b"x" * 65_536
    for _ in range(int(event.get("queryStringParameters", event)["mb"]) * 16):
        yield chunk
"""


def code() -> bytes:
    """All of them, zipped."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("app.py"), _HANDLER)
    return archive.getvalue()
