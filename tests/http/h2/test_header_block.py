"""Header blocks: what they hold, what is wrong with them, and that hpack's decoder takes them apart in the same way."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError, InvalidTableSizeError, OversizedHeaderListError
from hypothesis import example, given
from hypothesis import strategies as st

from echod.http.h2.header_block import BlockDecoder

Fields = list[tuple[bytes, bytes]]

EXAMPLES = [
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", []),
    ("828684be5886a8eb10649cbf", [(b"cache-control", b"no-cache")]),
    ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", [(b"custom-key", b"custom-value")]),
]
"""Three requests on one connection, with Huffman's code (RFC 7541 appendix C.4), and what is new in each."""


def decode(decoder: Decoder, octets: bytes) -> Fields | None:
    """Return the fields of a block, or None if the decoder does not take it."""
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(octets, raw=True)]
    except HPACKError:
        return None


def test_the_examples_of_the_rfc() -> None:
    decoder = BlockDecoder()
    for octets, new in EXAMPLES:
        found = dict(decoder.decode(bytes.fromhex(octets)))
        assert found[b":authority"] == b"www.example.com"
        assert found.items() >= dict(new).items()
        assert len(found) == 4 + len(new)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\xff", id="an index that is cut"),
        pytest.param(b"\x80", id="the index 0"),
        pytest.param(b"\xff\x80\x80\x80\x80\x80\x00", id="an integer of many octets"),
        pytest.param(b"\xbe", id="an index that no table has"),
        pytest.param(b"\x04", id="a value that is missing"),
        pytest.param(b"\x04\x05abcd", id="a value that is cut"),
        pytest.param(b"\x00\x05abcd", id="a name that is cut"),
        pytest.param(b"\x04\x81\x00", id="no Huffman code"),
    ],
)
def test_a_block_that_is_none(octets: bytes) -> None:
    assert decode(BlockDecoder(), octets) is None
    assert decode(Decoder(), octets) is None


@pytest.mark.parametrize(
    ("octets", "is_good"),
    [
        (b"\x20\x3f\xe1\x1f\x82", True),
        (b"\x20\x20\x20\x82", False),  # more changes than one block ever needs
        (b"\x82\x20", False),  # after a field
        (b"\x3f\xe2\x1f\x82", False),  # larger than agreed on
    ],
)
def test_changes_of_the_tables_size(octets: bytes, is_good: bool) -> None:
    decoder = BlockDecoder()
    if is_good:
        assert decoder.decode(octets) == [(b":method", b"GET")]
        assert decoder.header_table_size == 4096
    else:
        with pytest.raises(InvalidTableSizeError):
            decoder.decode(octets)


def test_the_size_of_a_list() -> None:
    decoder = BlockDecoder()
    decoder.max_header_list_size = 100
    block = Encoder().encode([("a", "b" * 32), ("c", "d")])
    assert sum(len(name) + len(value) + 32 for name, value in decoder.decode(block)) == 99
    decoder.max_header_list_size = 98
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(block)


def test_content_length_is_told_apart() -> None:
    decoder = BlockDecoder()
    encoder = Encoder()
    block = encoder.encode([("content-length", "1"), ("a", "b"), ("content-length", "2")])
    assert decoder.decode(block) == [(b"a", b"b")]
    assert decoder.lengths == [(b"content-length", b"1"), (b"content-length", b"2")]
    assert decoder.decode(encoder.encode([("a", "b")])) == [(b"a", b"b")]
    assert decoder.lengths == []


PIECES = st.binary(max_size=8) | st.sampled_from(
    [
        *(bytes.fromhex(octets) for octets, _ in EXAMPLES),
        b"\x20",
        b"\x3f\xe1\x1f",
        b"\x3f\x21",
        b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000,
        b"\x40\x01a\x01b",
        b"\x10\x01a\x01b",
        b"\x00\x81\xff\x00",
        b"\xbe",
        b"\xff\x00",
    ]
)


@given(st.lists(st.lists(PIECES, max_size=6).map(b"".join), max_size=5))
@example([b"\x40\x01a\x01b", b"\x3f\x21\xbe", b"\xbe"])
def test_hpack_takes_blocks_apart_in_the_same_way(blocks: list[bytes]) -> None:
    """One after another on one connection, up to the first one that is wrong."""
    ours, theirs = BlockDecoder(), Decoder()
    for octets in blocks:
        try:
            found = ours.decode(octets)
        except InvalidTableSizeError:
            return  # hpack takes more of these changes
        except HPACKError:
            assert decode(theirs, octets) is None
            return
        expected = decode(theirs, octets)
        assert expected is not None
        assert found == [field for field in expected if field[0] != b"content-length"]
