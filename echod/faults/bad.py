"""Frames that no server may send, each by its name.

Most are the same bytes for every connection. Where the Autobahn testsuite or curl's tests have such a frame, `cases`
names them, and the bytes are those of the Autobahn testsuite. Pure: must never know a connection.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from echod.core.quantities import MIB
from echod.faults.frames import header
from echod.http.extensions import FULL_WINDOW_BITS

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9

FIN: Final = 0x80
RSV1: Final = 0x40
RSV2: Final = 0x20
RSV3: Final = 0x10
MASKED: Final = 0x80

FAILS_1002 = "Fails the connection, with 1002 if it sends a code."
FAILS_1007 = "Fails the connection, with 1007 if it sends a code."


@dataclass(frozen=True, slots=True)
class Bad:
    """A frame, or several, that break the rules."""

    make: Callable[[int, bool], bytes]
    """Returns the bytes. Its arguments are what was agreed on for permessage-deflate: the server's window in bits, and
    whether the server keeps its context."""
    does: str
    client: str
    """What a conforming client does, as a sentence."""
    rfc: str
    cases: str = ""
    """Where others have such a frame."""
    needs_deflate: bool = False
    """Whether it needs permessage-deflate. A client that does not offer it is refused."""
    forbids_deflate: bool = False
    """Whether the offer of permessage-deflate is declined."""
    begins_close: bool = False
    """Whether it is sent after a Close frame with 1000, which begins the close."""
    is_last: bool = False
    """Whether no echo can follow it."""


def _same(octets: bytes) -> Callable[[int, bool], bytes]:
    """Return a function whose bytes are always the same."""
    return lambda *_: octets


def _frame(first: int, payload: bytes = b"") -> bytes:
    return header(first, len(payload)) + payload


def _text(payload: bytes, first: int = FIN | TEXT) -> bytes:
    return _frame(first, payload)


def _close(payload: bytes) -> bytes:
    return _frame(FIN | CLOSE, payload)


def _masked() -> bytes:
    mask, payload = b"\x12\x34\x56\x78", b"masked"
    octets = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
    return bytes((FIN | TEXT, MASKED | len(payload))) + mask + octets


def _deflated(payload: bytes, first: int = FIN | RSV1 | TEXT) -> bytes:
    """Return a message that consists of these deflated bytes."""
    return _frame(first, payload)


def _stored(payload: bytes) -> bytes:
    """Deflate without compression: a block that is stored (RFC 1951 section 3.2.4), and the beginning of an empty
    one."""
    size = len(payload).to_bytes(2, "little")
    return b"\0" + size + bytes(octet ^ 0xFF for octet in size) + payload + b"\0"


def _far_back(distance: int) -> bytes:
    """Deflate a match of 3 bytes at a distance of more than 512 bytes, with fixed codes (RFC 1951 section 3.2.6)."""
    base, extra, code = next(row for row in _DISTANCES if row[0] <= distance)
    bits = "0" + "10"  # not the last block; fixed codes, which are 01, the low bit first
    bits += "0000001"  # a length of 3: code 257, which is 0000001
    bits += f"{code:05b}" + f"{distance - base:0{extra}b}"[::-1]
    bits += "0000000"  # the end of the block: code 256
    bits += "000"  # the beginning of an empty stored block, to be filled up to a byte
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))


_DISTANCES = (
    *((24577, 13, 29), (16385, 13, 28), (12289, 12, 27), (8193, 12, 26), (6145, 11, 25), (4097, 11, 24)),
    *((3073, 10, 23), (2049, 10, 22), (1537, 9, 21), (1025, 9, 20), (769, 8, 19), (513, 8, 18)),
)
"""Of distances: the first one with a code, the code's extra bits, and the code."""


def _behind_window(window_bits: int, keeps_context: bool) -> bytes:
    """Refer to what is no longer in the window.

    The first message fills the window, and the second refers to what came before. A full window of 32 KiB is as large
    as a distance can be, so there one message refers to what came before the first byte.
    """
    window = 1 << window_bits
    if window_bits == FULL_WINDOW_BITS or not keeps_context:
        return _deflated(_far_back(1 << FULL_WINDOW_BITS))
    return _deflated(_stored((window + 64) * b"x")) + _deflated(_far_back(window + 32))


BAD: dict[str, Bad] = {
    "masked": Bad(
        _same(_masked()),
        "A text frame is masked.",
        FAILS_1002,
        "RFC 6455 section 5.1",
        "curl 2706",
    ),
    "rsv1": Bad(
        _same(_text(b"Hello, world!", FIN | RSV1 | TEXT)),
        "A text frame has RSV1, and permessage-deflate is declined.",
        FAILS_1002,
        "RFC 6455 section 5.2",
        "Autobahn 3.4, curl 2703",
        forbids_deflate=True,
    ),
    "rsv2": Bad(
        _same(_text(b"Hello, world!", FIN | RSV2 | TEXT)),
        "A text frame has RSV2, which no extension defines.",
        FAILS_1002,
        "RFC 6455 section 5.2",
        "Autobahn 3.2, curl 2704",
    ),
    "rsv3": Bad(
        _same(_text(b"Hello, world!", FIN | RSV3 | TEXT)),
        "A text frame has RSV3, which no extension defines.",
        FAILS_1002,
        "RFC 6455 section 5.2",
        "Autobahn 3.1, curl 2705",
    ),
    "opcode-3": Bad(
        _same(_frame(FIN | 3)),
        "A frame has opcode 3, a data frame that is not defined.",
        FAILS_1002,
        "RFC 6455 section 5.2",
        "Autobahn 4.1.1, curl 2701",
    ),
    "opcode-11": Bad(
        _same(_frame(FIN | 11)),
        "A frame has opcode 11, a control frame that is not defined.",
        FAILS_1002,
        "RFC 6455 section 5.2",
        "Autobahn 4.2.1, curl 2702",
    ),
    "ping-126": Bad(
        _same(_frame(FIN | PING, 126 * b"\xfe")),
        "A ping has 126 bytes of payload.",
        FAILS_1002,
        "RFC 6455 section 5.5",
        "Autobahn 2.5, curl 2713",
    ),
    "ping-fragmented": Bad(
        _same(_frame(PING, b"fragment1") + _frame(FIN, b"fragment2")),
        "A ping comes in two fragments.",
        FAILS_1002,
        "RFC 6455 section 5.5",
        "Autobahn 5.1, curl 2716",
    ),
    "continuation": Bad(
        _same(_frame(FIN, b"non-continuation payload")),
        "A continuation frame comes, and no message has begun.",
        FAILS_1002,
        "RFC 6455 section 5.4",
        "Autobahn 5.9, curl 2722",
    ),
    "interleaved": Bad(
        _same(_text(b"fragment1", TEXT) + _text(b"fragment2")),
        "A new message begins within a fragmented one.",
        FAILS_1002,
        "RFC 6455 section 5.4",
        "Autobahn 5.18, curl 2723",
    ),
    "unfinished": Bad(
        _same(_text(b"unfinished", TEXT)),
        "A fragmented message begins and never ends. No echo follows.",
        "Waits, and delivers nothing of the message, or delivers its fragments to a user who asks for fragments.",
        "RFC 6455 section 5.4",
        is_last=True,
    ),
    "utf8": Bad(
        _same(_text(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")),
        "A text message is not UTF-8.",
        FAILS_1007,
        "RFC 6455 section 8.1",
        "Autobahn 6.3.1",
    ),
    "utf8-cut": Bad(
        _same(_text(b"\xce\xba\xe1\xbd")),
        "A text message ends within a character.",
        FAILS_1007,
        "RFC 6455 section 8.1",
        "Autobahn 6.6.4",
    ),
    "length-16": Bad(
        _same(b"\x81\x7e\x00\x05short"),
        "A frame writes the length 5 in 16 bits.",
        "Fails the connection, or reads the message: only the sender is told to use the least number of bytes.",
        "RFC 6455 section 5.2",
    ),
    "length-64": Bad(
        _same(b"\x81\x7f" + bytes(7) + b"\x05short"),
        "A frame writes the length 5 in 64 bits.",
        "Fails the connection, or reads the message: only the sender is told to use the least number of bytes.",
        "RFC 6455 section 5.2",
    ),
    "length-msb": Bad(
        _same(b"\x82\x7f\x80" + bytes(6) + b"\x05short"),
        "A frame's length in 64 bits has its most significant bit set.",
        "Fails the connection, with 1002 or 1009 if it sends a code.",
        "RFC 6455 section 5.2",
        is_last=True,
    ),
    "close-1-octet": Bad(
        _same(_close(b"a")),
        "A Close frame has one byte of payload.",
        FAILS_1002,
        "RFC 6455 section 5.5.1",
        "Autobahn 7.3.2",
        is_last=True,
    ),
    "close-1005": Bad(
        _same(_close(b"\x03\xed")),
        "A Close frame has the code 1005, which stands for a missing code.",
        FAILS_1002,
        "RFC 6455 section 7.4.1",
        "Autobahn 7.9.4",
        is_last=True,
    ),
    "close-999": Bad(
        _same(_close(b"\x03\xe7")),
        "A Close frame has the code 999.",
        FAILS_1002,
        "RFC 6455 section 7.4.2",
        "Autobahn 7.9.2",
        is_last=True,
    ),
    "close-utf8": Bad(
        _same(_close(b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")),
        "The reason of a Close frame is not UTF-8.",
        FAILS_1007,
        "RFC 6455 section 5.5.1",
        "Autobahn 7.5.1",
        is_last=True,
    ),
    "close-reason-124": Bad(
        _same(_close(b"\x03\xe8" + 124 * b"*")),
        "The reason of a Close frame has 124 bytes, so the frame has 126.",
        FAILS_1002,
        "RFC 6455 section 5.5",
        "Autobahn 7.3.6, curl 2715",
        is_last=True,
    ),
    "behind-close": Bad(
        _same(_text(b"Hello World!")),
        "A text message comes behind a Close frame with 1000.",
        "Answers the Close frame, and delivers nothing that comes behind it.",
        "RFC 6455 section 5.5.1",
        "Autobahn 7.1.4",
        begins_close=True,
        is_last=True,
    ),
    "deflate-garbage": Bad(
        _same(_deflated(b"\x07garbage", FIN | RSV1 | BINARY)),
        "A message with RSV1 can't be inflated: its block has a type that does not exist.",
        "Fails the connection, with 1002 or 1007 if it sends a code.",
        "RFC 7692 section 7.2.2, RFC 1951 section 3.2.3",
        needs_deflate=True,
    ),
    "deflate-unasked": Bad(
        _same(_deflated(_stored(b"unasked"))),
        "A deflated message comes, and permessage-deflate is declined.",
        FAILS_1002,
        "RFC 6455 section 5.2",
        forbids_deflate=True,
    ),
    "deflate-window": Bad(
        _behind_window,
        "A deflated message refers to bytes behind the window that was agreed on.",
        "Fails the connection, with 1002 or 1007 if it sends a code. A client that inflates with a larger window than "
        "it promised may read the message.",
        "RFC 7692 section 7.1.2.1",
        needs_deflate=True,
    ),
}
"""All bad frames by their names."""


def bomb(size: int) -> Iterator[bytes]:
    """Yield a deflated binary message, piece by piece, that inflates to `size` zeros. Each piece inflates to a MiB."""
    whole, rest = _deflate(MIB), _deflate(size % MIB)
    count = size // MIB
    last = b"\0"  # the beginning of an empty stored block
    length = count * len(whole) + len(rest) + len(last)
    yield header(FIN | RSV1 | BINARY, length)
    for _ in range(count):
        yield whole
    yield rest + last


@lru_cache(maxsize=8)
def _deflate(size: int) -> bytes:
    """Deflate zeros. They refer to nothing before them, and a full flush ends them at the boundary of a byte.

    `Z_RLE` refers one byte back and no further, so the smallest window will do. To deflate a MiB with a window of 512
    bytes takes zlib 28 ms, and with 32 KiB one or two.
    """
    compressor = zlib.compressobj(9, zlib.DEFLATED, -FULL_WINDOW_BITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return compressor.compress(bytes(size)) + compressor.flush(zlib.Z_FULL_FLUSH) if size else b""
