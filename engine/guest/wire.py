"""The frames between the engine and a guest, over two pipes: the one definition for both sides.

Pipes, not a socket: whoever has a socket's other end can send descriptors over it, and the engine would have to close
them. Closing may take as long as the sender likes (a TCP connection that lingers).

A frame is an 8-byte header, little-endian: u32 length of the body, u8 kind, three zero bytes; then the body. SPEC and
the first EVENT follow each other at once; from then on it is one EVENT, any frames of the guest, one RESULT or ERROR.
Where the init phase is wanted ahead of any event, PREPARE takes the place of that first EVENT, and is answered by READY
or INIT_ERROR alone.
What is left of an input when the answer is there is the guest's to skip.

    engine → guest   SPEC    JSON object, see guest/runtime.py
                     EVENT   u32 length of the meta, the meta (JSON object), the event's payload as it came
                     INPUT      the next bytes of a streamed input, only after an event that has one
                     INPUT_END  empty: the input is over
                     PREPARE    empty, after SPEC: run the init phase, and wait for the first event
                     LEAVE      empty, between two events: the sandbox is about to be killed; run what is registered
                                for its end, and exit
    guest → engine   HELLO       the guest is there and waits for the SPEC; of one that did not park: the moments of
                                 its set-up, struct box_boot of native/box/box.h
                     READY       empty: the init phase is over; the handler is called next if there is an event
                     INIT_ERROR  an error document (JSON); the guest exits after it
                     TIMELINE    MOMENTS, before an answer or an INIT_ERROR whose event asks for it
                     FAREWELL    empty, once and before READY or an answer: the function has registered for its end
                     CHUNK       the next bytes of a streamed answer, only where the event asks for a stream
                     RESULT      the handler's result as JSON; after chunks the rest of the answer, mostly empty
                     ERROR       an error document (JSON); the guest goes on
                     TOO_LARGE   empty: the answer was over its limit; what is over it was not sent

The limits are the reader's to enforce: a length over its limit is a protocol error, never an allocation.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<IB3x")
META = struct.Struct("<I")

SPEC = 1
EVENT = 2
INPUT = 3
INPUT_END = 4
LEAVE = 5
PREPARE = 6

HELLO = 15
READY = 16
INIT_ERROR = 17
RESULT = 18
ERROR = 19
TOO_LARGE = 20
CHUNK = 21
TIMELINE = 22
FAREWELL = 23

BOOT_LIMIT_BYTES = 256
"""What a HELLO may have."""

MOMENTS = struct.Struct("<11Q")
"""Where a guest's time went: the moments (CLOCK_MONOTONIC, in nanoseconds; 0: never came) at which it had read the
event, entered the code's folder, imported the handler, was ready to call it, and had its answer; then how many minor
and major page faults its process had had at the first, the fourth and the fifth of them."""

ERROR_LIMIT_BYTES = 262_144
"""An error document may not be larger; the guest shortens its message and its trace to fit."""

CHUNK_LIMIT_BYTES = 262_144
"""A chunk of an answer or of an input; what is larger is sent as several. Small enough that a few may wait."""

SPEC_LIMIT_BYTES = 1_048_576
"""A specification: the environment is at most 4 KB and what AWS adds to it."""

EVENT_LIMIT_BYTES = 35_651_584
"""The body of an EVENT frame: the meta and a payload, for which the settings allow 32 MB, with room to spare."""

ANSWERS_FD = 3
"""Where a guest writes its frames."""

INIT_END = b"\0\x1fcleave: the init phase is over\0\n"
"""In the log's pipe before READY: no order holds between two pipes, and the handler's output comes right after. Who
forges it in module code misplaces START in his own log."""

EVENTS_FD = 4
"""Where a guest reads the engine's."""

COMPILER = "cleave_guest.bytecode.handler"
"""A handler that every guest has, for the engine's own use: bytecode.py."""

RECORD = struct.Struct("<II")
"""What its answer is made of: length of a path, length of its bytecode; the path of a source within the task root, in
UTF-8; the bytes of its .pyc file."""


def frame(kind: int, body: bytes = b"") -> bytes:
    """A whole frame."""
    return HEADER.pack(len(body), kind) + body
