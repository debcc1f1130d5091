"""Builds the frames of a client and parses the frames of a server (RFC 6455 section 5.2), in plain loops.

This is the tests' oracle. It knows the RFC, and must never import echod or Autobahn.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Frame(NamedTuple):
    """A received frame."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def _header(opcode: int, length: int, fin: bool, rsv: int, mask_bit: int) -> bytes:
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if length < 126:
        return bytes([first, mask_bit | length])
    if length < 65536:
        return bytes([first, mask_bit | 126]) + struct.pack("!H", length)
    return bytes([first, mask_bit | 127]) + struct.pack("!Q", length)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Return `payload` masked; masking a second time unmasks it (section 5.3)."""
    repeated = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ repeated).to_bytes(len(payload), "big")


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
    claim: int | None = None,
) -> bytes:
    """Return a frame as a client sends it. `claim` replaces the length in its header."""
    header = _header(opcode, len(payload) if claim is None else claim, fin, rsv, 0x80 if mask else 0)
    return header + (mask + masked(payload, mask) if mask else payload)


def server_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a frame as a server sends it."""
    return _header(opcode, len(payload), fin, rsv, 0) + payload


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the payload of a Close frame (section 5.5.1)."""
    return struct.pack("!H", code) + reason.encode()


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
"""The header field with which a client offers permessage-deflate."""


def deflated_octets(payload: bytes, compressor: Any = None) -> bytes:
    """Return the bytes of a deflated message (RFC 7692 section 7.2.1). Without a compressor it refers to no other
    message."""
    compressor = compressor or zlib.compressobj(wbits=-15)
    octets: bytes = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return octets[:-4]


def take(octets: bytes | bytearray, *, is_masked: bool) -> tuple[Frame, int] | None:
    """Return the first frame of `octets` and its size, or None if that frame is incomplete. A client masks every frame,
    a server none (section 5.1)."""
    if len(octets) < 2:
        return None
    assert octets[1] >> 7 == is_masked
    length, start = octets[1] & 0x7F, 2
    if length >= 126:
        start = 4 if length == 126 else 10
        length = int.from_bytes(octets[2:start], "big")
    mask, start = bytes(octets[start : start + 4 * is_masked]), start + 4 * is_masked
    if len(octets) < start + length:
        return None
    payload = bytes(octets[start : start + length])
    frame = Frame(
        octets[0] & 15, masked(payload, mask) if is_masked else payload, bool(octets[0] & 0x80), octets[0] >> 4 & 7
    )
    return frame, start + length


def split(octets: bytes) -> tuple[list[Frame], bytes]:
    """Return the complete frames of a server at the start of `octets`, and the rest."""
    frames = []
    while (taken := take(octets, is_masked=False)) is not None:
        frame, size = taken
        frames.append(frame)
        octets = octets[size:]
    return frames, octets


def handshake(target: str = "/", *headers: str, key: str = "dGhlIHNhbXBsZSBub25jZQ==") -> bytes:
    """Return the opening handshake of section 1.3's example, with further headers."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to that example's key."""
