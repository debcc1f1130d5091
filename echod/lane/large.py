"""One large message frame, collected natively while it arrives.

Knows the native struct `echod_large` and the buffer of the frame's final size. Must never know where the bytes come
from: the codec and a lease both leave such a frame here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from echod.lane.native import Native

Octets: TypeAlias = bytes | memoryview
"""What was received. A view is of a buffer that was filled natively, and is too large to be copied in one go."""

LARGE = 4096
"""Octets of a payload from which on a frame is gathered natively as it comes; a smaller one that is cut is
Autobahn's."""


class Collected(NamedTuple):
    """A large frame of which some has come."""

    state: Any
    """Its `echod_large`."""

    octets: Any
    """What owns its buffer, with ECHOD_LARGE_ROOM octets in front of the payload."""


class Large:
    """One ordinary frame that comes in pieces: unmasked and validated as they come, in a buffer of the final size."""

    def __init__(self, native: Native, collected: Collected, sums: Any) -> None:
        """`sums`, an `echod_sums`, is what it is added to when it is complete."""
        self._native = native
        self._state = collected.state
        self._octets = collected.octets
        self._sums = sums
        self._room = native.lib.ECHOD_LARGE_ROOM + int(self._state.length)
        self._touched = max(0, native.lib.echod_resident(self._octets, self._room) - self.size)
        self.is_complete = False
        # What is whole, and was left nevertheless, ends within a character.
        self.is_invalid = self._state.utf8 == native.lib.ECHOD_UTF8_REJECT or not self.missing

    @property
    def size(self) -> int:
        """Octets of the payload that have come."""
        return int(self._state.done)

    @property
    def held(self) -> int:
        """Octets of memory that it takes: which pages took some before, when they were another's, nobody knows."""
        return min(self._room, self._touched + self.size)

    @property
    def missing(self) -> int:
        """Octets of the payload that are to come."""
        return int(self._state.length - self._state.done)

    def feed(self, octets: Octets) -> Octets:
        """Take octets; return those that are behind the frame. Not to be called again once it is complete or
        invalid."""
        lib, ffi = self._native.lib, self._native.ffi
        before = self.size
        room = self._octets + lib.ECHOD_LARGE_ROOM + before
        outcome = lib.echod_large_feed(self._state, room, ffi.from_buffer(octets), len(octets))
        self.is_complete = outcome == lib.ECHOD_LARGE_COMPLETE
        self.is_invalid = outcome == lib.ECHOD_LARGE_INVALID
        if self.is_complete:
            lib.echod_large_sum(self._state, self._sums)
        return octets[self.size - before :]

    def answer(self) -> bytes:
        """Return the frame that echoes it, once it is complete."""
        return bytes(self._behind_header(self._native.lib.echod_large_server_header))

    def taken(self) -> memoryview:
        """Return what was taken, as the client sent it, for Autobahn to judge. It is the buffer itself: there may be
        too much to copy."""
        size = self.size
        self._native.lib.echod_large_restore(self._state, self._octets + self._native.lib.ECHOD_LARGE_ROOM)
        return self._behind_header(self._native.lib.echod_large_client_header, size)

    def _behind_header(self, write_header: Callable[[Any, Any], int], size: int | None = None) -> memoryview:
        """Write a header in front of the payload, and return it with the first `size` octets of that."""
        ffi, room = self._native.ffi, self._native.lib.ECHOD_LARGE_ROOM
        header = ffi.new("uint8_t[]", room)
        header_size = write_header(self._state, header)
        ffi.memmove(self._octets + room - header_size, header, header_size)
        whole = room + (self._state.length if size is None else size)
        return memoryview(ffi.buffer(self._octets, whole))[room - header_size :]
