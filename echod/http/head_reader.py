"""Collects the request head of one connection, which Autobahn never sees.

Autobahn splits lines with `str.splitlines()`, so the byte 0x85 begins a header there. It accepts folded lines, NUL,
headers without a colon and version `+1_3`. It has no limit on the head, and searches the head from the start with each
read. Therefore the head is collected and judged here, and Autobahn gets only checked values.

Pure: bytes in, a verdict out. Must never know a transport.
"""

from __future__ import annotations

import re

from echod.http.refusals import NOT_HTTP, TOO_LARGE, bad_request
from echod.http.request import TOKEN
from echod.http.upgrade import HandshakeGuard, Http2, Verdict

_METHOD_OCTETS = frozenset(bytes([octet]) for octet in range(256) if re.fullmatch(TOKEN, bytes([octet])))

# No controls except HTAB, CR and LF. All bytes above ASCII are obs-text (RFC 9110 section 5.5), which browsers send in
# cookies.
_GOOD_OCTETS = b"\t\n\r" + bytes({*range(0x20, 0x100)} - {0x7F})

_EMPTY_LINE = (b"", b"\r", b"\r\n")
"""What may come before the request line (RFC 9112 section 2.2): one empty line, or a part of it."""


class HeadReader:
    """The request head of one connection, as it comes in."""

    __slots__ = ("_guard", "_octets", "_scanned", "head", "rest")

    def __init__(self, guard: HandshakeGuard) -> None:
        self._guard = guard
        self._octets: bytes | bytearray = b""
        self._scanned = 0
        self.head = b""
        """The head that was judged, with its blank line."""
        self.rest = b""
        """The bytes that came after the head."""

    @property
    def held(self) -> int:
        """The number of bytes that have come so far."""
        return len(self._octets)

    def feed(self, data: bytes) -> Verdict | Http2 | None:
        """Take bytes; return the verdict as soon as there is one. The time is linear, however the bytes are cut."""
        octets, scanned = self._octets, self._scanned
        if octets in _EMPTY_LINE:
            octets = bytes(octets) + data
            if octets in _EMPTY_LINE:
                self._octets = octets
                return None
            octets = octets.removeprefix(b"\r\n")  # mostly the whole head
            if octets[:1] not in _METHOD_OCTETS:
                return NOT_HTTP
        else:
            if isinstance(octets, bytes):
                octets = bytearray(octets)
            scanned -= octets.endswith(b"\r")
            octets += data
        # The blank line may have begun in earlier bytes.
        most = self._guard.max_head_size
        end = octets.find(b"\r\n\r\n", max(0, self._scanned - 3), most)
        # Bytes after the blank line, or beyond the limit, are not checked.
        new = octets[scanned : most if end < 0 else end + 4]
        if _has_bad_octet(new):
            return bad_request("an octet that no request head may hold")
        if end < 0:
            self._octets, self._scanned = octets, len(octets)
            return TOO_LARGE if len(octets) >= most else None
        self.rest = bytes(octets[end + 4 :])
        self.head = bytes(octets[: end + 4]) if scanned else bytes(new)
        return self._guard.judge(self.head)


def _has_bad_octet(octets: bytes | bytearray) -> bool:
    """Tell whether there is a byte that no head may hold, or a bare CR or LF. A CR at the end may still get its
    LF."""
    pairs = octets.count(b"\r\n")
    is_paired = octets.count(b"\n") == pairs == octets.count(b"\r") - octets.endswith(b"\r")
    return not is_paired or bool(octets.translate(None, _GOOD_OCTETS))
