"""A zip on its way into the code store: a folder in tmp/ that becomes a blob or nothing.

Where it goes, and what is in it, are left to engine.registry.code. Guarantees that after `discard` nothing of it is
left and nothing of it is written any more. Its methods block: call them in threads.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from engine.fabric.files import PRIVATE_FILE, make_private_folder, remove_tree


class Arrival:
    """One upload. A method may still run in its thread when a cancelled caller asks for the next: they take turns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zip = folder / "code.zip"
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._turn = threading.Lock()
        self._given_up = False

    @property
    def sha256(self) -> str:
        """Hex, of what has come."""
        return self._hash.hexdigest()

    def begin(self) -> None:
        """Make its folder."""
        with self._turn:
            if not self._given_up:
                make_private_folder(self.folder)

    def write(self, pieces: list[bytes]) -> None:
        """Append."""
        with self._turn:
            if self._given_up:
                return
            target = os.open(self.zip, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
            with open(target, "wb", buffering=0) as file:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:  # write(2) stops short where the disk gets full, and says so only the next time
                        view = view[file.write(view) :]
                    self._hash.update(piece)
                    self.size_bytes += len(piece)

    def discard(self) -> None:
        """Leave nothing of it but what was moved to its place."""
        with self._turn:
            self._given_up = True
            remove_tree(self.folder)
