"""What is fed: opening handshakes and frames, mostly nearly right, and cuts.

Knows HTTP and frames, as strategies for Hypothesis. Must never know what the answer should be.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from tests import frames

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


@dataclass(frozen=True)
class Case:
    """Octets that a client sends, and where they are cut."""

    octets: bytes
    cuts: tuple[int, ...]

    def pieces(self) -> list[bytes]:
        """Return the pieces, in order."""
        ends = sorted({min(cut, len(self.octets)) for cut in self.cuts} | {0, len(self.octets)})
        return [self.octets[start:end] for start, end in pairwise(ends)]


_TARGETS = st.sampled_from(["/", "/json", "/a?b=c", "//x", "/%zz", "*", "http://[", "/?redirect=x", "/\x7f", "/é"])

_HEADERS = st.sampled_from(
    [
        OFFER,
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9; server_no_context_takeover",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99, x; y=z",
        "Sec-WebSocket-Extensions: ,;=",
        "Sec-WebSocket-Protocol: chat, superchat",
        "Sec-WebSocket-Protocol: é",
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-For: fe80::1%\x9b",
        "Origin: null",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: again",
        "Upgrade: h2c",
        " folded",
        "no colon",
        "X: \x85Y: z",
        "X: \x00",
        "X-Long: " + "a" * 600,
        ": empty",
        "",
    ]
)

_KEYS = st.sampled_from(["dGhlIHNhbXBsZSBub25jZQ=="] * 8 + ["x", "dGhlIHNhbXBsZSBub25jZQ=", "é"])


@st.composite
def _handshakes(draw: st.DrawFn) -> bytes:
    extra = draw(st.lists(_HEADERS, max_size=3)) if draw(st.booleans()) else draw(st.sampled_from([[], [OFFER]]))
    target = draw(_TARGETS) if draw(st.integers(0, 4)) == 0 else draw(st.sampled_from(["/", "/", "/json"]))
    return frames.handshake(target, *extra, key=draw(_KEYS))


_REQUESTS = st.one_of(
    _handshakes(),
    _handshakes(),
    _handshakes(),
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"GET " + b"a" * 2000,
            b"",
        ]
    ),
    st.binary(max_size=80),
)

_TEXTS = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b'{"a": [1, 2]}', b"[", b"NaN", b"\xff", "é".encode()[:1], b"\xed\xa0\x80", b"a" * 126, b"b" * 65_536]),
    st.binary(max_size=300),
)

_MASKS = st.sampled_from([b"\x12\x34\x56\x78"] * 12 + [b"\0\0\0\0", None])

_FLAGS = st.sampled_from([(True, 0)] * 8 + [(False, 0)] * 4 + [(True, 4)] * 3 + [(False, 4), (True, 1), (True, 7), (False, 2)])

_OPCODES = st.sampled_from([frames.TEXT, frames.BINARY, frames.CONTINUATION] * 4 + [frames.PING, frames.PONG, frames.CLOSE, 3, 7, 11, 15])

_CLAIMS = st.sampled_from([None] * 30 + [0, 1, 125, 126, 127, 65_535, 65_536, 70_001, 1 << 30, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])

_CLOSES = st.tuples(st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1006, 1015, 1016, 2999, 3000, 4999, 5000, 65535]), st.text(max_size=4))


_CONTROLS = st.sampled_from([b"", frames.client_frame(frames.PING, b"ping"), frames.client_frame(frames.PONG, b"bogus")])


def _deflated(payload: bytes, *, fin: bool = True) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    octets = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return octets[:-4] if fin else octets


@st.composite
def _message(draw: st.DrawFn, may_deflate: bool) -> bytes:
    """A message as it should be, in one frame or in some, deflated or not, with control frames between."""
    opcode = draw(st.sampled_from([frames.TEXT, frames.BINARY]))
    payload = draw(st.text(max_size=20)).encode() * draw(st.sampled_from([1, 1, 10, 50, 2000]))
    rsv = 4 if may_deflate and draw(st.booleans()) else 0
    if rsv:
        payload = _deflated(payload)
    count = draw(st.sampled_from([1, 1, 1, 2, 4, 9]))
    size = len(payload) // count + 1
    octets = b""
    for i in range(count):
        piece = payload[i * size : (i + 1) * size]
        octets += frames.client_frame(frames.CONTINUATION if i else opcode, piece, fin=i == count - 1, rsv=0 if i else rsv)
        octets += draw(_CONTROLS)
    return octets


@st.composite
def _odd_frame(draw: st.DrawFn) -> bytes:
    """A frame with anything in it."""
    opcode = draw(_OPCODES)
    fin, rsv = draw(_FLAGS)
    payload = draw(_TEXTS)
    if opcode == frames.CLOSE and draw(st.booleans()):
        payload = frames.close_payload(*draw(_CLOSES))
    elif opcode >= frames.CLOSE and draw(st.integers(0, 9)):
        payload, fin, rsv = payload[:125], True, 0
    if rsv == 4 and draw(st.booleans()):
        payload = _deflated(payload * draw(st.sampled_from([1, 1, 500])), fin=fin)
    return frames.client_frame(opcode, payload, fin=fin, rsv=rsv, mask=draw(_MASKS), claim=draw(_CLAIMS))


_EMPTY_FRAGMENTS = st.just(frames.client_frame(frames.CONTINUATION, fin=False))


@st.composite
def _frames(draw: st.DrawFn, may_deflate: bool) -> bytes:
    """Mostly what should be, some that should not."""
    octets = b""
    for _ in range(draw(st.integers(1, 10))):
        kind = draw(st.integers(0, 19))
        if kind < 16:
            octets += draw(_message(may_deflate))
        elif kind < 18:
            octets += draw(_odd_frame())
        else:
            octets += draw(_EMPTY_FRAGMENTS | st.binary(max_size=20))
    return octets


@st.composite
def _mutated(draw: st.DrawFn, octets: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(octets)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            octets = octets[:at] + draw(st.binary(min_size=1, max_size=3)) + octets[at:]
        elif kind == 1:
            octets = octets[:at] + octets[at + draw(st.integers(1, 5)) :]
        elif kind == 2:
            octets = octets[:at] + draw(st.binary(min_size=1, max_size=1)) + octets[at + 1 :]
        else:
            octets = octets[:at]
    return octets


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a case."""
    offers = draw(st.booleans())
    if draw(st.integers(0, 9)):
        octets = frames.handshake(draw(st.sampled_from(["/", "/", "/", "/json"])), *([OFFER] if offers else []))
    else:
        octets = draw(_REQUESTS)
    octets += draw(_frames(offers))
    if draw(st.integers(0, 2)) == 0:
        octets = draw(_mutated(octets))
    cuts = draw(st.lists(st.integers(0, max(1, len(octets))), max_size=12))
    return Case(octets, tuple(cuts))
