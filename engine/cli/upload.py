"""What `cleave deploy` sends: a zip, read or made, and its bytes in chunks with a progress bar on standard error; or
the place in S3 from where the engine fetches it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from engine.cli.buckets import Source, fetched
from engine.cli.client import CONTROL_TIMEOUT_S, UPLOAD_TIMEOUT_S, Engine
from engine.cli.problems import Problem, usage
from engine.client.packing import Unpackable, names_in, pack
from engine.v1 import code_pb2, functions_pb2, resources_pb2

CHUNK_BYTES = 256 * 1024
_IN_MEMORY_BYTES = 16 << 20

Stored = functions_pb2.UploadCodeResponse | code_pb2.ImportCodeResponse


@dataclass(frozen=True, slots=True)
class Code:
    """What is deployed."""

    names: list[str] | None  # of its files; None where they are not known here
    send: Callable[[Engine, bool], Stored]

    def store(self, engine: Engine, *, quiet: bool) -> Stored:
        """Have the engine store it, with a progress bar where there is a terminal. Raises grpc.RpcError."""
        return self.send(engine, quiet)


@contextlib.contextmanager
def opened(path: Path | Source) -> Iterator[Code]:
    """The code of a folder, a zip or an object in S3. Raises Problem."""
    if isinstance(path, Source):
        yield Code(None, lambda engine, quiet: fetched(engine, path))
        return
    with open_zip(path) as (archive, names):
        yield Code(names, lambda engine, quiet: upload(engine, archive, quiet=quiet))


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[tuple[IO[bytes], list[str]]]:
    """The zip of a folder, or a zip that exists, as an open file, and the names in it. Raises Problem."""
    with contextlib.ExitStack() as stack:
        try:
            if path.is_dir():
                archive: IO[bytes] = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
                names = pack(path, archive)
            elif path.is_file():
                names = names_in(path)
                archive = stack.enter_context(path.open("rb"))
            else:
                raise usage(f"cannot deploy {path}", "there is no such folder or zip", "cleave init hello")
        except Unpackable as error:
            raise usage(error.what, error.why, error.fix) from None
        except OSError as error:
            where = error.filename or path
            raise Problem(f"cannot read {where}", error.strerror or str(error), f"ls -l {where}") from None
        yield archive, names


def existing_function(engine: Engine, name: str) -> resources_pb2.Function | None:
    """The function if there is one. Raises grpc.RpcError."""
    try:
        request = functions_pb2.GetFunctionRequest(name=name)
        return engine.functions.GetFunction(request, timeout=CONTROL_TIMEOUT_S).function
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise


def upload(engine: Engine, archive: IO[bytes], *, quiet: bool) -> functions_pb2.UploadCodeResponse:
    """Send a zip, with a progress bar where standard error is a terminal. Raises grpc.RpcError."""
    archive.seek(0)
    digest = hashlib.sha256()
    while block := archive.read(CHUNK_BYTES):
        digest.update(block)
    total = archive.tell()
    archive.seek(0)
    columns = (TextColumn("Uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task("upload", total=total)

        def frames() -> Iterator[functions_pb2.UploadCodeRequest]:
            header = functions_pb2.UploadCodeHeader(sha256=digest.hexdigest(), size_bytes=total)
            yield functions_pb2.UploadCodeRequest(header=header)
            while block := archive.read(CHUNK_BYTES):
                yield functions_pb2.UploadCodeRequest(chunk=block)
                progress.advance(task, len(block))

        return engine.functions.UploadCode(frames(), timeout=UPLOAD_TIMEOUT_S)
