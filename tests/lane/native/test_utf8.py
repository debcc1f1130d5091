"""Compares the validator with Python's own decoder: at the edges of every range of RFC 3629 section 4, whole and cut,
within and across blocks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lane.native import oracle
from tests.lane.native.codec import Guarded

if TYPE_CHECKING:
    from tests.lane.native.codec import Codec

EDGES = bytes.fromhex("00 41 7F 80 8F 90 9F A0 BF C0 C1 C2 DF E0 E1 EC ED EE EF F0 F1 F3 F4 F5 FF")
"""The first and last byte of each range in the grammar, and its neighbours."""

AROUND = [0, 12, 13, 14, 15, 16, 28, 29, 30, 31, 32, 60, 61, 62, 63, 64, 92, 93, 94, 95, 96, 124, 125, 126, 127, 128]
"""Places from which a character crosses the end of a vector of 16 or 32 bytes, or of a block of 64."""


def validate(codec: Codec, octets: bytes, state: int | None = None) -> int:
    """Run the validator over a buffer of exactly these bytes; return its state."""
    lib = codec.native.lib
    buffer = Guarded(codec.native, octets)
    return lib.echod_utf8(lib.ECHOD_UTF8_ACCEPT if state is None else state, buffer.at(), len(octets))


def judged(codec: Codec, state: int) -> tuple[bool, bool]:
    """Return what a state means: whether the text may end here, and whether it may go on."""
    lib = codec.native.lib
    return state == lib.ECHOD_UTF8_ACCEPT, state != lib.ECHOD_UTF8_REJECT


def expected(octets: bytes) -> tuple[bool, bool]:
    """Return what `judged` should return, by Python's decoder."""
    return oracle.is_text(octets), oracle.begins_text(octets)


def test_every_code_point(codec: Codec) -> None:
    """One text has every code point of Unicode. Each surrogate, alone, is rejected."""
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)])).encode()
    assert judged(codec, validate(codec, everything)) == (True, True)
    for surrogate in range(0xD800, 0xE000):
        octets = chr(surrogate).encode("utf-8", "surrogatepass")
        assert judged(codec, validate(codec, b"x" * 62 + octets + b"x" * 64)) == (False, False)


def test_all_sequences_of_one_and_two_bytes(codec: Codec) -> None:
    """65,792 sequences, at the beginning of a text and across the end of a block."""
    for sequence in map(bytes, itertools.chain(itertools.product(range(256)), itertools.product(range(256), repeat=2))):
        right = expected(sequence)
        assert judged(codec, validate(codec, sequence)) == right, sequence.hex()
        assert judged(codec, validate(codec, b"e" * 63 + sequence)) == right, sequence.hex()


@pytest.mark.parametrize("first", EDGES)
def test_sequences_of_three_and_four_bytes_at_the_edges(codec: Codec, first: int) -> None:
    """Sequences of the edge bytes, each at two places of a block, with ASCII behind them and at the end of the text."""
    lib = codec.native.lib
    buffer = Guarded(codec.native, b"e" * 192)
    places = itertools.cycle(AROUND)
    for rest in itertools.chain(itertools.product(EDGES, repeat=2), itertools.product(EDGES, repeat=3)):
        sequence = bytes((first, *rest))
        right = expected(sequence)
        valid = (right[0], right[0])  # with ASCII behind it, an unfinished character is invalid
        for place in (next(places), next(places)):
            begin, end = buffer.offset + place, buffer.offset + place + len(sequence)
            buffer.view[begin:end] = sequence
            assert judged(codec, lib.echod_utf8(lib.ECHOD_UTF8_ACCEPT, buffer.at(), 192)) == valid, (
                sequence.hex(),
                place,
            )
            assert judged(codec, lib.echod_utf8(lib.ECHOD_UTF8_ACCEPT, buffer.at(), place + len(sequence))) == right, (
                sequence.hex()
            )
            buffer.view[begin:end] = b"e" * len(sequence)


SEQUENCES = [
    bytes.fromhex(sequence)
    for sequence in (
        *(
            "7F",
            "C280",
            "DFBF",
            "E0A080",
            "E18080",
            "ECBFBF",
            "ED9FBF",
            "EE8080",
            "EFBFBF",
            "F0908080",
            "F1808080",
            "F3BFBFBF",
            "F48FBFBF",
        ),
        *(
            "80",
            "C0AF",
            "C1BF",
            "E08080",
            "E09FBF",
            "EDA080",
            "EDBFBF",
            "F0808080",
            "F08FBFBF",
            "F4908080",
            "F5808080",
            "F8888080",
            "FF",
        ),
        *(
            "C2",
            "E0A0",
            "E180",
            "F090",
            "F09080",
            "F18080",
            "C241",
            "E0A041",
            "E14180",
            "F0904180",
            "F0908041",
            "C2C2",
            "E1E180",
            "8080",
        ),
    )
]


@pytest.mark.parametrize("filler", ["e", "é", "€", "😀"])
def test_every_place_of_two_blocks(codec: Codec, filler: str) -> None:
    """Valid and invalid sequences behind any number of whole characters that fits in two blocks, with and without text
    behind them."""
    unit = filler.encode()
    for count, sequence in itertools.product(range(140 // len(unit)), SEQUENCES):
        for octets in (unit * count + sequence, unit * count + sequence + unit * 40):
            assert judged(codec, validate(codec, octets)) == expected(octets), octets.hex()


TEXT = "aé€😀 Ωж中𝄞".encode() * 12


@pytest.mark.parametrize("second", [0, 1, 2, 3, 16, 64, 100])
def test_cut_anywhere(codec: Codec, second: int) -> None:
    """The state carries a character over one cut, and over two cuts close together."""
    for first in range(len(TEXT) - second):
        state = validate(codec, TEXT[:first])
        assert judged(codec, state) == expected(TEXT[:first]), first
        state = validate(codec, TEXT[first : first + second], state)
        assert judged(codec, state) == expected(TEXT[: first + second]), first
        assert judged(codec, validate(codec, TEXT[first + second :], state)) == (True, True), first


def test_what_is_rejected_stays_rejected(codec: Codec) -> None:
    """After an invalid sequence the state stays REJECT, even if the rest is valid."""
    assert validate(codec, TEXT, codec.native.lib.ECHOD_UTF8_REJECT) == codec.native.lib.ECHOD_UTF8_REJECT


PIECES = st.one_of(
    st.sampled_from(SEQUENCES), st.text(max_size=40).map(str.encode), st.binary(max_size=3), st.just(b"e" * 64)
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=12))
def test_any_bytes_in_any_pieces(codecs: list[Codec], pieces: list[bytes]) -> None:
    """After every piece, the verdict on the bytes so far is that of Python's decoder."""
    for each in codecs:
        with each as codec:
            state, walked = None, b""
            for piece in pieces:
                state = validate(codec, piece, state)
                walked += piece
                assert judged(codec, state) == expected(walked), (codec.kernel, walked.hex())
