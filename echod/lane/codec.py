"""The codec without the pump: it echoes ordinary frames at the front of bytes that Twisted has read.

The codec serves a connection whose socket cannot be leased to the pump (see leases.py). Its output is byte for byte
what Autobahn would send.

Knows the native codec. Must never know transports or the protocol.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from echod.core.counts import Sums
from echod.lane.large import LARGE, Collected, Large, Octets
from echod.lane.native import Native


class Codec:
    """The codec for bytes that Twisted has read."""

    def __init__(self, native: Native, limit: int) -> None:
        """`limit` is the longest message, in bytes."""
        self._native = native
        # Autobahn gets a longer frame, so that no size wraps around on a machine of 32 bits (as in native/lease.h).
        self._limit = min(limit, sys.maxsize // 4)
        self._sums: Any = native.ffi.new("echod_sums *")

    @property
    def sums(self) -> Sums:
        """The sums of all messages that the codec has echoed."""
        return Sums.of_native(self._sums)

    def echo(self, octets: Octets, note: Callable[[int, int], None]) -> tuple[bytes, Octets]:
        """Return the answers to the ordinary frames at the front of `octets`, and the bytes behind these frames.

        `octets` must begin with a frame. `note` is told how many messages there were, and how many bytes of payload.
        """
        buffer = bytearray(octets)
        echoed = self._native.lib.echod_codec_echo(
            self._native.ffi.from_buffer(buffer), len(buffer), self._limit, self._sums
        )
        if echoed.messages:
            note(echoed.messages, echoed.octets)
        return bytes(buffer[: echoed.produced]), octets[echoed.consumed :]

    def begin(self, octets: Octets) -> Large | None:
        """Take the beginning of an ordinary frame that is not complete. Return None if it is not ordinary, too small to
        be worth it, or already invalid."""
        lib, ffi = self._native.lib, self._native.ffi
        state: Any = ffi.new("echod_large *")
        header_size = lib.echod_large_begin(state, ffi.from_buffer(octets), len(octets), self._limit)
        if not header_size or state.length < LARGE:
            return None
        # The buffer is not cleared, because memory that nobody has written to takes no room. Otherwise a header alone
        # would take as much as it claims.
        make = ffi.new_allocator(should_clear_after_alloc=False)
        large = self.go_on(Collected(state, make("uint8_t[]", lib.ECHOD_LARGE_ROOM + state.length)))
        large.feed(octets[header_size:])
        return None if large.is_invalid else large

    def go_on(self, collected: Collected) -> Large:
        """Go on with a frame that a lease has left."""
        return Large(self._native, collected, self._sums)
