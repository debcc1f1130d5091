"""Takes header blocks apart: HPACK (RFC 7541).

hpack has a decoder, too. It takes any number of changes of the table's size, and copies the rest of the block for each
literal field, so that a block of 64 KiB may take 46 ms. Here each octet is looked at once, and a block takes at most
13 ms, nearly all of that for Huffman's code. The tables and Huffman's code are hpack's.

Pure: octets in, fields out. Must never know what a field means, except that of Content-Length.
"""

from __future__ import annotations

from typing import cast

from hpack import Decoder, HeaderTuple
from hpack.exceptions import HPACKDecodingError, InvalidTableSizeError, OversizedHeaderListError
from hpack.huffman_table import decode_huffman

from echod.http.h2.request import FIELD_OVERHEAD

MAX_RESIZES = 2
"""How often the table's size may change before a block: an encoder signals the smallest size since the last block, and
the final one (section 4.2)."""


class BlockDecoder(Decoder):
    """The decoder of one connection."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[tuple[bytes, bytes]] = []
        """The Content-Length fields of the last block. h2 must not see them: it ends the connection if a stream does
        not keep to one. A malformed one is a malformed request (`request`), and for any other there is no use: no
        request has a body."""

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:  # noqa: ARG002  # h2 wants octets
        """Return a block's fields, as octets and without Content-Length."""
        try:
            fields = self._decode(data)
        except IndexError as error:
            raise HPACKDecodingError("a header block that is cut") from error
        self.lengths = [field for field in fields if field[0] == b"content-length"]
        if self.lengths:
            fields = [field for field in fields if field[0] != b"content-length"]
        return cast("list[HeaderTuple]", fields)

    def _decode(self, octets: bytes) -> list[tuple[bytes, bytes]]:
        table = self.header_table
        fields: list[tuple[bytes, bytes]] = []
        at = resizes = 0
        room = self.max_header_list_size
        while at < len(octets):
            first = octets[at]
            if first & 0x80:  # a field of a table (section 6.1)
                index, at = _integer(octets, at, 7)
                field = table.get_by_index(index)
            elif first & 0xE0 == 0x20:  # another size of the table (section 6.3)
                resizes += 1
                size, at = _integer(octets, at, 5)
                if fields or resizes > MAX_RESIZES or size > self.max_allowed_table_size:
                    raise InvalidTableSizeError("a size of the table that HPACK does not allow")
                table.maxsize = size
                continue
            else:  # a literal value, and perhaps a literal name, which may go into the table (section 6.2)
                is_for_table = first & 0x40
                index, at = _integer(octets, at, 6 if is_for_table else 4)
                if index:
                    name = table.get_by_index(index)[0]
                else:
                    name, at = _string(octets, at)
                value, at = _string(octets, at)
                field = (name, value)
                if is_for_table:
                    table.add(name, value)
            room -= len(field[0]) + len(field[1]) + FIELD_OVERHEAD
            if room < 0:
                raise OversizedHeaderListError(f"more than {self.max_header_list_size} bytes")
            fields.append(field)
        return fields


def _integer(octets: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return an integer that begins in the last `bits` bits of an octet, and where it ends (section 5.1)."""
    most = (1 << bits) - 1
    number = octets[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in (0, 7, 14, 21, 28):  # enough for 32 bits, and hpack takes no more, either
        octet = octets[at]
        at += 1
        number += (octet & 0x7F) << shift
        if octet < 0x80:
            return number, at
    raise HPACKDecodingError("an integer that is too long")


def _string(octets: bytes, at: int) -> tuple[bytes, int]:
    """Return a string, and where it ends (section 5.2)."""
    is_huffman = octets[at] & 0x80
    size, start = _integer(octets, at, 7)
    end = start + size
    if end > len(octets):
        raise HPACKDecodingError("a string that is cut")
    text = octets[start:end]
    return decode_huffman(text) if is_huffman else text, end
