"""The code store on one machine's file system: each zip as it came and, beside it, unpacked.

    <root>/links.key           signs links to the zips: engine.registry.code_links
    <root>/tmp/<random>/       what is arriving or leaving; emptied when the store opens
    <root>/blobs/<sha256>/     one blob, complete:
        code.zip                   the zip as it was uploaded
        task/                      its files, the folder that is mounted at /var/task; bytecode of them comes later
        blob.json                  {"size_bytes", "unpacked_bytes"}
        bytecode-3.11.7            empty: the files were compiled for this Python, where they compile
        bytecode-3.11.7-layer      the same, and the bytecode says which source it is of

A blob is made in tmp/, synced, and appears by one rename(2): killed at any instant, it is there whole or not at all.
Everything is closed to other users but task/, which a bind mount shows to the function's. What may be in a zip is
engine.registry.unzip's to decide. One engine at a time holds the directory (engine.fabric.datadir).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

import msgspec

from engine.errors import CodeStorageExceeded, EngineError, InvalidCode, NotFound, StoreUnusable, Unavailable
from engine.fabric.files import is_full, make_private_folder, remove_tree, sync_folder, sync_tree, write_atomic
from engine.model.function import CodeBlob
from engine.registry import bytecode
from engine.registry.arrival import Arrival
from engine.registry.code_links import CodeLinks
from engine.registry.code_s3 import S3Object, S3Reader, S3Store
from engine.registry.unzip import Limits, unpack

P = ParamSpec("P")
T = TypeVar("T")

ZIP_LIMIT_BYTES = 262_144_000
"""What UploadCode takes. Lambda takes 52,428,800 bytes directly and as much as this by way of S3."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WRITE_BYTES = 1_048_576
READ_BYTES = 262_144
_THREADS = 4


class _About(msgspec.Struct, frozen=True):
    """blob.json."""

    size_bytes: int
    unpacked_bytes: int


class LocalCodeStore:
    """engine.registry.api.CodeStore in a folder. Make one with `open`."""

    def __init__(
        self, root: Path, zip_limit_bytes: int, limits: Limits, clock: Callable[[], float], s3: S3Store
    ) -> None:
        self._blobs = root / "blobs"
        self._tmp = root / "tmp"
        self._zip_limit_bytes = zip_limit_bytes
        self._limits = limits
        self._clock = clock
        self._index: dict[str, CodeBlob] = {}  # what can be asked for; changes only on the event loop
        self._last_use: dict[str, float] = {}
        self._placing = asyncio.Lock()  # blobs come and go one at a time
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="code-store")
        self._finishing: set[asyncio.Future[CodeBlob]] = set()
        self._listeners: list[Callable[[str], None]] = []
        self._s3 = S3Reader(s3)
        self.links: CodeLinks
        """See engine.registry.api.CodeStore."""

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        zip_limit_bytes: int = ZIP_LIMIT_BYTES,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        s3: S3Store | None = None,
    ) -> Self:
        """Open or create the store and remove what a dead engine left half-made; `s3` is where zips are fetched from.
        Raises StoreUnusable."""
        store = cls(root, zip_limit_bytes, limits or Limits(), clock, s3 or S3Store())
        try:
            store._index = await store._in_thread(store._load)
            store.links = await store._in_thread(CodeLinks.open, root / "links.key")
        except OSError as error:
            store._threads.shutdown()
            raise StoreUnusable(
                f"the code store in {root} cannot be used: {error}",
                fix="check the disk and the permissions of the data directory",
            ) from error
        store._last_use = dict.fromkeys(store._index, clock())
        return store

    async def close(self) -> None:
        """Wait for what is being stored. Closing twice is fine."""
        if self._finishing:
            await asyncio.wait(set(self._finishing))
        self._s3.close()
        self._threads.shutdown()

    async def add(
        self, chunks: AsyncIterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None
    ) -> CodeBlob:
        """See engine.registry.api.CodeStore. A caller that goes away leaves nothing behind, or a whole blob."""
        sha256 = sha256.lower() if sha256 else None
        if sha256 and not _SHA256.fullmatch(sha256):
            raise InvalidCode(
                "the announced SHA-256 is none", fix="send 64 hex digits", fields={"sha256": "is not one"}
            )
        if size_bytes is not None and size_bytes > self._zip_limit_bytes:
            raise self._too_large(size_bytes)
        arrival = Arrival(self._tmp / secrets.token_hex(16))
        try:
            await self._receive(arrival, chunks)
            _check_announced(arrival, sha256, size_bytes)
        except BaseException:
            await asyncio.shield(self._in_thread(arrival.discard))
            raise
        # From here on a caller that goes away changes nothing: the blob is finished, and swept if nobody needs it.
        finishing = asyncio.ensure_future(self._finish(arrival))
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finished)
        return await asyncio.shield(finishing)

    async def fetch(self, wanted: S3Object) -> CodeBlob:
        """See engine.registry.api.CodeStore."""
        return await self._s3.read(wanted, self._zip_limit_bytes, self.add)

    def get(self, sha256: str) -> CodeBlob:
        """See engine.registry.api.CodeStore. What was got is not swept for the `min_age_s` of `sweep`."""
        blob = self._index.get(sha256)
        if blob is None:
            raise NotFound(f"there is no code with SHA-256 {sha256!a}", fix="upload the zip, then try again")
        self._last_use[sha256] = self._clock()
        return blob

    async def read_zip(self, sha256: str) -> AsyncGenerator[bytes]:
        """See engine.registry.api.CodeStore."""
        self.get(sha256)
        try:
            with await self._in_thread(open, self._blobs / sha256 / "code.zip", "rb", 0) as file:
                while piece := await self._in_thread(file.read, READ_BYTES):
                    yield piece
        except OSError as error:
            raise StoreUnusable(
                f"the code with SHA-256 {sha256} cannot be read: {error.strerror}", fix="upload the zip again"
            ) from error

    def lacks_bytecode(self, sha256: str, python: str, *, layer: bool = False) -> bool:
        """See engine.registry.api.BytecodeStore. What is good for a layer is good for code."""
        markers = [self._compiled(sha256, python, one) for one in ((True,) if layer else (False, True))]
        return sha256 in self._index and not any(marker.exists() for marker in markers)

    async def add_bytecode(
        self, sha256: str, python: str, records: AsyncIterable[bytes], *, layer: bool = False
    ) -> int:
        """See engine.registry.api.CodeStore."""
        task = Path(self.get(sha256).path)
        staging = self._tmp / secrets.token_hex(16)
        tag = bytecode.cache_tag(python)
        try:
            await self._to_disk(make_private_folder, staging)
            with tempfile.TemporaryFile(dir=staging) as file:
                async for chunk in records:
                    await self._to_disk(file.write, chunk)
                self.get(sha256)  # it may have been swept meanwhile
                await self._to_disk(file.seek, 0)
                staged = await self._to_disk(bytecode.stage, file, staging, task, tag)
            async with self._placing:
                self.get(sha256)
                await self._to_disk(bytecode.install, staged)
                await self._to_disk(sync_tree, task)
                await self._to_disk(write_atomic, self._compiled(sha256, python, layer), b"")
                self._tell(sha256)
        finally:
            await asyncio.shield(self._in_thread(remove_tree, staging))
        return len(staged)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Have `changed` told the path of each code that has bytecode from now on, or is there no more."""
        self._listeners.append(changed)

    def _tell(self, sha256: str) -> None:
        for changed in self._listeners:
            changed(self._task(sha256))

    def _task(self, sha256: str) -> str:
        return os.fspath(self._blobs / sha256 / "task")

    def _compiled(self, sha256: str, python: str, layer: bool) -> Path:
        return self._blobs / sha256 / f"bytecode-{python}{'-layer' if layer else ''}"

    async def sweep(self, referenced: Collection[str], min_age_s: float) -> list[str]:
        """Remove the blobs that are not `referenced` and that nobody has added, got or referenced for `min_age_s`
        seconds of this store's life; return their names.

        `min_age_s` has to be more than an invocation may take, which reads its code while the function is updated."""
        async with self._placing:
            now = self._clock()
            for sha256 in referenced:
                if sha256 in self._index:
                    self._last_use[sha256] = now
            old = [
                sha256
                for sha256, used in self._last_use.items()
                if sha256 not in referenced and now - used >= min_age_s
            ]
            for sha256 in old:
                del self._index[sha256], self._last_use[sha256]
            leaving = await self._in_thread(self._move_out, old)
            for sha256 in old:
                self._tell(sha256)
        await self._in_thread(_remove_all, leaving)
        return old

    async def _receive(self, arrival: Arrival, chunks: AsyncIterable[bytes]) -> None:
        waiting: list[bytes] = []
        room = _WRITE_BYTES
        total = 0
        await self._to_disk(arrival.begin)
        async for chunk in chunks:
            total += len(chunk)
            if total > self._zip_limit_bytes:
                raise self._too_large(total)
            waiting.append(chunk)
            room -= len(chunk)
            if room <= 0:
                await self._to_disk(arrival.write, waiting)
                waiting, room = [], _WRITE_BYTES
        await self._to_disk(arrival.write, waiting)

    async def _finish(self, arrival: Arrival) -> CodeBlob:
        try:
            if arrival.sha256 not in self._index:
                about = await self._in_thread(self._unpack, arrival)
                async with self._placing:
                    if arrival.sha256 not in self._index:
                        await self._in_thread(self._place, arrival)
                        self._index[arrival.sha256] = self._blob(arrival.sha256, about)
            return self.get(arrival.sha256)
        except OSError as error:
            raise _disk_error(error) from error
        finally:
            await self._in_thread(arrival.discard)

    def _finished(self, finishing: asyncio.Future[CodeBlob]) -> None:
        self._finishing.discard(finishing)
        if not finishing.cancelled():
            finishing.exception()  # whoever waits gets it; nobody may be left to

    def _load(self) -> dict[str, CodeBlob]:
        for folder in (self._blobs.parent, self._blobs, self._tmp):
            make_private_folder(folder)
        _remove_all(self._tmp.iterdir())
        blobs = (self._stored(folder) for folder in self._blobs.iterdir() if _SHA256.fullmatch(folder.name))
        return {blob.sha256: blob for blob in blobs if blob is not None}

    def _stored(self, folder: Path) -> CodeBlob | None:
        """The blob in a folder; None if something outside of the engine damaged it, and an upload will replace it."""
        try:
            about = msgspec.json.decode((folder / "blob.json").read_bytes(), type=_About)
            whole = (folder / "task").is_dir() and (folder / "code.zip").stat().st_size == about.size_bytes
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return self._blob(folder.name, about) if whole else None

    def _blob(self, sha256: str, about: _About) -> CodeBlob:
        return CodeBlob(
            sha256=sha256,
            size_bytes=about.size_bytes,
            unpacked_bytes=about.unpacked_bytes,
            path=self._task(sha256),
        )

    def _unpack(self, arrival: Arrival) -> _About:
        task = arrival.folder / "task"
        task.mkdir(mode=0o700)
        about = _About(size_bytes=arrival.size_bytes, unpacked_bytes=unpack(arrival.zip, task, self._limits))
        write_atomic(arrival.folder / "blob.json", msgspec.json.encode(about))
        sync_tree(arrival.folder)
        return about

    def _place(self, arrival: Arrival) -> None:
        damaged = self._move_out([arrival.sha256])
        os.rename(arrival.folder, self._blobs / arrival.sha256)
        sync_folder(self._blobs)
        _remove_all(damaged)

    def _move_out(self, names: Collection[str]) -> list[Path]:
        """Take blobs out of sight, each in one step; what is in tmp/ is removed now or by the next engine."""
        leaving = []
        for name in names:
            target = self._tmp / secrets.token_hex(16)
            try:
                os.rename(self._blobs / name, target)
            except FileNotFoundError:
                continue
            leaving.append(target)
        return leaving

    def _too_large(self, size_bytes: int) -> CodeStorageExceeded:
        return CodeStorageExceeded(
            f"the zip has {size_bytes:,} bytes or more: at most {self._zip_limit_bytes:,} are taken",
            fix="leave out what the function does not need",
        )

    async def _to_disk(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `_in_thread`; the disk's errors become the engine's."""
        try:
            return await self._in_thread(work, *args, **kwargs)
        except OSError as error:
            raise _disk_error(error) from error

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))
        except RuntimeError as error:
            raise Unavailable("the code store is closed", fix="start the engine again") from error
        return await future


def _check_announced(arrival: Arrival, sha256: str | None, size_bytes: int | None) -> None:
    if size_bytes and size_bytes != arrival.size_bytes:
        raise InvalidCode(
            f"{size_bytes:,} bytes were announced and {arrival.size_bytes:,} came",
            fix="upload it again",
            fields={"size_bytes": "differs from what came"},
        )
    if sha256 and sha256 != arrival.sha256:
        raise InvalidCode(
            f"the announced SHA-256 is {sha256}, that of what came is {arrival.sha256}",
            fix="upload it again",
            fields={"sha256": "differs from that of what came"},
        )


def _remove_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        remove_tree(folder)


def _disk_error(error: OSError) -> EngineError:
    if is_full(error):
        return CodeStorageExceeded(
            "there is no room for the code: the disk of the engine's data directory is full",
            fix="free space there, then upload again",
        )
    return StoreUnusable(
        f"the code could not be stored: {error.strerror}",
        fix="check the disk and the permissions of the data directory",
    )
