"""Whatever a client sends, cut wherever: with the lane and without it the same octets come back, as early, and the same close.

The specification is the protocol without native code, over a fake transport, which is handed one piece after the other. It is compared
with the codec over a fake transport, where each piece must have the very same answer; and with the pump over a real socket, plain or
with TLS on it, where the answers must have come as far after each piece, and be the same in the end. How answers are put together
into writes doesn't matter.
"""

from __future__ import annotations

import random
import ssl
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from echod.factory import EchoFactory
from echod.native import Native
from echod.protocol import EchoProtocol
from echod.settings import Settings
from tests.fakes import Peer
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame, close_payload
from tests.loop import Bed, Link, SecureLink, bed, needed_native, wait_for_lease
from tests.tls import Certificate

DEFLATE = ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",)
LIMIT = 70_000
SETTINGS = {"max_message_size": LIMIT, "max_fragments": 8, "ping_interval": 0.0, "min_deflated": 8}


@dataclass
class Grounds:
    """Where the three ways are."""

    native: Native
    without: EchoFactory
    bed: Bed
    options: Any
    client: ssl.SSLContext

    def link(self, headers: tuple[str, ...], is_tls: bool) -> Link:
        """Return a new connection to the pump, leased where it may be."""
        if not is_tls:
            link = Link(self.bed.loop, self.bed.factory, *headers)
        else:
            link = SecureLink(self.bed.loop, self.bed.factory, self.options, self.client, *headers)
            if not headers:
                wait_for_lease(link.protocol, self.bed.loop, partial(echo_nothing, link))
        assert (link.protocol.lease is None) == bool(headers)
        return link


@pytest.fixture(scope="module")
def grounds(certificate: Certificate) -> Iterator[Grounds]:
    native = needed_native()
    without = EchoFactory(Settings(**SETTINGS), Clock(), 100, None)  # type: ignore[arg-type]
    with bed(native, **SETTINGS) as made:
        yield Grounds(native, without, made, certificate.server_options(), certificate.client())


@dataclass(frozen=True)
class Ending:
    """What a connection has come to."""

    state: int
    was_clean: bool
    failed_by_me: bool
    sent: tuple[int | None, str | None]
    received: tuple[int | None, str | None]


def ending(protocol: EchoProtocol) -> Ending:
    return Ending(
        protocol.state,
        protocol.wasClean,
        protocol.failedByMe,
        (protocol.localCloseCode, protocol.localCloseReason),
        (protocol.remoteCloseCode, protocol.remoteCloseReason),
    )


@dataclass(frozen=True)
class Outcome:
    """The answer to each piece, how the transport was closed, and what the connection has come to before and after the client's end."""

    answers: list[bytes]
    closed: tuple[bool, bool, bool]
    before: Ending
    after: Ending


def over_a_fake_transport(factory: EchoFactory, headers: tuple[str, ...], pieces: list[bytes]) -> Outcome:
    """Hand one piece after the other to the protocol, then the client's FIN."""
    peer = Peer(factory)
    peer.open("/", *headers)
    answers = [peer.send(piece) for piece in pieces]
    closed = (peer.transport.half_closed, peer.transport.disconnecting, peer.transport.aborted)
    before = ending(peer.protocol)
    peer.protocol.readConnectionLost()
    assert peer.take() == b""
    peer.lose()
    return Outcome(answers, closed, before, ending(peer.protocol))


def echo_nothing(link: Link) -> None:
    link.send(client_frame(TEXT, b""))
    assert link.receive(2) == b"\x81\x00"


def over_a_socket(grounds: Grounds, headers: tuple[str, ...], pieces: list[bytes], expected: Outcome, is_tls: bool) -> None:
    """Send one piece after the other, wait for what is expected after each, then send the FIN, and see that nothing else came."""
    bed_, link = grounds.bed, grounds.link(headers, is_tls)
    try:
        right = b""
        for piece, answer in zip(pieces, expected.answers, strict=True):
            right += answer
            link.send(piece)
            bed_.loop.until(lambda: len(link.take()) >= len(right), 5)  # noqa: B023  # it is called before the next piece
            assert link.received == right
        if any(expected.closed):
            bed_.loop.until(lambda: ending(link.protocol) == expected.before, 5)
        link.end()
        assert link.receive_all() == right
        bed_.loop.until(lambda: link.protocol not in bed_.factory.live, 5)
        assert ending(link.protocol) == expected.after
    finally:
        link.reset()
        bed_.loop.until(lambda: link.protocol not in bed_.factory.live)


def compare(grounds: Grounds, headers: tuple[str, ...], pieces: list[bytes], is_tls: bool = False) -> None:
    expected = over_a_fake_transport(grounds.without, headers, pieces)
    assert over_a_fake_transport(grounds.bed.factory, headers, pieces) == expected
    over_a_socket(grounds, headers, pieces, expected, is_tls)


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(octets), *(place for place in places if place < len(octets))})
    return [octets[start:end] for start, end in pairwise(edges)]


# By hand: each kind of thing once, at once, cut in the middle, and octet by octet.

MIXED = "aé€😀".encode()
GRAMMAR = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
    b"\xf4\x90\x80\x80",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf0\x9f\x98",
    b"\x80",
    b"\xff",
]


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def with_length_form(octets: bytes, size: int, length: int) -> bytes:
    """A frame whose length is in another form than the shortest."""
    return octets[:1] + bytes([0x80 | {2: 126, 8: 127}[size]]) + length.to_bytes(size, "big") + octets[2:]


ORDINARY = client_frame(TEXT, b"ordinary") + client_frame(BINARY, b"\xff\xfe")
STREAMS = {
    "nothing": b"",
    "ordinary": ORDINARY * 3,
    "empty": client_frame(TEXT) + client_frame(BINARY) + client_frame(TEXT, b"x"),
    "with control frames": ORDINARY + client_frame(PING, b"1") + ORDINARY + client_frame(PONG) + client_frame(PING) + ORDINARY,
    "fragmented": ORDINARY
    + client_frame(TEXT, b"a\xe2\x82", fin=False)
    + client_frame(PING)
    + client_frame(CONTINUATION, b"\xac")
    + ORDINARY,
    "fragments, too many": client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, b"b", fin=False) * 9 + ORDINARY,
    "fragments, just as many": client_frame(TEXT, b"a", fin=False)
    + client_frame(CONTINUATION, b"b", fin=False) * 6
    + client_frame(CONTINUATION)
    + ORDINARY,
    "fragments, too many behind a ping": client_frame(TEXT, b"a", fin=False)
    + client_frame(CONTINUATION, b"b", fin=False) * 4
    + client_frame(PING)
    + client_frame(CONTINUATION, b"b", fin=False) * 9,
    "fragments of just the limit": (client_frame(BINARY, bytes(LIMIT - 9), fin=False) + client_frame(CONTINUATION, bytes(9))) * 2,
    "fragments above the limit": client_frame(BINARY, bytes(LIMIT - 9), fin=False) + client_frame(CONTINUATION, bytes(10)) + ORDINARY,
    "fragments above the limit behind a ping": client_frame(BINARY, bytes(LIMIT - 9), fin=False)
    + client_frame(PING)
    + client_frame(CONTINUATION, bytes(10)),
    "fragments with faulty text": client_frame(TEXT, b"a\xe2", fin=False) + client_frame(CONTINUATION, b"\x82a" + bytes(50)) + ORDINARY,
    "fragments with text that is cut": client_frame(TEXT, b"a\xe2", fin=False) + client_frame(CONTINUATION, b"\x82") + ORDINARY,
    "fragments, the last without an end": client_frame(TEXT, MIXED, fin=False) + client_frame(CONTINUATION, MIXED * 500)[:-1],
    "a close between fragments": client_frame(TEXT, MIXED, fin=False) + client_frame(CLOSE, close_payload(1000)) + ORDINARY,
    "fragments of wrong length forms": client_frame(TEXT, MIXED, fin=False)
    + with_length_form(client_frame(CONTINUATION, b"abc"), 2, 3)
    + ORDINARY,
    "interleaved": client_frame(TEXT, b"a", fin=False) + ORDINARY,
    "continued without a begin": ORDINARY + client_frame(CONTINUATION, b"a") + ORDINARY,
    "close": ORDINARY + client_frame(CLOSE, close_payload(1000, "bye")) + ORDINARY,
    "close, empty": ORDINARY + client_frame(CLOSE) + ORDINARY,
    "close, wrong code": ORDINARY + client_frame(CLOSE, close_payload(1005)) + ORDINARY,
    "close, wrong text": ORDINARY + client_frame(CLOSE, close_payload(1000) + b"\xff") + ORDINARY,
    "not masked": ORDINARY + client_frame(TEXT, b"a", mask=None) + ORDINARY,
    "reserved bits": ORDINARY + client_frame(TEXT, b"a", rsv=4) + ORDINARY,
    "reserved opcode": ORDINARY + client_frame(3, b"a") + ORDINARY,
    "ping, too long": ORDINARY + client_frame(PING, b"", claim=126) + bytes(200),
    "ping, fragmented": ORDINARY + client_frame(PING, fin=False) + ORDINARY,
    "length of 16 bits, not shortest": ORDINARY + with_length_form(client_frame(TEXT, b"abc"), 2, 3) + ORDINARY,
    "length of 64 bits, not shortest": ORDINARY + with_length_form(client_frame(TEXT, b"abc"), 8, 3) + ORDINARY,
    "length of 64 bits, negative": ORDINARY + with_length_form(client_frame(TEXT, b"abc"), 8, 2**64 - 1) + ORDINARY,
    "just the limit": client_frame(BINARY, bytes(LIMIT)) + ORDINARY,
    "above the limit": ORDINARY + client_frame(BINARY, bytes(LIMIT + 1)) + ORDINARY,
    "a huge claim": ORDINARY + client_frame(TEXT, b"abc", claim=2**63 - 1),
    "a claim of all that may be": ORDINARY + client_frame(TEXT, b"abc", claim=LIMIT),
    "a head without an end": ORDINARY + client_frame(BINARY, bytes(70_000))[:9],
    "a small frame without an end": ORDINARY + client_frame(TEXT, MIXED * 20)[:-1],
    "a text without an end": ORDINARY + client_frame(TEXT, MIXED * 2000)[:-1],
} | {
    f"text with {fault.hex()} at {place} of {size}": ORDINARY + client_frame(TEXT, b"a" * place + fault + b"b" * (size - place)) + ORDINARY
    for fault in GRAMMAR
    for place, size in ((0, 1), (10, 130), (3, 4_090), (4_089, 4_090), (4_050, 5_000), (66_000, 68_000))
}


@pytest.mark.parametrize("headers", [(), DEFLATE], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", STREAMS)
def test_by_hand(grounds: Grounds, name: str, headers: tuple[str, ...]) -> None:
    stream = STREAMS[name]
    compare(grounds, headers, [stream])
    compare(grounds, headers, cut(stream, [len(stream) // 2]))
    compare(grounds, headers, [stream], is_tls=True)
    compare(grounds, headers, cut(stream, [len(stream) // 3, len(stream) // 2]), is_tls=True)
    compare(grounds, headers, cut(stream, [*range(30), *range(len(stream) - 30, len(stream))]))
    if len(stream) < 300:
        compare(grounds, headers, cut(stream, [*range(300)]))


# Of any kind.

small = st.one_of(st.text(max_size=130).map(str.encode), st.binary(max_size=130), st.sampled_from(GRAMMAR))


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Small ones, and some about as long as the pump's and the reactor's buffers and the limit."""
    if draw(st.integers(0, 3)):
        return draw(small)
    size = draw(st.sampled_from([4_086, 4_090, 4_096, 8_192, 65_522, 65_536, LIMIT])) + draw(st.integers(-8, 8))
    if draw(st.booleans()):
        return random.Random(size).randbytes(size)
    text = (MIXED * (size // len(MIXED) + 1))[:size]
    place = draw(st.integers(0, size))
    return text[:place] + draw(small) + text[place:]


@st.composite
def ordinary(draw: st.DrawFn) -> bytes:
    return client_frame(draw(st.sampled_from([TEXT, BINARY])), draw(payloads()), mask=draw(st.binary(min_size=4, max_size=4)))


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """A frame of any kind, valid or not, whose length may be a lie."""
    payload = draw(payloads())
    if draw(st.booleans()):
        payload = deflated(payload)
    return client_frame(
        draw(st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 3, 11])),
        draw(st.sampled_from([payload, payload[:125], close_payload(draw(st.integers(999, 5000)), "bye") + payload[:20]])),
        fin=draw(st.booleans()),
        rsv=draw(st.sampled_from([0, 0, 0, 4, 1])),
        mask=draw(st.sampled_from([b"\x01\x02\x03\x04", b"\x81\x82\x83\x84", bytes(4), None])),
        claim=draw(st.sampled_from([None, None, None, 0, 125, 4_000, LIMIT, LIMIT + 1, 2**63 - 1, 2**63])),
    )


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """A message in two to five frames, with control frames between."""
    payload, opcode, rsv = draw(payloads()), draw(st.sampled_from([TEXT, BINARY])), draw(st.sampled_from([0, 4]))
    parts = cut(deflated(payload) if rsv else payload, draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=4))) or [b""]
    frames = [
        client_frame(CONTINUATION if place else opcode, part, fin=place == len(parts) - 1, rsv=0 if place else rsv)
        for place, part in enumerate(parts)
    ]
    return draw(st.sampled_from([b"", client_frame(PING, b"between"), client_frame(PONG)])).join(frames)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Mostly ordinary; cut short, or with some octets changed."""
    frames = st.one_of(
        ordinary(), ordinary(), ordinary(), fragmented(), odd(), st.builds(client_frame, st.just(PING), st.binary(max_size=125))
    )
    octets = bytearray(b"".join(draw(st.lists(frames, max_size=8))) + draw(st.one_of(st.just(b""), st.binary(max_size=20))))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        if octets:
            octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    return bytes(octets[: draw(st.one_of(st.just(len(octets)), st.integers(0, len(octets))))])


@settings(max_examples=400, deadline=None)
@given(data=st.data(), headers=st.sampled_from([(), (), DEFLATE]), stream=streams())
def test_of_any_kind_cut_anywhere(grounds: Grounds, data: st.DataObject, headers: tuple[str, ...], stream: bytes) -> None:
    places = st.one_of(st.integers(0, max(0, len(stream) - 1)), st.integers(0, 40))
    compare(grounds, headers, cut(stream, data.draw(st.lists(places, max_size=12))), data.draw(st.booleans()))
