"""The codec as the tests call it: octets in, a value out, and guards on both sides of every buffer.

Knows the extension's interface. Must never know what an answer ought to be.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from tests.lane.native.oracle import Echo

if TYPE_CHECKING:
    from echod.lane.native import Native

GUARD = 64
"""Octets before and behind a buffer: a kernel's widest step."""

LIMIT = 1 << 24

Pointer: TypeAlias = Any
"""cffi's own type has no arithmetic in its stubs."""


class Guarded:
    """Octets at a chosen alignment between guards."""

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
        """A pointer to octet number ``place``, good for as long as this object is."""
        return self.memory + (self.offset + place)

    @property
    def octets(self) -> bytes:
        """What is there now; the guards are looked at first."""
        behind = self.offset + self.size
        assert set(self.view[: self.offset]) == {0xA5}, "an octet before the buffer was written"
        assert set(self.view[behind:]) == {0xA5}, "an octet behind the buffer was written"
        return bytes(self.view[self.offset : behind])


def summed(of_type: Any) -> tuple[dict[int, int], int]:
    """An ``echod_sum``: messages by their place, without those that there are none of, and octets."""
    return {place: count for place, count in enumerate(of_type.sizes) if count}, of_type.octets


@dataclass
class Large:
    """An ``echod_large`` and what it has said last."""

    codec: Codec
    struct: Any

    def feed(self, target: Pointer, source: Pointer, length: int) -> str:
        """Hand it a piece; the state's name."""
        lib = self.codec.native.lib
        names = {lib.ECHOD_LARGE_OPEN: "OPEN", lib.ECHOD_LARGE_COMPLETE: "COMPLETE", lib.ECHOD_LARGE_INVALID: "INVALID"}
        return names[lib.echod_large_feed(self.struct, target, source, length)]

    def restore(self, payload: Pointer) -> None:
        """Mask again what has been fed."""
        self.codec.native.lib.echod_large_restore(self.struct, payload)

    def server_header(self) -> bytes:
        """The header of the frame that echoes it."""
        header = Guarded(self.codec.native, bytes(10))
        size = self.codec.native.lib.echod_large_server_header(self.struct, header.at())
        return header.octets[:size]

    def client_header(self) -> bytes:
        """The header that the client sent."""
        header = Guarded(self.codec.native, bytes(14))
        size = self.codec.native.lib.echod_large_client_header(self.struct, header.at())
        return header.octets[:size]


class Codec:
    """The native codec; within a ``with``, by this kernel."""

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
        """Echo, having made sure that everything from ``consumed`` on is as it was."""
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
        """Begin a large message; the size of the client's header, 0 if there is none."""
        struct = self.native.ffi.new("echod_large *")
        buffer = Guarded(self.native, octets)
        return self.native.lib.echod_large_begin(struct, buffer.at(), len(octets), limit), Large(self, struct)

    def unmask(
        self, octets: bytes, key: bytes, phase: int = 0, alignment: int = 0, back: int = 0
    ) -> tuple[bytes, bool]:
        """Unmask to ``back`` octets before the source; the result, and whether it holds an octet of 0x80 or above."""
        lib = self.native.lib
        memory = bytes(back) + octets
        buffer = Guarded(self.native, memory, alignment)
        turned = lib.echod_key_at(int.from_bytes(key, sys.byteorder), phase)
        high = lib.echod_unmask(buffer.at(), buffer.at(back), len(octets), turned)
        after = buffer.octets
        assert after[len(octets) :] == memory[len(octets) :], "an octet behind the target was written"
        return after[: len(octets)], high != 0
