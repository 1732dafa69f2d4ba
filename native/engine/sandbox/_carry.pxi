# What carries an answer's chunks past the event loop: part of _box.pyx.


cdef extern from "sched/carry.h":
    enum carry_found:
        CARRY_EMPTY
        CARRY_FULL
        CARRY_FRAME
        CARRY_END
        CARRY_GONE

    struct carry:
        uint64_t left
        uint32_t body
        size_t at
        size_t end
        unsigned count
        const uint8_t *buffer

    int carry_open(carry *, int out, const void *headers, size_t)
    void carry_put(carry *, const void *, size_t)
    int carry_take(carry *, int, uint64_t, const void *, size_t)
    carry_found carry_turn(carry *) nogil
    carry_found carry_flush(carry *) nogil


EMPTY, FULL, FRAME, END, GONE = CARRY_EMPTY, CARRY_FULL, CARRY_FRAME, CARRY_END, CARRY_GONE


cdef class Carrier:
    """From a guest's pipe to the client's socket `out`, which stays its owner's."""

    cdef carry carry
    cdef bytes first

    def __init__(self, int out, bytes first not None, bytes headers not None=b""):
        """Writes `first` before anything else. With headers, each piece is a message of AWS's event streams."""
        self.first = first
        if carry_open(&self.carry, out, <const char *>headers, len(headers)) < 0:
            raise ValueError("headers that are too long")
        if first:
            carry_put(&self.carry, <const char *>first, len(first))

    def take(self, int answers, uint64_t left_bytes, bytes data not None):
        """Go on with a guest's pipe, which stays its owner's, and what was read of it; False where that is too much."""
        return carry_take(&self.carry, answers, left_bytes, <const char *>data, len(data)) == 0

    def turn(self):
        """Read and write what is there: EMPTY, FULL, FRAME, END or GONE."""
        cdef carry_found found
        with nogil:
            found = carry_turn(&self.carry)
        return found

    def flush(self):
        """Write what was read: EMPTY, FULL or GONE."""
        cdef carry_found found
        with nogil:
            found = carry_flush(&self.carry)
        return found

    @property
    def clean(self):
        """Nothing that was read is still to be written."""
        return self.carry.count == 0

    @property
    def left_bytes(self):
        """What the guest may still send, behind `rest` too."""
        return self.carry.left + self.carry.body

    def rest(self):
        """What was read and is not on its way, as frames: of a chunk under way what is still to come."""
        cdef bytes rest = (<const char *>self.carry.buffer + self.carry.at)[:self.carry.end - self.carry.at]
        if self.carry.body:
            rest = self.carry.body.to_bytes(4, "little") + b"\x15\0\0\0" + rest
        self.carry.at = self.carry.end = 0
        return rest
