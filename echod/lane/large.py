"""One large message frame, collected natively while it arrives.

Knows the native struct `echod_large` and the buffer of the frame's final size. Must never know where the bytes come
from: the codec and a lease both leave such a frame here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from echod.lane.native import Native

Octets: TypeAlias = bytes | memoryview
"""Received bytes. A view is of a buffer that native code has filled, and is too large to be copied at once."""

LARGE = 4096
"""The smallest payload in bytes for which an incomplete frame is collected natively. Autobahn collects smaller ones."""


class Collected(NamedTuple):
    """A large frame of which a part has arrived."""

    state: Any
    """The frame's `echod_large`."""

    octets: Any
    """The object that owns the frame's buffer, in which ECHOD_LARGE_ROOM bytes are in front of the payload."""


class Large:
    """One ordinary frame that arrives in pieces. Each piece is unmasked and validated in a buffer of the final size."""

    def __init__(self, native: Native, collected: Collected, sums: Any) -> None:
        """When the frame is complete, it is added to `sums`, an `echod_sums`."""
        self._native = native
        self._state = collected.state
        self._octets = collected.octets
        self._sums = sums
        self._room = native.lib.ECHOD_LARGE_ROOM + int(self._state.length)
        self._touched = max(0, native.lib.echod_resident(self._octets, self._room) - self.size)
        self.is_complete = False
        # A lease leaves a complete frame only if its text ends within a character.
        self.is_invalid = self._state.utf8 == native.lib.ECHOD_UTF8_REJECT or not self.missing

    @property
    def size(self) -> int:
        """How many bytes of the payload have arrived."""
        return int(self._state.done)

    @property
    def held(self) -> int:
        """How many bytes of memory the frame takes, at most. Pages that took memory before, when they were another's,
        count in addition, because nobody knows which pages they are."""
        return min(self._room, self._touched + self.size)

    @property
    def missing(self) -> int:
        """How many bytes of the payload are still to come."""
        return int(self._state.length - self._state.done)

    def feed(self, octets: Octets) -> Octets:
        """Take received bytes, and return those behind the frame. Do not call this when the frame is complete or
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
        """Return the server frame that echoes the complete frame."""
        return bytes(self._behind_header(self._native.lib.echod_large_server_header))

    def taken(self) -> memoryview:
        """Return the bytes that were taken as the client sent them, so that Autobahn can judge them.

        The view is of the buffer itself, because there may be too much to copy.
        """
        size = self.size
        self._native.lib.echod_large_restore(self._state, self._octets + self._native.lib.ECHOD_LARGE_ROOM)
        return self._behind_header(self._native.lib.echod_large_client_header, size)

    def _behind_header(self, write_header: Callable[[Any, Any], int], size: int | None = None) -> memoryview:
        """Write a header in front of the payload, and return it with the first `size` bytes of the payload, or all."""
        ffi, room = self._native.ffi, self._native.lib.ECHOD_LARGE_ROOM
        header = ffi.new("uint8_t[]", room)
        header_size = write_header(self._state, header)
        ffi.memmove(self._octets + room - header_size, header, header_size)
        whole = room + (self._state.length if size is None else size)
        return memoryview(ffi.buffer(self._octets, whole))[room - header_size :]
