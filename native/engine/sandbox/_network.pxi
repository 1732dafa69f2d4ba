# Networks: part of _box.pyx.


def net_make(link=None):
    """A network namespace with loopback up: (its descriptor, that of its counters or -1). `link` is (router's
    rtnetlink, index, outer address, inner address, MTU)."""
    cdef box_error err
    cdef box_net made
    cdef box_net_link tied
    cdef const box_net_link *chosen = NULL
    cdef int status
    if link is not None:
        tied.router_sock, tied.index, tied.outer, tied.inner, tied.mtu = link
        chosen = &tied
    with nogil:
        status = box_net_make(chosen, &made, &err)
    if status < 0:
        raise fault(&err)
    return made.ns, made.counters


def net_enter(int ns):
    """The calling thread joins a network namespace."""
    cdef box_error err
    if box_net_enter(ns, &err) < 0:
        raise fault(&err)


def rtnl_open():
    """A socket that speaks rtnetlink for the calling thread's namespace."""
    cdef box_error err
    cdef int fd = box_rtnl_open(&err)
    if fd < 0:
        raise fault(&err)
    return fd


cdef int fill_end(box_link_end *end, bytes name, index) except -1:
    if len(name) >= <Py_ssize_t>sizeof(end.name):
        raise ValueError(f"the name of an interface has at most {<Py_ssize_t>sizeof(end.name) - 1} bytes")
    memset(end, 0, sizeof(end[0]))
    memcpy(end.name, <const char *>name, len(name))
    end.index = index
    return 0


def link_pair(int sock, near, far, int far_ns, mtu):
    """A pair of virtual Ethernet devices: `near` where `sock` is, up, and `far` in `far_ns`, down. Each is (name,
    index or 0)."""
    cdef box_error err
    cdef box_link_end near_end, far_end
    cdef uint32_t bytes_a_packet = mtu
    cdef int status
    fill_end(&near_end, near[0].encode(), near[1])
    fill_end(&far_end, far[0].encode(), far[1])
    with nogil:
        status = box_link_pair(sock, &near_end, &far_end, far_ns, bytes_a_packet, &err)
    if status < 0:
        raise fault(&err)


def link_up(int sock, str name):
    """Bring an interface up."""
    cdef box_error err
    cdef bytes text = name.encode()
    if box_link_up(sock, text, &err) < 0:
        raise fault(&err)


def link_remove(int sock, str name):
    """Remove an interface and its other end; whether it was there."""
    cdef box_error err
    cdef bytes encoded = name.encode()
    cdef const char *text = encoded
    cdef int status
    with nogil:
        status = box_link_remove(sock, text, &err)
    if status < 0:
        raise fault(&err)
    return status == 1


def address_add(int sock, index, address, prefix):
    """Give an interface an IPv4 address."""
    cdef box_error err
    if box_address_add(sock, index, address, prefix, &err) < 0:
        raise fault(&err)


def route_default(int sock, via):
    """Send what has no other route to an IPv4 address."""
    cdef box_error err
    if box_route_default(sock, via, &err) < 0:
        raise fault(&err)
