"""The main program of a mounter: in a user namespace, make the mounts that its engine asks for, until it is gone.

Started by exec as `python -I -S mounts.py SOCK FORK_MODULE USER`, with nothing of the engine in it; USER is a zygote's.
One datagram is one request, `code PATH [NOTHING]` or `tmpfs BYTES FILES` or `try`, its words apart by NUL; the answer
is "ok", with the mount's descriptor beside it, or errno and a sentence. Standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
from types import ModuleType

REQUEST_BYTES = 8_192


def _load(path: str) -> ModuleType:
    """Import the native module from `path`, which is on no import path."""
    import _imp
    from importlib.machinery import ExtensionFileLoader, ModuleSpec

    module: ModuleType = _imp.create_dynamic(ModuleSpec("_fork", ExtensionFileLoader("_fork", path), origin=path))
    _imp.exec_dynamic(module)
    return module


def _made(native: ModuleType, words: list[bytes]) -> list[int]:
    """Do what was asked; the descriptors to send. Raises OSError."""
    if words[0] == b"code":
        return [native.code_mount(*words[1:])]
    if words[0] == b"merged":
        return [native.merged_mount(*words[1:])]
    if words[0] == b"tmpfs":
        return [native.tmpfs(int(words[1]), int(words[2]))]
    native.try_user()
    return []


def _said(error: OSError) -> bytes:
    return b"%d\0%s" % (error.errno or 0, (error.strerror or str(error)).encode())


def main(argv: list[str]) -> None:
    with socket.socket(fileno=int(argv[1])) as sock:
        native = _load(argv[2])
        try:
            native.enter_user(argv[3] == "mapped")
        except OSError as error:
            sock.send(_said(error))
            return
        if argv[3] == "mapped":
            sock.send(b"map")
            sock.recv(16)  # that it was done
        sock.send(b"ok")
        while request := sock.recv(REQUEST_BYTES):
            try:
                fds = _made(native, request.split(b"\0"))
            except OSError as error:
                sock.send(_said(error))
                continue
            socket.send_fds(sock, [b"ok"], fds)
            for fd in fds:
                os.close(fd)


if __name__ == "__main__":
    main(sys.argv)
