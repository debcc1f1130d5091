"""Frames as they are on the wire, for people who want to see them: bytes in, `Frame`s out.

`FrameReader` reads the layout of RFC 6455 section 5.2 and judges nothing: Autobahn decides what is valid. A payload is
shown as it is on the wire, without its mask. A deflated one is not inflated: to inflate it a second time would take the
memory and the time of a second inflater for each direction.

Pure. Must never know a connection.
"""

from __future__ import annotations

from codecs import utf_8_decode
from typing import Any, NamedTuple

from echod.core.printable import escape

CONTINUATION, TEXT, CLOSE = 0, 1, 8

DEFLATED = 4
"""RSV1, which marks the first frame of a deflated message (RFC 7692 section 6)."""

NAMES = {CONTINUATION: "continuation", TEXT: "text", 2: "binary", CLOSE: "close", 9: "ping", 10: "pong"}
"""What frames are called, by their opcodes (RFC 6455 section 11.8)."""


class Frame(NamedTuple):
    """A frame, or the part of it that has come."""

    opcode: int
    fin: bool
    rsv: int
    """RSV1 is 4, RSV2 is 2, and RSV3 is 1."""
    is_masked: bool
    length: int
    """The bytes of the payload, as the header says."""
    came: int
    """How many of them have come."""
    payload: bytes
    """The first of them, without the mask."""
    is_text: bool
    """Whether the payload is a part of a text that is not deflated."""

    @property
    def name(self) -> str:
        """What such a frame is called."""
        return NAMES.get(self.opcode, f"opcode {self.opcode}")

    def fields(self) -> dict[str, Any]:
        """Return what there is to tell, by name. What the peer sent is escaped."""
        told: dict[str, Any] = {
            "opcode": self.opcode,
            "type": self.name,
            "fin": self.fin,
            "rsv": [number for number in (1, 2, 3) if self.rsv & 8 >> number],
            "masked": self.is_masked,
            "length": self.length,
            "payload": self.shown_payload(),
        }
        return told if self.came == self.length else told | {"came": self.came}

    def __str__(self) -> str:
        """Return what there is to tell, on one line."""
        flags = [f"rsv{number}" for number in (1, 2, 3) if self.rsv & 8 >> number]
        words = [self.name, *["fin"] * self.fin, *flags, *["masked"] * self.is_masked, f"length={self.length}"]
        missing = "" if self.came == self.length else f" (incomplete, {self.came} octets came)"
        return f"{' '.join(words)}: {self.shown_payload()}{missing}"

    def shown_payload(self) -> str:
        """Return the payload, escaped. A dot-dot-dot stands for what is not here. A Close frame's begins with the code
        as a number."""
        rest = "…" if len(self.payload) < self.length else ""
        if self.opcode == CLOSE and len(self.payload) >= 2:
            reason = show(self.payload[2:], True)
            return f"{int.from_bytes(self.payload[:2])}{reason and ' '}{reason}{rest}"
        return show(self.payload, self.is_text) + rest


def show(octets: bytes, is_text: bool) -> str:
    """Return bytes on one line with nothing in them that a terminal would act on: a text in UTF-8 as text, anything
    else byte by byte. A text may end within a character."""
    text, size = "", 0
    if is_text:
        try:
            text, size = utf_8_decode(octets, "strict", False)
        except UnicodeDecodeError:
            text = ""
    return escape(text) + repr(octets[size:])[2:-1]


class FrameReader:
    """The frames of one direction of a connection."""

    __slots__ = ("_came", "_head", "_is_text", "_length", "_most", "_payload", "count")

    def __init__(self, most: int) -> None:
        """`most`: how many bytes of a payload are kept."""
        self._most = most
        self._is_text = False
        self.count = 0
        """How many frames there were, without the present one."""
        self._begin()

    def _begin(self) -> None:
        self._head = bytearray()
        self._payload = bytearray()
        self._length = -1
        self._came = 0

    def take(self, octets: bytes, start: int) -> int:
        """Take bytes from `start` on, and return where the rest begins: after the present frame, or at the end."""
        while self._length < 0 and start < len(octets):
            end = min(start + self._missing_head, len(octets))
            self._head += octets[start:end]
            start = end
            if not self._missing_head:
                self._length = self._length_of_head()
        if self._length < 0:
            return start
        end = min(start + self._length - self._came, len(octets))
        self._payload += octets[start : min(end, start + self._most - len(self._payload))]
        self._came += end - start
        return end

    @property
    def _missing_head(self) -> int:
        head = self._head
        if len(head) < 2:
            return 2 - len(head)
        return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + 4 * (head[1] >> 7) - len(head)

    def _length_of_head(self) -> int:
        short = self._head[1] & 0x7F
        return short if short < 126 else int.from_bytes(self._head[2 : 4 if short == 126 else 10])

    @property
    def mask(self) -> bytes | None:
        """The masking key of the present frame; None if it has none, or its header has not come."""
        return bytes(self._head[-4:]) if self._length >= 0 and self._head[1] & 0x80 else None

    @property
    def length_bits(self) -> int:
        """In how many bits the length of the present frame is written: 7, 16 or 64; 0 if its header has not come."""
        return {126: 16, 127: 64}.get(self._head[1] & 0x7F, 7) if self._length >= 0 else 0

    @property
    def is_complete(self) -> bool:
        """Whether the whole of a frame has come."""
        return self._came == self._length

    def next(self) -> Frame | None:
        """Return the present frame as far as it has come, and go on to the next one. None: not even its header has
        come."""
        if self._length < 0:
            return None
        first, second = self._head[:2]
        opcode, rsv = first & 15, first >> 4 & 7
        if CONTINUATION < opcode < CLOSE:
            self._is_text = opcode == TEXT and not rsv & DEFLATED
        payload = bytes(self._payload)
        if second & 0x80:
            size = len(payload)
            mask = (bytes(self._head[-4:]) * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
        frame = Frame(
            *(opcode, first >= 0x80, rsv, second >= 0x80, self._length, self._came, payload),
            is_text=opcode < CLOSE and self._is_text,
        )
        self.count += 1
        self._begin()
        return frame
