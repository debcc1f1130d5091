"""Header blocks: what hpack takes, and what it does not get to see."""

from __future__ import annotations

import pytest
from hpack import Encoder
from hpack.exceptions import HPACKError

from echod.http.h2.header_block import BlockDecoder


@pytest.mark.parametrize(
    ("sizes", "is_good"),
    [
        (b"", True),
        (b"\x20\x3f\xe1\x1f", True),
        (b"\x20\x20\x20", False),
        (b"\x3f\xe1\x1f\x3f\x00\x3e", False),
        (b"\x20\x82\x20", False),  # after a field
        (b"\x3f\xe2\x1f", False),  # larger than agreed on
    ],
)
def test_changes_of_the_tables_size(sizes: bytes, is_good: bool) -> None:
    """Two are as many as an encoder ever needs."""
    decoder = BlockDecoder()
    if is_good:
        assert decoder.decode(sizes + b"\x82", raw=True) == [(b":method", b"GET")]
        assert decoder.header_table_size == 4096
    else:
        with pytest.raises(HPACKError):
            decoder.decode(sizes + b"\x82", raw=True)


def test_content_length_is_told_apart() -> None:
    decoder, encoder = BlockDecoder(), Encoder()
    block = encoder.encode([("content-length", "1"), ("a", "b"), ("content-length", "2")])
    assert decoder.decode(block, raw=True) == [(b"a", b"b")]
    assert decoder.lengths == [(b"content-length", b"1"), (b"content-length", b"2")]
    assert decoder.decode(encoder.encode([("a", "b")]), raw=True) == [(b"a", b"b")]
    assert decoder.lengths == []
