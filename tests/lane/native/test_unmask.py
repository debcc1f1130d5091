"""Compares unmasking with a plain loop: every size, alignment, first byte of the key, and distance to the target."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.lane.native import oracle

if TYPE_CHECKING:
    from tests.lane.native.codec import Codec

KEY = b"\x37\xfa\x21\x3d"  # RFC 6455 section 5.7
OCTETS = random.Random(6455).randbytes(70000)


@pytest.mark.parametrize("phase", range(4))
def test_every_size_and_alignment(codec: Codec, phase: int) -> None:
    """Sizes up to more than three blocks, each at all alignments that a block of 64 bytes can have."""
    for size in range(3 * 64 + 2):
        expected = oracle.mask(OCTETS[:size], KEY, phase)
        high = any(octet >= 0x80 for octet in expected)
        for alignment in range(64):
            assert codec.unmask(OCTETS[:size], KEY, phase, alignment) == (expected, high), (size, alignment)


@pytest.mark.parametrize("back", [4, 5, 6, 8, 12, 31, 32, 63, 64, 65, 400])
def test_target_before_the_source(codec: Codec, back: int) -> None:
    """A server frame is written four bytes or more before the client frame that it echoes, and over its bytes."""
    for size in [*range(3 * 64 + 2), 1000, 4096, 65536, 65537]:
        assert codec.unmask(OCTETS[:size], KEY, 0, size % 64, back)[0] == oracle.mask(OCTETS[:size], KEY), size


@pytest.mark.parametrize("size", [4, 8, 15, 16, 31, 33, 63, 64, 65, 127, 128, 200, 515])
def test_one_high_byte_anywhere_is_seen(codec: Codec, size: int) -> None:
    """Unmasking alone tells whether a text is not ASCII, wherever the byte above ASCII is."""
    plain = b"a" * size
    assert codec.unmask(oracle.mask(plain, KEY), KEY) == (plain, False)
    for place in range(size):
        payload = plain[:place] + b"\x80" + plain[place + 1 :]
        assert codec.unmask(oracle.mask(payload, KEY), KEY) == (payload, True), place
