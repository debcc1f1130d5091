"""What the codec has to do, written the slow way, from RFC 6455 and with Python's own UTF-8 decoder.

Knows the RFC, and the frames of `tests.frames`. Must never know the C, nor share a table or a trick with it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests import frames

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT, BINARY = frames.TEXT, frames.BINARY


@dataclass(frozen=True)
class Echo:
    """What the codec returns for some bytes."""

    output: bytes
    consumed: int
    stop: str
    need: int
    text: tuple[dict[int, int], int]
    """The number of text messages by their place in the sums, and the bytes of their payloads."""
    binary: tuple[dict[int, int], int]

    @property
    def messages(self) -> int:
        """The number of messages of both types."""
        return sum(self.text[0].values()) + sum(self.binary[0].values())

    @property
    def octets(self) -> int:
        """The bytes of all payloads."""
        return self.text[1] + self.binary[1]


def place(length: int) -> int:
    """Return where a message of this length is counted: at 63 if it is empty, otherwise at the exponent of the first
    power of two that it does not exceed."""
    return next(n for n in range(64) if length <= 2**n) if length else 63


@dataclass(frozen=True)
class Header:
    """An ordinary frame's header."""

    size: int
    opcode: int
    length: int
    key: bytes


@dataclass(frozen=True)
class Stop:
    """Why there is no ordinary frame."""

    why: str
    need: int = 0


def mask(payload: bytes, key: bytes, phase: int = 0) -> bytes:
    """Mask or unmask (RFC 6455 section 5.3), byte by byte. `phase` is the place in the key of the first byte."""
    return bytes(octet ^ key[(phase + place) % 4] for place, octet in enumerate(payload))


def encoded_length(length: int) -> bytes:
    """Return the second byte of a header without its mask bit, and the length behind it: "the minimal number of bytes
    MUST be used" (section 5.2)."""
    return frames.client_frame(0, mask=None, claim=length)[1:]


def server_frame(payload: bytes, opcode: int) -> bytes:
    """Return a final frame without a mask."""
    return frames.server_frame(opcode, payload)


def client_header(length: int, opcode: int, key: bytes) -> bytes:
    """Return the header of a final frame with a mask."""
    return frames.client_frame(opcode, mask=key, claim=length)


def client_frame(payload: bytes, opcode: int, key: bytes) -> bytes:
    """Return a final frame with a mask."""
    return frames.client_frame(opcode, payload, mask=key)


def fragment(payload: bytes, opcode: int, key: bytes) -> bytes:
    """Return a frame with a mask that is not the last of its message. `opcode` is 0 unless the frame is the first."""
    return frames.client_frame(opcode, payload, fin=False, mask=key)


def is_text(payload: bytes) -> bool:
    """Tell whether all of it is UTF-8."""
    try:
        payload.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return False
    return True


def begins_text(payload: bytes) -> bool:
    """Tell whether it is UTF-8, or can become UTF-8 with more bytes behind it. (Python's incremental decoder rejects a
    surrogate only at its third byte.)"""
    try:
        payload.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        rest = payload[error.start :]
        endings = [bytes([second, *[0x80] * more]) for second in (0x80, 0xBF) for more in range(3)]
        return len(rest) <= 3 and any(is_text(rest + ending) for ending in endings)
    return True


def header(octets: bytes, limit: int) -> Header | Stop:  # noqa: PLR0911 - one for each way to stop
    """Return the header of an ordinary frame, or why there is none."""
    if octets[0] not in {0x81, 0x82}:
        return Stop("NOT_ORDINARY")
    if len(octets) < 2:
        return Stop("NEED_MORE", 2)
    if not octets[1] & 0x80:
        return Stop("NOT_ORDINARY")
    seven = octets[1] & 0x7F
    longer = {126: 2, 127: 8}.get(seven, 0)
    if len(octets) < 2 + longer:
        return Stop("NEED_MORE", 2 + longer)
    length = int.from_bytes(octets[2 : 2 + longer], "big") if longer else seven
    if len(encoded_length(length)) != 1 + longer or length >= 1 << 63:
        return Stop("NOT_ORDINARY")
    size = 2 + longer + 4
    if length > limit:
        return Stop("TOO_LARGE", size + length)
    if len(octets) < size:
        return Stop("NEED_MORE", size + length)
    return Header(size, octets[0] & 0x0F, length, octets[size - 4 : size])


@dataclass(frozen=True)
class Served:
    """What the lane does with bytes that begin at a frame boundary outside a message."""

    output: bytes
    left: bytes
    """The bytes that are given back at the end: one frame for all whole frames of an unfinished message, and the bytes
    behind them."""
    fragments: int
    """The number of whole frames that the first frame of `left` stands for."""
    is_odd: bool
    """Whether `left` has something that Autobahn has to judge."""


DEFLATED = 0x40
"""RSV1, in the first byte of the first frame of a deflated message."""


def is_control(octets: bytes) -> bool:
    """Whether a ping or a pong begins there, which is right as far as it is there."""
    return octets[0] in {0x89, 0x8A} and (len(octets) < 2 or 0x80 <= octets[1] <= 0x80 + 125)


def serve(  # noqa: PLR0911 - one for each way to stop
    octets: bytes,
    limit: int,
    max_fragments: int,
    answer: Callable[[bytes, int], bytes | None] | None = None,
    wire_limit: int = 0,
) -> Served:
    """Serve frame after frame, and put fragmented messages together, until a frame is incomplete or of another kind.
    A ping gets its pong and a pong gets nothing, but within a deflated message both are Autobahn's.

    With `answer`, deflated messages of at most `wire_limit` bytes on the wire are served, too. `answer` gets the
    deflated bytes and the opcode. It returns the frame that answers the message, or None if Autobahn has to judge the
    message.
    """
    kinds = {TEXT, BINARY} | ({TEXT | DEFLATED, BINARY | DEFLATED} if answer else set())
    output, gathered, kind, count, at = b"", b"", 0, 0, 0

    def end(is_odd: bool) -> Served:
        first = fragment(gathered, kind, bytes(4)) if count else b""
        return Served(output, first + octets[at:], count, is_odd)

    while at < len(octets):
        rest = octets[at:]
        if is_control(rest) and not kind & DEFLATED:
            size = 6 + (rest[1] - 0x80) if len(rest) > 1 else 2
            if len(rest) < size:
                return end(False)
            output += server_frame(mask(rest[6:size], rest[2:6]), frames.PONG) if rest[0] == 0x89 else b""
            at += size
            continue
        opcode = kind or rest[0] & 0x7F
        if opcode not in kinds or rest[0] & 0x7F != (0 if count else opcode) or count >= max_fragments:
            return end(True)
        found = header(b"\x82" + rest[1:], (wire_limit if opcode & DEFLATED else limit) - len(gathered))
        if isinstance(found, Stop):
            return end(found.why != "NEED_MORE")
        kind = opcode
        payload = gathered + mask(rest[found.size : found.size + found.length], found.key)
        is_whole = len(rest) >= found.size + found.length
        is_last = rest[0] >= 0x80
        if kind == TEXT and not (begins_text(payload) and (is_text(payload) or not (is_whole and is_last))):
            return end(True)
        if not is_whole:
            return end(False)
        said: bytes | None = server_frame(payload, kind)
        if is_last and answer and kind & DEFLATED:
            said = answer(payload, kind & ~DEFLATED)
        if said is None:
            return end(True)
        at += found.size + found.length
        if is_last:
            output += said
            gathered, kind, count = b"", 0, 0
        else:
            gathered, count = payload, count + 1
    return end(False)


def echo(octets: bytes, limit: int) -> Echo:
    """Echo frame after frame, until a frame is incomplete or not ordinary."""
    output = b""
    consumed = 0
    lengths: dict[int, list[int]] = {TEXT: [], BINARY: []}
    stop = Stop("BOUNDARY")
    while consumed < len(octets):
        rest = octets[consumed:]
        found = header(rest, limit)
        if isinstance(found, Stop):
            stop = found
            break
        whole = found.size + found.length
        if len(rest) < whole:
            stop = Stop("NEED_MORE", whole)
            break
        payload = mask(rest[found.size : whole], found.key)
        if found.opcode == TEXT and not is_text(payload):
            stop = Stop("NOT_ORDINARY")
            break
        output += server_frame(payload, found.opcode)
        consumed += whole
        lengths[found.opcode].append(found.length)
    text, binary = ((dict(Counter(map(place, lengths[opcode]))), sum(lengths[opcode])) for opcode in (TEXT, BINARY))
    return Echo(output, consumed, stop.why, stop.need, text, binary)
