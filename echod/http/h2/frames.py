"""Reads HTTP/2 frames from octets, one at a time, and writes the one frame that h2 can't write.

h2 takes whatever came, however many frames that is, and tells of all of them at once. A read of 64 KiB may hold
thousands of frames, which take h2 a tenth of a second, and some of them must not reach h2 at all (`session`). So the
octets are cut into frames here, and only the header of a frame is looked at.

Pure: octets in, values out. Must never know what a frame asks for.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame (RFC 9113 section 3.4)."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
"""The types of frames (section 6)."""

END_STREAM = ACK = 0x1
END_HEADERS = 0x4

HEADER_SIZE = 9
"""The size of a frame's header in bytes (section 4.1)."""

SETTING_SIZE = 6
"""The size of one setting in a SETTINGS frame in bytes (section 6.5.1)."""

MAX_STREAM = 0x7FFFFFFF
"""The highest stream identifier, and its bits. The bit above is reserved and ignored (section 4.1)."""


class FrameError(Exception):
    """Octets that are no frame, or a frame that is longer than it may be."""

    def __init__(self, why: str, is_too_long: bool = False) -> None:
        super().__init__(why)
        self.is_too_long = is_too_long


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream: int
    octets: bytes
    """The whole frame, with its header."""

    @property
    def payload_size(self) -> int:
        """The number of bytes after the header."""
        return len(self.octets) - HEADER_SIZE


class FrameReader:
    """The frames of one peer, behind its preface. A server has none."""

    __slots__ = ("_most", "_octets", "_preface")

    def __init__(self, most: int, preface: bytes = PREFACE) -> None:
        """`most` is the maximum of a frame's payload in bytes (SETTINGS_MAX_FRAME_SIZE)."""
        self._most = most
        self._octets = bytearray()
        self._preface = preface

    @property
    def held(self) -> int:
        """How many bytes have come and are not read."""
        return len(self._octets)

    @property
    def missing(self) -> int:
        """How many bytes are still to come until the frame is complete that has begun to come; 0 if none has, or if
        its size is not known yet."""
        if len(self._octets) < HEADER_SIZE:
            return 0
        return max(0, HEADER_SIZE + int.from_bytes(self._octets[:3]) - len(self._octets))

    def feed(self, octets: bytes) -> None:
        """Take octets, cut anywhere."""
        self._octets += octets

    def next(self) -> Frame | None:
        """Return the next frame, or None if it is not complete. Raises `FrameError`."""
        octets = self._octets
        if self._preface:
            size = min(len(octets), len(self._preface))
            if octets[:size] != self._preface[:size]:
                raise FrameError("a preface that is not HTTP/2's")
            self._preface = self._preface[size:]
            del octets[:size]
        if len(octets) < HEADER_SIZE:
            return None
        high, low, kind, flags, stream = struct.unpack_from("!BHBBL", octets)
        size = high << 16 | low
        if size > self._most:
            raise FrameError(f"a frame of more than {self._most} bytes", is_too_long=True)
        end = HEADER_SIZE + size
        if len(octets) < end:
            return None
        frame = Frame(kind, flags, stream & MAX_STREAM, bytes(octets[:end]))
        del octets[:end]
        return frame


def goaway(last_stream: int, code: int, why: str = "") -> bytes:
    """Return a GOAWAY frame (section 6.8).

    h2 can send one, but takes nothing and sends nothing afterwards. The streams that are open must go on (section 6.8).
    """
    payload = struct.pack("!LL", last_stream, code) + why.encode()
    return struct.pack("!BHBBL", 0, len(payload), GOAWAY, 0, 0) + payload


def settings(values: Mapping[Any, int]) -> bytes:
    """Return a SETTINGS frame (section 6.5) with these values by their codes."""
    payload = b"".join(struct.pack("!HL", name, value) for name, value in values.items())
    return struct.pack("!BHBBL", 0, len(payload), SETTINGS, 0, 0) + payload
