"""AWS's event stream encoding: what InvokeWithResponseStream answers in.

A message is u32 total length | u32 length of the headers | CRC32 of these eight bytes | headers | payload | CRC32 of
all before it, big-endian; a header is its name after u8 length, the type 7 for text, its value after u16 length.
Source: smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Mapping

import orjson

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_TEXT = 7


def message(headers: bytes, payload: bytes) -> bytes:
    """One message; `headers` are encoded already."""
    total = _PRELUDE.size + _CRC.size + len(headers) + len(payload) + _CRC.size
    prelude = _PRELUDE.pack(total, len(headers))
    checked = b"".join((prelude, _CRC.pack(crc32(prelude)), headers, payload))
    return checked + _CRC.pack(crc32(checked))


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Headers of text."""
    pieces = []
    for name, value in headers.items():
        text = value.encode()
        pieces += [bytes((len(name),)), name.encode(), struct.pack(">BH", _TEXT, len(text)), text]
    return b"".join(pieces)


def _event(kind: str, content_type: str) -> bytes:
    return encode_headers({":event-type": kind, ":content-type": content_type, ":message-type": "event"})


CHUNK_HEADERS = _event("PayloadChunk", "application/octet-stream")
"""Of the messages with the answer's bytes."""
_COMPLETE = _event("InvokeComplete", "application/json")


def payload_chunk(data: bytes) -> bytes:
    """The next bytes of an answer."""
    return message(CHUNK_HEADERS, data)


def invoke_complete(members: Mapping[str, str]) -> bytes:
    """The last event: ErrorCode and ErrorDetails of a function that failed, LogResult if it was asked for."""
    return message(_COMPLETE, orjson.dumps(members))


def failure(code: str, text: str) -> bytes:
    """In place of the last event: the engine failed. Clients raise it."""
    # A header's value may have 32,767 bytes.
    headers = {":message-type": "error", ":error-code": code, ":error-message": text[:1_000]}
    return message(encode_headers(headers), b"")
