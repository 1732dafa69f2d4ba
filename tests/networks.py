"""A host and an internet of the test's own: two network namespaces with one link, and servers that answer in them.

    "internet"  203.0.113.1/24, and on its loopback every other address that tests ask for
        │
    "host"      203.0.113.2/24, forwards packets, default route to the internet; the calling thread is in it

What would be private, link-local or metadata is on the internet's side too, so that only rules keep anybody from it.
Nothing has a name, and nothing leaves: the namespaces end with the descriptors.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from engine.sandbox import box
from engine.sandbox.network_host import in_namespace

HOST = "203.0.113.2"
PUBLIC = "198.51.100.7"
RESOLVER = "10.9.9.53"  # private, as most hosts' are
METADATA = "169.254.169.254"
PRIVATE = ("10.9.9.9", "172.16.9.9", "192.168.9.9", "100.64.9.9")
ELSEWHERE = (PUBLIC, RESOLVER, METADATA, *PRIVATE)
PORT = 8080  # everywhere on the internet's side
HOST_PORT = 9090  # on every address of the host
GREETING = b"hello from outside\n"
NAMED = "api.example.test"
REBOUND = "rebound.example.test"
"""A name whose address is the host's."""
KNOWN = {NAMED: PUBLIC, REBOUND: HOST}
_GATEWAY = "203.0.113.1"
_MTU = 1_400


@dataclass
class FakeHost:
    """The two namespaces, by descriptor, and what arrived at the servers."""

    host: int
    internet: int
    met: list[str] = field(default_factory=list)  # the addresses that clients came from
    stop: threading.Event = field(default_factory=threading.Event)


def run(*command: str) -> str:
    """What a command prints, in the namespace of the calling thread."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@contextlib.contextmanager
def fake_host() -> Iterator[FakeHost]:
    """The calling thread, and what is started from it, lives on the fake host until the end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    (host, _), (internet, _) = box.net_make(), box.net_make()
    lab = FakeHost(host, internet)
    threads: list[threading.Thread] = []
    try:
        box.net_enter(host)
        sock = box.rtnl_open()
        box.link_pair(sock, ("wan", 100), ("wan", 100), internet, _MTU)
        box.address_add(sock, 100, int(IPv4Address(HOST)), 24)
        threads += in_namespace(internet, lambda: _internet(lab))
        threads += [serve_greetings(lab, "0.0.0.0", HOST_PORT), serve_datagrams(lab, "0.0.0.0", HOST_PORT)]
        box.route_default(sock, int(IPv4Address(_GATEWAY)))
        os.close(sock)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        yield lab
    finally:
        box.net_enter(home)
        lab.stop.set()
        for thread in threads:
            thread.join()
        for fd in (home, host, internet):
            os.close(fd)


def _internet(lab: FakeHost) -> list[threading.Thread]:
    sock = box.rtnl_open()
    box.link_up(sock, "wan")
    box.address_add(sock, 100, int(IPv4Address(_GATEWAY)), 24)
    for address in ELSEWHERE:
        box.address_add(sock, socket.if_nametoindex("lo"), int(IPv4Address(address)), 32)
    os.close(sock)
    # One for each address: from a socket of all, an answer has the address of the way back.
    datagrams = [serve_datagrams(lab, address, PORT) for address in ELSEWHERE]
    return [serve_greetings(lab, "0.0.0.0", PORT), *datagrams, _serve_names(lab)]


def serve_greetings(lab: FakeHost, address: str, port: int) -> threading.Thread:
    """A TCP server in the namespace of the calling thread: it greets, and echoes."""
    server = socket.create_server((address, port))
    server.settimeout(0.05)

    def work() -> None:
        with server:
            while not lab.stop.is_set():
                try:
                    client, peer = server.accept()
                except TimeoutError:
                    continue
                lab.met.append(peer[0])
                with client, contextlib.suppress(OSError):
                    client.settimeout(2)
                    client.sendall(GREETING)
                    while block := client.recv(65_536):
                        client.sendall(block)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def serve_datagrams(lab: FakeHost, address: str, port: int) -> threading.Thread:
    """A UDP server in the namespace of the calling thread: it says the same back."""
    return _answering(lab, address, port, lambda data: data)


def _serve_names(lab: FakeHost) -> threading.Thread:
    """A name server of RFC 1035 that knows the names of KNOWN."""
    return _answering(lab, RESOLVER, 53, answer, known=False)


def _answering(
    lab: FakeHost, address: str, port: int, reply: Callable[[bytes], bytes], *, known: bool = True
) -> threading.Thread:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))
    server.settimeout(0.05)

    def work() -> None:
        with server:
            while not lab.stop.is_set():
                try:
                    data, peer = server.recvfrom(65_536)
                except TimeoutError:
                    continue
                if known:
                    lab.met.append(peer[0])
                server.sendto(reply(data), peer)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def answer(question: bytes) -> bytes:
    """A response: one A record for a name of KNOWN, none for anything else."""
    end = question.index(b"\0", 12) + 5
    asked, kind = question[12 : end - 4], int.from_bytes(question[end - 4 : end - 2], "big")
    address = next((address for name, address in KNOWN.items() if asked == _labels(name)), "")
    count = int(bool(address) and kind == 1)
    head = question[:2] + (b"\x81\x80" if address else b"\x81\x83") + b"\0\1" + bytes([0, count]) + b"\0\0\0\0"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + IPv4Address(address).packed if count else b""
    return head + question[12:end] + record


def _labels(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
