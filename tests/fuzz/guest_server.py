"""Forks guests as a zygote does, without isolation, and feeds each one stream.

    python -I guest_server.py HOME

HOME has the guest's package under its name in a sandbox. Reads streams from stdin, each after its length (u32), and
answers each with a line of JSON: how the guest ended, what it sent, what it wrote. A guest has a second of CPU time and
a gigabyte of address space.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import struct
import sys

sys.path.insert(0, sys.argv[1])
import cleave_guest.runtime  # type: ignore[import-not-found]

sys.path.pop(0)

LIMIT_S = 20.0


def be_guest(control: int, log: int) -> None:
    """Become the guest, in the descriptors that it expects. Does not return."""
    null = os.open(os.devnull, os.O_RDONLY)
    control, log = os.dup2(control, 100), os.dup2(log, 101)
    for source, place in ((null, 0), (log, 1), (log, 2), (control, 3), (control, 4)):
        os.dup2(source, place)
    os.closerange(5, 200)
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    cleave_guest.runtime.run()


def feed(control: socket.socket, log: int, stream: bytes) -> tuple[bytes, bytes, bool]:
    """Send the stream and its end; returns what came back, what was written, and whether both ended in time."""
    poller = select.poll()
    poller.register(control, select.POLLIN | select.POLLOUT)
    poller.register(log, select.POLLIN)
    rest, said, written = memoryview(stream), bytearray(), bytearray()
    control.setblocking(False)
    open_ends = {control.fileno(), log}
    while open_ends:
        ready = poller.poll(LIMIT_S * 1000)
        if not ready:
            return bytes(said), bytes(written), False
        for fd, events in ready:
            if fd == log or not events & select.POLLOUT:
                try:
                    data = os.read(fd, 1 << 20)
                except ConnectionResetError:
                    data = b""
                (written if fd == log else said).extend(data)
                if not data:
                    poller.unregister(fd)
                    open_ends.discard(fd)
                continue
            try:
                rest = rest[control.send(rest) :] if rest else rest
            except OSError:
                rest = memoryview(b"")
            if not rest:
                poller.modify(control, select.POLLIN)
                control.shutdown(socket.SHUT_WR)
    return bytes(said), bytes(written), True


def serve() -> None:
    """Until there are no more streams."""
    while header := sys.stdin.buffer.read(4):
        stream = sys.stdin.buffer.read(struct.unpack("<I", header)[0])
        ours, theirs = socket.socketpair()
        log, log_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            be_guest(theirs.fileno(), log_write)
        theirs.close()
        os.close(log_write)
        said, written, in_time = feed(ours, log, stream)
        if not in_time:
            os.kill(pid, 9)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ours.close()
        os.close(log)
        answer = {"status": status, "in_time": in_time, "said": said.hex(), "log": written.decode(errors="replace")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
