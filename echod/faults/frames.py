"""Frames as a server writes them, right and wrong: pure functions from payloads to bytes.

Knows the layout of frames (RFC 6455 section 5.2). Must never know a connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from echod.core.quantities import MIB

STEP_FRAMES = 512
"""The most frames that are made in one step, which takes half a millisecond."""

STEP_OCTETS = MIB
"""The most bytes of payload in these frames. Copying so many takes as long."""


def in_frames(payload: bytes, size: int, opcode: int, rsv: int) -> Iterator[bytes]:
    """Yield a message in frames of at most `size` bytes of payload (RFC 6455 section 5.4), some frames at each step.

    Text may be cut within a character (section 5.6). Autobahn would end a message whose length is a multiple of `size`
    with an empty frame.
    """
    count = max(1, -(-len(payload) // size))
    some = max(1, min(STEP_FRAMES, STEP_OCTETS // size))
    for first in range(0, count, some):
        # `_frames` makes the pieces, so that nothing but the payload is kept between two steps.
        yield b"".join(_frames(payload, size, range(first, min(first + some, count)), count, rsv << 4 | opcode))


def _frames(payload: bytes, size: int, numbers: range, count: int, first_octet: int) -> Iterator[bytes]:
    """Yield the headers and payloads of the frames with these `numbers`, of `count` in all."""
    for number in numbers:
        piece = payload[number * size : (number + 1) * size]
        yield header((0 if number else first_octet) | (0x80 if number == count - 1 else 0), len(piece))
        yield piece


def header(first: int, length: int) -> bytes:
    """Return the header of a frame without a mask; `first` is its first octet."""
    if length < 126:
        return bytes((first, length))
    return struct.pack("!BBH", first, 126, length) if length < 65536 else struct.pack("!BBQ", first, 127, length)
