"""The codec as the tests call it: bytes in, a value out, and guards on both sides of every buffer.

Knows the extension's interface. Must never know the right answer.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from tests.lane.native.oracle import Echo

if TYPE_CHECKING:
    from echod.lane.native import Native

GUARD = 64
"""Bytes before and behind a buffer: the widest step of a kernel."""

LIMIT = 1 << 24

Pointer: TypeAlias = Any
"""The stubs of cffi's own type have no arithmetic."""


class Guarded:
    """Bytes at a chosen alignment, between guards."""

    def __init__(self, native: Native, octets: bytes, alignment: int = 0) -> None:
        self.native = native
        self.size = len(octets)
        self.memory = native.ffi.new("uint8_t[]", 3 * GUARD + alignment + self.size)
        begin = int(native.ffi.cast("uintptr_t", self.memory))
        self.offset = GUARD + (alignment - begin) % GUARD
        self.view = memoryview(native.ffi.buffer(self.memory))
        self.view[:] = b"\xa5" * len(self.view)
        self.view[self.offset : self.offset + self.size] = octets

    def at(self, place: int = 0) -> Pointer:
        """Return a pointer to byte number `place`. It is valid as long as this object lives."""
        return self.memory + (self.offset + place)

    @property
    def octets(self) -> bytes:
        """The bytes that are there now. The guards are checked first."""
        behind = self.offset + self.size
        assert set(self.view[: self.offset]) == {0xA5}, "a byte before the buffer was written"
        assert set(self.view[behind:]) == {0xA5}, "a byte behind the buffer was written"
        return bytes(self.view[self.offset : behind])


def summed(of_type: Any) -> tuple[dict[int, int], int]:
    """Return an `echod_sum` as the number of messages at each place, without zeros, and the bytes of their payloads."""
    return {place: count for place, count in enumerate(of_type.sizes) if count}, of_type.octets


@dataclass
class Large:
    """An `echod_large`."""

    codec: Codec
    struct: Any

    def feed(self, target: Pointer, source: Pointer, length: int) -> str:
        """Feed a piece of the payload; return the name of the state."""
        lib = self.codec.native.lib
        names = {lib.ECHOD_LARGE_OPEN: "OPEN", lib.ECHOD_LARGE_COMPLETE: "COMPLETE", lib.ECHOD_LARGE_INVALID: "INVALID"}
        return names[lib.echod_large_feed(self.struct, target, source, length)]

    def restore(self, payload: Pointer) -> None:
        """Mask the payload that was fed again."""
        self.codec.native.lib.echod_large_restore(self.struct, payload)

    def server_header(self) -> bytes:
        """Return the header of the frame that echoes the message."""
        header = Guarded(self.codec.native, bytes(10))
        size = self.codec.native.lib.echod_large_server_header(self.struct, header.at())
        return header.octets[:size]

    def client_header(self) -> bytes:
        """Return the header that the client sent."""
        header = Guarded(self.codec.native, bytes(14))
        size = self.codec.native.lib.echod_large_client_header(self.struct, header.at())
        return header.octets[:size]


class Codec:
    """The native codec. Within a `with` statement it uses one kernel."""

    def __init__(self, native: Native, kernel: str) -> None:
        self.native = native
        self.kernel = kernel
        lib = native.lib
        self.stops = {
            lib.ECHOD_STOP_BOUNDARY: "BOUNDARY",
            lib.ECHOD_STOP_NEED_MORE: "NEED_MORE",
            lib.ECHOD_STOP_TOO_LARGE: "TOO_LARGE",
            lib.ECHOD_STOP_NOT_ORDINARY: "NOT_ORDINARY",
        }

    def __enter__(self) -> Self:
        assert self.native.lib.echod_codec_set_isa(self.kernel.encode()) == 0
        return self

    def __exit__(self, *_: object) -> None:
        assert self.native.lib.echod_codec_set_isa(self.native.ffi.NULL) == 0

    def echo(self, octets: bytes, limit: int = LIMIT, alignment: int = 0) -> Echo:
        """Echo the frames; check that all bytes from `consumed` on are unchanged."""
        buffer = Guarded(self.native, octets, alignment)
        sums: Any = self.native.ffi.new("echod_sums *")
        said = self.native.lib.echod_codec_echo(buffer.at(), len(octets), limit, sums)
        after = buffer.octets
        assert after[said.consumed :] == octets[said.consumed :], "the rest was written to"
        echo = Echo(
            after[: said.produced],
            said.consumed,
            self.stops[said.stop],
            said.need,
            summed(sums.text),
            summed(sums.binary),
        )
        assert (said.messages, said.octets) == (echo.messages, echo.octets)
        return echo

    def large(self, octets: bytes, limit: int = LIMIT) -> tuple[int, Large]:
        """Begin a large message; return the size of the client's header, or 0 if there is none, and the message."""
        struct = self.native.ffi.new("echod_large *")
        buffer = Guarded(self.native, octets)
        return self.native.lib.echod_large_begin(struct, buffer.at(), len(octets), limit), Large(self, struct)

    def unmask(
        self, octets: bytes, key: bytes, phase: int = 0, alignment: int = 0, back: int = 0
    ) -> tuple[bytes, bool]:
        """Unmask to `back` bytes before the source; return the result, and whether it has a byte of 0x80 or above."""
        lib = self.native.lib
        memory = bytes(back) + octets
        buffer = Guarded(self.native, memory, alignment)
        turned = lib.echod_key_at(int.from_bytes(key, sys.byteorder), phase)
        high = lib.echod_unmask(buffer.at(), buffer.at(back), len(octets), turned)
        after = buffer.octets
        assert after[len(octets) :] == memory[len(octets) :], "a byte behind the target was written"
        return after[: len(octets)], high != 0
