"""Wrong frames that depend on what was agreed on, as zlib judges them. tests/test_faults_daemon.py has all bytes."""

from __future__ import annotations

import zlib

import pytest

from echod.faults.bad import BAD, bomb

TAIL = b"\0\0\xff\xff"


def payloads(octets: bytes) -> list[bytes]:
    """Return the payloads of frames without masks."""
    found = []
    while octets:
        length, start = octets[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(octets[2:start])
        found.append(octets[start : start + length])
        octets = octets[start + length :]
    return found


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_frame_is_described(name: str) -> None:
    bad = BAD[name]
    assert bad.make(15, True)
    assert bad.does.endswith(".")
    assert bad.client.endswith(".")
    assert bad.rfc.startswith("RFC ")
    assert not (bad.needs_deflate and bad.forbids_deflate)


@pytest.mark.parametrize("bits", range(9, 15))
def test_a_reference_behind_a_window(bits: int) -> None:
    """An inflater with the window that was agreed on refuses it, and one with the full window reads it."""
    filling, far = payloads(BAD["deflate-window"].make(bits, True))
    small, large = zlib.decompressobj(-bits), zlib.decompressobj(-15)
    for inflater in (small, large):
        assert inflater.decompress(filling + TAIL) == ((1 << bits) + 64) * b"x"
    assert large.decompress(far + TAIL) == b"xxx"
    with pytest.raises(zlib.error, match="too far back"):
        small.decompress(far + TAIL)


@pytest.mark.parametrize(("bits", "keeps_context"), [(15, True), (15, False), (9, False)])
def test_a_reference_behind_the_first_byte(bits: int, keeps_context: bool) -> None:
    (far,) = payloads(BAD["deflate-window"].make(bits, keeps_context))
    with pytest.raises(zlib.error, match="too far back"):
        zlib.decompressobj(-15).decompress(far + TAIL)
    assert zlib.decompressobj(-15, zdict=32768 * b"y").decompress(far + TAIL) == b"yyy"


def test_garbage_and_what_was_not_asked_for() -> None:
    (garbage,) = payloads(BAD["deflate-garbage"].make(15, True))
    with pytest.raises(zlib.error, match="invalid block type"):
        zlib.decompressobj(-15).decompress(garbage + TAIL)
    (unasked,) = payloads(BAD["deflate-unasked"].make(15, True))
    assert zlib.decompressobj(-15).decompress(unasked + TAIL) == b"unasked"


@pytest.mark.parametrize("size", [1, 1000, 2**20, 2**20 + 1, 3 * 2**20])
def test_a_bomb(size: int) -> None:
    (payload,) = payloads(b"".join(bomb(size)))
    assert zlib.decompressobj(-9).decompress(payload + TAIL) == bytes(size)
    assert len(payload) < size / 900 + 30
