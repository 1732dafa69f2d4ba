"""Network namespaces of the box: what one has, who is in it, and how it is tied to another."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from engine.errors import SandboxFault
from engine.sandbox import box
from engine.sandbox.network_host import in_namespace
from tests.descriptors import left_open, opened

pytestmark = pytest.mark.privileged

OUTER, INNER = int(IPv4Address("10.213.0.0")), int(IPv4Address("10.213.0.1"))


@contextmanager
def closing(*fds: int) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            if fd >= 0:
                os.close(fd)


def own() -> str:
    """The namespace of the calling thread."""
    return os.readlink("/proc/thread-self/ns/net")


def interfaces() -> list[str]:
    tunnels = ("tunl", "sit", "ip6", "gre", "erspan")  # the kernel's own templates, in every namespace
    return [name for _, name in socket.if_nameindex() if not name.startswith(tunnels)]


def test_making_one_leaves_the_thread_where_it_was() -> None:
    before = own()
    ns, counters = box.net_make()
    with closing(ns, counters):
        assert own() == before
        assert in_namespace(ns, own) != before
        assert counters == -1


def test_it_has_loopback_up_and_nothing_else() -> None:
    def talk() -> list[str]:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with (
                socket.create_server((address, 0), family=family) as server,
                socket.create_connection(server.getsockname()[:2]) as client,
            ):
                assert client.getpeername()[1] == server.getsockname()[1]
        return interfaces()

    ns, _ = box.net_make()
    with closing(ns):
        assert in_namespace(ns, talk) == ["lo"]


def test_its_loopback_is_its_own() -> None:
    first, second = box.net_make()[0], box.net_make()[0]
    with closing(first, second):
        server = in_namespace(first, lambda: socket.create_server(("127.0.0.1", 0)))
        with server:
            address = server.getsockname()
            in_namespace(first, lambda: socket.create_connection(address).close())
            with pytest.raises(ConnectionRefusedError):
                in_namespace(second, lambda: socket.create_connection(address))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)


def test_one_with_a_link_has_an_address_a_gateway_and_counters() -> None:
    router, _ = box.net_make()
    with closing(router):
        sock = in_namespace(router, box.rtnl_open)
        with closing(sock):
            ns, counters = box.net_make((sock, 1_000, OUTER, INNER, 1_400))
            with closing(ns, counters):
                assert in_namespace(ns, interfaces) == ["lo", "eth0"]
                server = in_namespace(router, lambda: socket.create_server(("10.213.0.0", 0)))
                with server:
                    address = server.getsockname()
                    client = in_namespace(ns, lambda: socket.create_connection(address, 2))
                    with client:
                        assert client.getsockname()[0] == "10.213.0.1"
                line = next(line for line in os.pread(counters, 8_192, 0).splitlines() if b"eth0" in line).split()
                assert int(line[1]) > 0
                assert int(line[9]) > 0


def test_a_second_link_of_the_same_number_is_refused_and_leaves_nothing() -> None:
    router, _ = box.net_make()
    with closing(router):
        sock = in_namespace(router, box.rtnl_open)
        with closing(sock):
            ours, before = own(), opened()
            ns, counters = box.net_make((sock, 1_000, OUTER, INNER, 1_400))
            with closing(ns, counters), pytest.raises(SandboxFault) as refused:
                box.net_make((sock, 1_000, OUTER, INNER, 1_400))
            assert refused.value.errno in (16, 17)
            assert (own(), left_open(before)) == (ours, [])
            assert [name for name in in_namespace(router, interfaces) if name.startswith("s1")] in (["s1000"], [])


def test_a_link_goes_with_either_end() -> None:
    near, far = box.net_make()[0], box.net_make()[0]
    with closing(near, far):
        sock = in_namespace(near, box.rtnl_open)
        with closing(sock):
            box.link_pair(sock, ("here", 0), ("there", 0), far, 1_500)
            assert in_namespace(near, interfaces) == ["lo", "here"]
            assert in_namespace(far, interfaces) == ["lo", "there"]
            assert box.link_remove(sock, "here")
            assert in_namespace(far, interfaces) == ["lo"]
            assert not box.link_remove(sock, "here")


def test_names_of_interfaces_that_do_not_fit_are_refused() -> None:
    sock = box.rtnl_open()
    with closing(sock), pytest.raises(ValueError, match="15 bytes"):
        box.link_pair(sock, ("x" * 16, 0), ("y", 0), sock, 1_500)


def test_what_the_kernel_refuses_is_told_with_its_number() -> None:
    ns, _ = box.net_make()
    with closing(ns):
        sock = in_namespace(ns, box.rtnl_open)
        with closing(sock):
            with pytest.raises(SandboxFault, match="cannot bring nothing up") as refused:
                box.link_up(sock, "nothing")
            assert refused.value.errno == 19
            with pytest.raises(SandboxFault):
                box.address_add(sock, 9_999, OUTER, 31)
            with pytest.raises(SandboxFault):
                box.route_default(sock, OUTER)
    null = os.open("/dev/null", os.O_RDONLY)
    with closing(null), pytest.raises(SandboxFault, match="cannot enter it"):
        in_namespace(null, own)


def test_many_threads_make_them_at_once() -> None:
    made: list[int] = []
    before = own()

    def work() -> None:
        for _ in range(10):
            made.append(box.net_make()[0])
        assert own() == before

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(*made):
        assert len({os.fstat(fd).st_ino for fd in made}) == 40
