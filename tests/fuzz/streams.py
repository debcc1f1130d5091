"""What a client may send, from correct to hostile: request heads and frames, combined, damaged, and cut.

Knows how to make bytes. Must never know how the daemon reacts to them.
"""

from __future__ import annotations

import zlib

from hypothesis import strategies as st

from tests.frames import DEFLATE, client_frame, close_payload, handshake

OFFER = f"{DEFLATE}; client_max_window_bits"

_noise = st.binary(max_size=300)

_lines = st.sampled_from(
    [
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Protocol: é",
        OFFER,
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8",
        "Sec-WebSocket-Extensions: ;;, =",
        "X-Forwarded-For: 6.6.6.6, fe80::1%0",
        "Content-Length: 5",
        "X: a\x85Y: b",
        " folded",
        "no colon",
        "Upgrade: h2c",
        "X: " + "y" * 17_000,
    ]
)

# With these parameters the answer depends neither on time nor on chance.
_FAULTS = (
    "drop=.5&seed=1 fragment=3 close=1001&reason=%C3%BC close=1005 close=1006 abort stall after=1 after=3 "
    "delay=1s ping=1s status=503"
)
_NO_FAULTS = "handshake-delay=0 delay=%ff close close=1004 % a=1 compression=deflate compression=off compression=x"

_queries = st.lists(st.sampled_from([*_FAULTS.split(), *_NO_FAULTS.split()]), max_size=4).map("&".join)

_offers = st.sampled_from([(), (OFFER,)])

_heads = st.one_of(
    st.sampled_from([handshake(), b"\r\n" + handshake(), b"\r\n\r\n" + handshake()]),
    st.builds(handshake, st.sampled_from(["/", "/json", "/?redirect=x", "//[", "*", "/#f"]), _lines),
    st.builds(
        lambda path, query, lines: handshake(f"{path}?{query}", *lines),
        st.sampled_from(["/", "/json"]),
        _queries,
        _offers,
    ),
    st.builds(lambda octets: b"GET " + octets + b"\r\n\r\n", _noise),
    _noise,
)

_payloads = st.one_of(
    st.text(max_size=200).map(str.encode), _noise, st.just(b'{ "a": [1, 2] }'), st.integers(0, 9000).map(bytes)
)

_frames = st.one_of(
    st.builds(client_frame, st.sampled_from([1, 2]), _payloads),
    st.builds(
        lambda opcode, payload, fin, rsv: client_frame(opcode, payload, fin=fin, rsv=rsv),
        st.sampled_from([0, 1, 2, 3, 7, 8, 9, 10, 11, 15]),
        _payloads,
        st.booleans(),
        st.sampled_from([0, 0, 0, 4, 1, 7]),
    ),
    st.builds(
        lambda code, reason: client_frame(8, close_payload(code, reason)), st.integers(0, 65535), st.text(max_size=30)
    ),
    st.builds(
        lambda claim: client_frame(2, b"x", claim=claim), st.sampled_from([126, 65535, 65536, 2**20, 2**63 - 1, 2**63])
    ),
    st.just(client_frame(9, b"ping") * 50),
    _noise,
)


def _deflated(payload: bytes, opcode: int, step: int, flush: int, left_out: int) -> bytes:
    """Return a deflated message in frames of `step` bytes, without its last `left_out` bytes. Right are 4, and none
    with Z_FINISH."""
    deflate = zlib.compressobj(wbits=-15)
    octets = deflate.compress(payload) + deflate.flush(flush)
    octets = octets[: len(octets) - left_out]
    parts = [octets[start : start + step] for start in range(0, len(octets), step)]
    return b"".join(
        client_frame(0 if i else opcode, part, fin=i == len(parts) - 1, rsv=0 if i else 4)
        for i, part in enumerate(parts)
    )


_deflated_messages = st.builds(
    _deflated,
    _payloads,
    st.sampled_from([1, 2]),
    st.sampled_from([1, 20, 10_000]),
    st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH]),
    st.sampled_from([4, 4, 4, 4, 0, 1, 5]),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw everything that one client sends."""
    if draw(st.integers(0, 3)):
        octets = bytearray(draw(_heads) + b"".join(draw(st.lists(_frames, max_size=8))))
    else:
        octets = bytearray(
            handshake("/", OFFER) + b"".join(draw(st.lists(st.one_of(_deflated_messages, _frames), max_size=5)))
        )
    for _ in range(draw(st.integers(0, 2)) if draw(st.integers(0, 3)) == 0 else 0):
        if octets:
            octets[draw(st.integers(0, len(octets) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(octets)


@st.composite
def pieces(draw: st.DrawFn, octets: bytes) -> list[bytes]:
    """Draw a way to cut bytes: at random places, or into pieces of one size."""
    if draw(st.booleans()):
        step = draw(st.sampled_from([1, 2, 7, 100, 4096]))
        return [octets[start : start + step] for start in range(0, len(octets), step)]
    cuts = sorted(draw(st.lists(st.integers(0, len(octets)), max_size=6)))
    return [octets[start:end] for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True) if start < end]
