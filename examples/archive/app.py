"""A zip of 200 files: made in /tmp and returned, or streamed while it is made.

    cleave deploy . --name archive --memory 512 --timeout 30
    cleave invoke archive --raw > files.zip
    cleave invoke archive --raw --stream -d stream > files.zip

`context.response_stream` is a binary file whose bytes are the answer, for libraries that want one: the zip is never
whole in memory or on the disk. What is left in /tmp would be found by the next invocation in the same sandbox.
"""

import tempfile
import zipfile
from pathlib import Path

COUNT = 200


def handler(event, context):
    """`event` as bytes: b"stream" streams; as JSON: {"files": how many, "stream": whether}."""
    if isinstance(event, bytes):
        event = {"stream": event == b"stream"}
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), event.get("files", COUNT))
        if event.get("stream"):
            pack(files, context.response_stream)
            return None  # what was written is the answer
        target = Path(folder, "files.zip")
        pack(files, target)
        return target.read_bytes()


def write(folder, count):
    """So many files."""
    files = [folder / f"line-{number:03}.txt" for number in range(count)]
    for number, file in enumerate(files):
        file.write_text(f"This is file {number}.\n" * (number + 1))
    return files


def pack(files, target):
    """A zip of them in a path or a binary file, which need not be able to seek."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"files/{file.name}")
