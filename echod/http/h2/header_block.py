"""Takes header blocks apart with hpack (RFC 7541), which has to be kept from two things.

Pure: octets in, fields out. Must never know what a field means, except that of Content-Length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpack import Decoder, HeaderTuple
from hpack.exceptions import HPACKDecodingError

_MANY_SIZES = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}")
"""More changes of the table's size than a block may begin with (section 6.3). An encoder signals the smallest size
since the last block, and the final one (section 4.2)."""


class BlockDecoder(Decoder):
    """The decoder of one connection."""

    lengths: Sequence[HeaderTuple] = ()
    """The Content-Length fields of the last block. h2 must not see them: it ends the connection if a stream does not
    keep to one. A malformed one is a malformed request (`request`), and for any other there is no use: no request has a
    body."""

    def decode(self, data: bytes, raw: bool = False) -> Sequence[HeaderTuple]:
        """Return a block's fields without Content-Length."""
        if _MANY_SIZES.match(data):  # hpack would take all, and 32 KiB of them take 23 ms
            raise HPACKDecodingError("too many changes of the table's size")
        fields = list(super().decode(data, raw))
        self.lengths = [field for field in fields if field[0] == b"content-length"]
        return [field for field in fields if field[0] != b"content-length"]
