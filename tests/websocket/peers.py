"""Peers whose opening handshake is over, and what they send."""

from __future__ import annotations

import zlib
from typing import Any

from OpenSSL import SSL
from twisted.internet.task import Clock

from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, Frame, deflated_octets

TLS_FAULT = SSL.Error([("SSL routines", "", "no shared cipher")])


class Deflater:
    """A client's end of permessage-deflate with context takeover (RFC 7692 section 7.2)."""

    def __init__(self, level: int = 6, memory: int = 8) -> None:
        self.compressor = zlib.compressobj(level, zlib.DEFLATED, -15, memory)
        self.decompressor = zlib.decompressobj(-15)

    def deflate(self, payload: bytes) -> bytes:
        return deflated_octets(payload, self.compressor)

    def inflate(self, frame: Frame) -> bytes:
        return self.decompressor.decompress(frame.payload + b"\x00\x00\xff\xff") if frame.rsv == 4 else frame.payload


def opened(clock: Clock, target: str = "/", *headers: str, **settings: Any) -> Peer:
    """Return a peer whose connection to a new factory is open."""
    peer = Peer(make_factory(clock, **settings))
    peer.open(target, *headers)
    return peer


def closed_with(frames: list[Frame]) -> int:
    """Return the code of the Close frame that ends `frames`."""
    assert frames[-1].opcode == CLOSE
    return int.from_bytes(frames[-1].payload[:2], "big")
