"""`/frames`: for each frame that a client sends, one text message in JSON that says what came, and what it did.

Knows frames. Must never decide what is valid: Autobahn does, and this tells it afterwards. Autobahn may fail a
connection in the middle of a frame, or send a Close frame within `feed`; the frame is told of before that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from echod.core.printable import escape
from echod.websocket.frames import CLOSE, CONTINUATION, Frame, FrameReader

FED = 128
"""Bytes to feed Autobahn at a time: up to 21 frames, each of which is answered by some 200 bytes."""


class Reported(Protocol):
    """What a report needs of a connection."""

    def feed(self, data: bytes) -> None:
        """Give Autobahn received bytes."""
        ...

    def answer(self, payload: bytes, is_binary: bool, is_plain: bool) -> None:
        """Send a message."""
        ...

    @property
    def in_open_state(self) -> bool:
        """Whether no Close frame was sent."""
        ...


class FrameReport:
    """The frames of one connection to `/frames`."""

    __slots__ = ("_connection", "_now", "_reader", "_since")

    def __init__(self, connection: Reported, most: int, now: Callable[[], float]) -> None:
        """`most`: how many bytes of a payload are shown. `now` returns the time in seconds."""
        self._connection = connection
        self._reader = FrameReader(most)
        self._now = now
        self._since = now()

    def feed(self, data: bytes) -> None:
        """Give Autobahn received bytes frame by frame, and tell of each."""
        start = 0
        while start < len(data) and self._connection.in_open_state:
            end = self._reader.take(data, start)
            is_complete = self._reader.is_complete
            self._connection.feed(data[start:end])
            if is_complete and self._connection.in_open_state:
                self.tell("")
            start = end
        if start < len(data):
            self._connection.feed(data[start:])

    def tell(self, why: str) -> None:
        """Tell of the present frame, as far as it has come. `why`: why the connection closes, if it does."""
        mask, length_bits = self._reader.mask, self._reader.length_bits
        frame = self._reader.next()
        if frame is not None:
            told = describe(frame, mask, length_bits, why)
            told["ms"] = round((self._now() - self._since) * 1000, 3)
            self._connection.answer(json.dumps(told).encode(), False, True)


def describe(frame: Frame, mask: bytes | None, length_bits: int, why: str) -> dict[str, Any]:
    """Return what there is to tell of a frame, but for the time."""
    told: dict[str, Any] = {
        "opcode": frame.opcode,
        "type": frame.name,
        "fin": frame.fin,
        "rsv": [number for number in (1, 2, 3) if frame.rsv & 8 >> number],
        "mask": None if mask is None else mask.hex(),
        "length": frame.length,
        "length_bits": length_bits,
        "came": frame.came,
        "payload": frame.payload.hex(),
        "did": escape(why) or _effect(frame),
    }
    return told


def _effect(frame: Frame) -> str:
    """Say what a valid frame does to the message."""
    if frame.opcode >= CLOSE:
        return {9: "is answered with a pong", 10: "nothing"}.get(frame.opcode, "begins the close")
    if frame.opcode == CONTINUATION:
        return "ends the message" if frame.fin else "continues the message"
    return "is a whole message" if frame.fin else "begins a message"
