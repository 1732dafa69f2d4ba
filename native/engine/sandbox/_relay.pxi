# What carries an answer's chunks past the event loop: part of _box.pyx.


cdef extern from "sched/relay.h":
    enum relay_found:
        RELAY_EMPTY
        RELAY_FULL
        RELAY_FRAME
        RELAY_END
        RELAY_GONE

    struct relay:
        uint64_t left
        uint32_t body
        size_t at
        size_t end
        unsigned count
        const uint8_t *buffer

    int relay_open(relay *, int out, const void *headers, size_t)
    void relay_put(relay *, const void *, size_t)
    int relay_take(relay *, int, uint64_t, const void *, size_t)
    relay_found relay_turn(relay *) nogil
    relay_found relay_flush(relay *) nogil


EMPTY, FULL, FRAME, END, GONE = RELAY_EMPTY, RELAY_FULL, RELAY_FRAME, RELAY_END, RELAY_GONE


cdef class Relay:
    """From a guest's pipe to the client's socket `out`, which stays its owner's."""

    cdef relay relay
    cdef bytes first

    def __init__(self, int out, bytes first not None, bytes headers not None=b""):
        """Writes `first` before anything else. With headers, each piece is a message of AWS's event streams."""
        self.first = first
        if relay_open(&self.relay, out, <const char *>headers, len(headers)) < 0:
            raise ValueError("headers that are too long")
        if first:
            relay_put(&self.relay, <const char *>first, len(first))

    def take(self, int answers, uint64_t left_bytes, bytes data not None):
        """Go on with a guest's pipe, which stays its owner's, and what was read of it; False where that is too much."""
        return relay_take(&self.relay, answers, left_bytes, <const char *>data, len(data)) == 0

    def turn(self):
        """Read and write what is there: EMPTY, FULL, FRAME, END or GONE."""
        cdef relay_found found
        with nogil:
            found = relay_turn(&self.relay)
        return found

    def flush(self):
        """Write what was read: EMPTY, FULL or GONE."""
        cdef relay_found found
        with nogil:
            found = relay_flush(&self.relay)
        return found

    @property
    def clean(self):
        """Nothing that was read is still to be written."""
        return self.relay.count == 0

    @property
    def left_bytes(self):
        """What the guest may still send, behind `rest` too."""
        return self.relay.left + self.relay.body

    def rest(self):
        """What was read and is not on its way, as frames: of a chunk under way what is still to come."""
        cdef bytes rest = (<const char *>self.relay.buffer + self.relay.at)[:self.relay.end - self.relay.at]
        if self.relay.body:
            rest = self.relay.body.to_bytes(4, "little") + b"\x15\0\0\0" + rest
        self.relay.at = self.relay.end = 0
        return rest
