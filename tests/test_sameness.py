"""Whatever a client sends, however it is cut: the lane sends the same octets as the plain protocol, just as early, and
closes in the same way.

The specification is the protocol without native code on a fake transport, which gets one piece after the other. Two
others are compared with it. The codec runs on a fake transport, and must give the same answer to each piece; so must a
connection that is traced (`--log-frames`). The pump runs on a real socket, plain or with TLS; after each piece as many
octets must have come, and at the end the same ones. How the octets are grouped into writes doesn't matter.
"""

from __future__ import annotations

import random
import ssl
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from echod.echo import EchoProtocol
from echod.lane.native import Native
from echod.settings import Settings
from echod.websocket.factory import EchoFactory
from tests.controls import CONTROLS, ORDINARY, PLACES
from tests.fakes import Peer
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_payload,
    deflated_octets,
)
from tests.loop import Bed, Link, SecureLink, bed, wait_for_lease
from tests.tls import Certificate

OFFER = f"{DEFLATE}; client_max_window_bits"
NO_CONTEXT = f"{OFFER}; client_no_context_takeover; server_no_context_takeover"


class Way(NamedTuple):
    """How a connection is opened."""

    target: str = "/"
    headers: tuple[str, ...] = ()
    is_leased: bool = True


PLAIN = Way()
WAYS = {
    "plain": PLAIN,
    "mirrored": Way("/", (OFFER,)),
    "mirrored, without context": Way("/", (NO_CONTEXT,)),
    "deflated, without context": Way("/?compression=deflate", (NO_CONTEXT,)),
    # Deflating anew with context takeover: a lease could not go on with the connection's compressor.
    "deflated": Way("/?compression=deflate", (OFFER,), is_leased=False),
}

LIMIT = 70_000
SETTINGS = {"max_message_size": LIMIT, "max_fragments": 8, "ping_interval": 0.0, "min_deflated": 8}


@dataclass
class Grounds:
    """The factories and contexts of the ways to serve a connection."""

    native: Native
    without: EchoFactory
    traced: EchoFactory
    bed: Bed
    options: Any
    client: ssl.SSLContext

    def link(self, way: Way, is_tls: bool) -> tuple[Link, int]:
        """Return a new connection to the pump, with a lease if the way allows one, and the number of empty messages
        that it took to begin the lease."""
        echoes = 0

        def echo() -> None:
            nonlocal echoes
            echo_nothing(link)
            echoes += 1

        if not is_tls:
            link = Link(self.bed.loop, self.bed.factory, *way.headers, target=way.target)
        else:
            link = SecureLink(
                self.bed.loop, self.bed.factory, self.options, self.client, *way.headers, target=way.target
            )
            if way.is_leased:
                wait_for_lease(link.protocol, self.bed.loop, echo)
        assert (link.protocol.lease is not None) == way.is_leased
        return link, echoes


@pytest.fixture(scope="module")
def grounds(certificate: Certificate, native: Native) -> Iterator[Grounds]:
    plain = Settings(**SETTINGS)  # type: ignore[arg-type]  # values of several types
    without, traced = (
        EchoFactory(EchoProtocol, chosen, Clock(), 100, None)
        for chosen in (plain, replace(plain, log_frames=True, log_frames_rate=1))
    )
    with bed(native, **SETTINGS) as made:  # type: ignore[arg-type]  # values of several types
        yield Grounds(native, without, traced, made, certificate.server_options(), certificate.client())


@dataclass(frozen=True)
class Ending:
    """The state and the close codes of a connection, and what it has counted."""

    state: int
    was_clean: bool
    failed_by_me: bool
    sent: tuple[int | None, str | None]
    received: tuple[int | None, str | None]
    traffic: tuple[int, int, int, int]


def ending(protocol: EchoProtocol, uncounted: int = 0) -> Ending:
    """Return how a connection has ended, but leave so many empty messages out of its traffic."""
    traffic = protocol.traffic
    return Ending(
        protocol.state,
        protocol.wasClean,
        protocol.failedByMe,
        (protocol.localCloseCode, protocol.localCloseReason),
        (protocol.remoteCloseCode, protocol.remoteCloseReason),
        (
            traffic.received_messages - uncounted,
            traffic.received_octets,
            traffic.sent_messages - uncounted,
            traffic.sent_octets,
        ),
    )


@dataclass(frozen=True)
class Outcome:
    """The answer to each piece, how the transport was closed, and the state before and after the client's FIN."""

    answers: list[bytes]
    closed: tuple[bool, bool, bool]
    before: Ending
    after: Ending


def over_a_fake_transport(factory: EchoFactory, way: Way, pieces: list[bytes], is_pinged: bool) -> Outcome:
    """Give the protocol one piece after the other, then the client's FIN. With `is_pinged` keepalive pings before each
    piece."""
    peer = Peer(factory)
    peer.open(way.target, *way.headers)
    answers = []
    for piece in pieces:
        if is_pinged:
            peer.protocol.ping()
        answers.append(peer.send(piece))
    closed = (peer.transport.half_closed, peer.transport.disconnecting, peer.transport.aborted)
    before = ending(peer.protocol)
    peer.protocol.readConnectionLost()
    assert peer.take() == b""
    peer.lose()
    return Outcome(answers, closed, before, ending(peer.protocol))


def echo_nothing(link: Link) -> None:
    link.send(client_frame(TEXT, b""))
    assert link.receive(2) == b"\x81\x00"


def over_a_socket(
    grounds: Grounds, way: Way, pieces: list[bytes], expected: Outcome, is_tls: bool, is_pinged: bool
) -> None:
    """Send one piece after the other, and wait for the expected answer after each. Then send the FIN, and assert that
    nothing else came."""
    bed_ = grounds.bed
    link, uncounted = grounds.link(way, is_tls)
    try:
        right = b""
        # Autobahn inflates each part of a message as it comes, the lane a whole message. The lane may find a fault
        # later.
        may_be_late = bool(way.headers) and expected.before.failed_by_me
        for piece, answer in zip(pieces, expected.answers, strict=True):
            right += answer
            if is_pinged:
                link.protocol.ping()
            link.send(piece)
            if may_be_late:
                bed_.loop.turn(0.002)
                assert right.startswith(link.take())
            else:
                # the loop calls the lambda before the next piece
                bed_.loop.until(lambda: len(link.take()) >= len(right), 5)  # noqa: B023
                assert link.received == right
        link.end()
        assert link.receive_all() == right
        bed_.loop.until(lambda: link.protocol not in bed_.factory.live, 5)
        assert ending(link.protocol, uncounted) == expected.after
    finally:
        link.reset()
        bed_.loop.until(lambda: link.protocol not in bed_.factory.live)


def compare(grounds: Grounds, way: Way, pieces: list[bytes], is_tls: bool = False, is_pinged: bool = False) -> None:
    expected = over_a_fake_transport(grounds.without, way, pieces, is_pinged)
    if is_pinged and way.headers and expected.before.failed_by_me:
        # The socket does not wait for each answer then, so that a ping could overtake one.
        is_pinged = False
        expected = over_a_fake_transport(grounds.without, way, pieces, is_pinged)
    for factory in (grounds.bed.factory, grounds.traced):
        assert over_a_fake_transport(factory, way, pieces, is_pinged) == expected
    over_a_socket(grounds, way, pieces, expected, is_tls, is_pinged)


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(octets), *(place for place in places if place < len(octets))})
    return [octets[start:end] for start, end in pairwise(edges)]


# By hand: each kind of input once, in one piece, cut in the middle, and octet by octet.

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


def with_length_form(octets: bytes, size: int, length: int) -> bytes:
    """Return a frame whose length is not in the shortest form."""
    return octets[:1] + bytes([0x80 | {2: 126, 8: 127}[size]]) + length.to_bytes(size, "big") + octets[2:]


STREAMS = {
    "nothing": b"",
    "ordinary": ORDINARY * 3,
    "empty": client_frame(TEXT) + client_frame(BINARY) + client_frame(TEXT, b"x"),
    "with control frames": ORDINARY
    + client_frame(PING, b"1")
    + ORDINARY
    + client_frame(PONG)
    + client_frame(PING)
    + ORDINARY,
    "fragmented": ORDINARY
    + client_frame(TEXT, b"a\xe2\x82", fin=False)
    + client_frame(PING)
    + client_frame(CONTINUATION, b"\xac")
    + ORDINARY,
    "fragments, too many": client_frame(TEXT, b"a", fin=False)
    + client_frame(CONTINUATION, b"b", fin=False) * 9
    + ORDINARY,
    "fragments, just as many": client_frame(TEXT, b"a", fin=False)
    + client_frame(CONTINUATION, b"b", fin=False) * 6
    + client_frame(CONTINUATION)
    + ORDINARY,
    "fragments, too many behind a ping": client_frame(TEXT, b"a", fin=False)
    + client_frame(CONTINUATION, b"b", fin=False) * 4
    + client_frame(PING)
    + client_frame(CONTINUATION, b"b", fin=False) * 9,
    "fragments of just the limit": (
        client_frame(BINARY, bytes(LIMIT - 9), fin=False) + client_frame(CONTINUATION, bytes(9))
    )
    * 2,
    "fragments above the limit": client_frame(BINARY, bytes(LIMIT - 9), fin=False)
    + client_frame(CONTINUATION, bytes(10))
    + ORDINARY,
    "fragments above the limit behind a ping": client_frame(BINARY, bytes(LIMIT - 9), fin=False)
    + client_frame(PING)
    + client_frame(CONTINUATION, bytes(10)),
    "fragments with faulty text": client_frame(TEXT, b"a\xe2", fin=False)
    + client_frame(CONTINUATION, b"\x82a" + bytes(50))
    + ORDINARY,
    "fragments with text that is cut": client_frame(TEXT, b"a\xe2", fin=False)
    + client_frame(CONTINUATION, b"\x82")
    + ORDINARY,
    "fragments, the last without an end": client_frame(TEXT, MIXED, fin=False)
    + client_frame(CONTINUATION, MIXED * 500)[:-1],
    "a close between fragments": client_frame(TEXT, MIXED, fin=False)
    + client_frame(CLOSE, close_payload(1000))
    + ORDINARY,
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
    f"text with {fault.hex()} at {place} of {size}": ORDINARY
    + client_frame(TEXT, b"a" * place + fault + b"b" * (size - place))
    + ORDINARY
    for fault in GRAMMAR
    for place, size in ((0, 1), (10, 130), (3, 4_090), (4_089, 4_090), (4_050, 5_000), (66_000, 68_000))
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_frame_in_each_place(grounds: Grounds, name: str, place: str) -> None:
    before, behind = PLACES[place]
    control = CONTROLS[name]
    stream, start, end = before + control + behind, len(before), len(before) + len(control)
    for way in (PLAIN, WAYS["mirrored"]):
        compare(grounds, way, [stream])
        compare(grounds, way, cut(stream, [start // 2, start + 1, end - 1, end + 3]), is_pinged=True)
    compare(grounds, PLAIN, cut(stream, [start, start + 1, start + 2, (start + end) // 2, end - 1, end]))
    compare(grounds, PLAIN, cut(stream, [start // 2, start + 1, end]), is_tls=True, is_pinged=True)
    if len(stream) < 500:
        compare(grounds, PLAIN, cut(stream, [*range(len(stream))]))


@pytest.mark.parametrize("is_tls", [False, True])
def test_many_control_frames_in_one_read(grounds: Grounds, is_tls: bool) -> None:
    part = client_frame(PING, b"1") * 300 + client_frame(PONG, b"2") * 300 + ORDINARY + client_frame(PING, bytes(125))
    stream = part + client_frame(TEXT, b"a", fin=False) + part.replace(ORDINARY, b"") + client_frame(CONTINUATION, b"b")
    for way in (PLAIN, WAYS["mirrored"]):
        compare(grounds, way, [stream + client_frame(CLOSE) + part], is_tls)
        compare(grounds, way, cut(stream, [*range(7, len(stream), 1_001)]), is_tls, is_pinged=True)


class Deflater:
    """A client's compressor. It refers to earlier messages unless it was told not to."""

    def __init__(self, keeps_context: bool = True) -> None:
        self._keeps_context = keeps_context
        self._compressor = zlib.compressobj(wbits=-12)

    def octets(self, payload: bytes, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
        """Deflate a message. With Z_FINISH the message has a block that is marked as the last, before the empty block,
        and later messages do not refer to it."""
        if not self._keeps_context or level != 6 or flush == zlib.Z_FINISH:
            self._compressor = zlib.compressobj(level, wbits=-12)
        octets = self._compressor.compress(payload) + self._compressor.flush(flush)
        if flush == zlib.Z_FINISH:
            self._compressor = zlib.compressobj(wbits=-12)
            return octets + b"\0"
        return octets.removesuffix(b"\0\0\xff\xff")

    def frames(self, payload: bytes, opcode: int = TEXT, step: int = 2**20, between: bytes = b"") -> bytes:
        """Return a deflated message in frames of `step` octets, with `between` after each but the last."""
        return in_frames(self.octets(payload), opcode, step, between)


def in_frames(octets: bytes, opcode: int = TEXT, step: int = 2**20, between: bytes = b"") -> bytes:
    """Return deflated octets in frames of `step` octets, with `between` after each but the last."""
    parts = [octets[start : start + step] for start in range(0, len(octets), step)] or [b""]
    return between.join(
        client_frame(CONTINUATION if place else opcode, part, fin=place == len(parts) - 1, rsv=0 if place else 4)
        for place, part in enumerate(parts)
    )


def deflated_streams(keeps_context: bool) -> dict[str, bytes]:
    """Return streams of a client that deflates."""

    def talk(*payloads: bytes, **how: Any) -> bytes:
        client = Deflater(keeps_context)
        return b"".join(client.frames(payload, **how) for payload in payloads)

    text, noise = MIXED * 50, random.Random(1).randbytes(5_000)
    some = talk(text, text)
    hello = Deflater().octets(b"Hello")
    return {
        "of all sizes": talk(b"", b"a", b"", text, text, b"1234567", b"12345678", text * 100, text),
        "binary, of all sizes": talk(b"", b"\xff", noise, noise, noise * 3, noise[:1], opcode=BINARY),
        "among plain ones": some + ORDINARY + talk(b"1") + ORDINARY
        if not keeps_context
        else ORDINARY + some + ORDINARY,
        "in fragments": talk(text, b"", text, step=5),
        "in fragments with pings": talk(text, text, step=30, between=client_frame(PING, b"1")),
        "in too many fragments": some + talk(text, step=1),
        "with a close between": some + client_frame(CLOSE, close_payload(1000)) + some,
        "of just the limit": talk(bytes(LIMIT), random.Random(2).randbytes(LIMIT), opcode=BINARY),
        "above the limit": talk(text) + talk(bytes(LIMIT + 1), opcode=BINARY),
        "above the limit by far": talk(bytes(100 * LIMIT), opcode=BINARY),
        "above what deflate makes of the limit": some + client_frame(BINARY, bytes(1000), rsv=4, claim=LIMIT * 2),
        "without an end": some + talk(text)[:-1],
        "of faulty text": some + talk(text + b"\xff" + text),
        "of text that is cut": some + talk(text + b"\xe2\x82"),
        "no octets": some + client_frame(TEXT, b"", rsv=4) + some,
        "cut short": in_frames(hello[:-2]) + some,
        "of a stored block that is cut short": in_frames(b"\0\5\0\xfa\xffHel") + some,
        "of a stored block that lacks just the end that is added": in_frames(b"\0\4\0\xfb\xff", BINARY),
        "with octets behind its end": in_frames(hello + b"\0\0\0\xff\xff\5"),
        "with its own end": in_frames(hello + b"\0\0\xff\xff\0"),
        "no deflate": some + in_frames(b"\xff\xff\xff") + some,
        "that refers to what was never sent": some + in_frames(Deflater().octets(text) + b"\x02\x13\0\0"),
        "with a last block": in_frames(b"\xf3\x48\xcd\xc9\xc9\7\0\0") * 2
        + in_frames(b"\xf3\x48\xcd\xc9\xc9\7\0")
        + in_frames(b"\3\0"),
        "with a last block in the middle": in_frames(Deflater().octets(text, flush=zlib.Z_FINISH)[:-1] + hello)
        + in_frames(hello),
        "the extension's bit in a continuation": client_frame(TEXT, hello[:2], rsv=4, fin=False)
        + client_frame(CONTINUATION, hello[2:], rsv=4),
        "the extension's bit in a ping": some + client_frame(PING, rsv=4),
    }


DEFLATED = {True: deflated_streams(keeps_context=True), False: deflated_streams(keeps_context=False)}


@pytest.mark.parametrize("way", [name for name, way in WAYS.items() if way.headers])
@pytest.mark.parametrize("name", DEFLATED[True])
def test_chosen_deflated_streams(grounds: Grounds, name: str, way: str) -> None:
    stream = DEFLATED["without context" not in way][name]
    for pieces in (
        [stream],
        cut(stream, [len(stream) // 2]),
        cut(stream, [*range(30), *range(len(stream) - 30, len(stream))]),
    ):
        compare(grounds, WAYS[way], pieces)
    compare(grounds, WAYS[way], cut(stream, [len(stream) // 3, len(stream) // 2]), is_tls=True)
    if len(stream) < 300:
        compare(grounds, WAYS[way], cut(stream, [*range(300)]))


@pytest.mark.parametrize("way", [PLAIN, WAYS["mirrored"]], ids=["plain", "mirrored"])
@pytest.mark.parametrize("name", STREAMS)
def test_chosen_streams(grounds: Grounds, name: str, way: Way) -> None:
    stream = STREAMS[name]
    compare(grounds, way, [stream])
    compare(grounds, way, cut(stream, [len(stream) // 2]))
    compare(grounds, way, [stream], is_tls=True)
    compare(grounds, way, cut(stream, [len(stream) // 3, len(stream) // 2]), is_tls=True)
    compare(grounds, way, cut(stream, [*range(30), *range(len(stream) - 30, len(stream))]))
    if len(stream) < 300:
        compare(grounds, way, cut(stream, [*range(300)]))


# Drawn at random.

small = st.one_of(st.text(max_size=130).map(str.encode), st.binary(max_size=130), st.sampled_from(GRAMMAR))


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Draw a payload: mostly small ones, and some about as long as the limit or the buffers of pump and reactor."""
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
    return client_frame(
        draw(st.sampled_from([TEXT, BINARY])), draw(payloads()), mask=draw(st.binary(min_size=4, max_size=4))
    )


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """Draw a frame of any kind, valid or not, whose header may have a wrong length."""
    payload = draw(payloads())
    if draw(st.booleans()):
        payload = deflated_octets(payload, zlib.compressobj(wbits=-12))
    return client_frame(
        draw(st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 3, 11])),
        draw(
            st.sampled_from([payload, payload[:125], close_payload(draw(st.integers(999, 5000)), "bye") + payload[:20]])
        ),
        fin=draw(st.booleans()),
        rsv=draw(st.sampled_from([0, 0, 0, 4, 1])),
        mask=draw(st.sampled_from([b"\x01\x02\x03\x04", b"\x81\x82\x83\x84", bytes(4), None])),
        claim=draw(st.sampled_from([None, None, None, 0, 125, 4_000, LIMIT, LIMIT + 1, 2**63 - 1, 2**63])),
    )


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Draw a message in two to five frames, with control frames between them."""
    payload, opcode, rsv = draw(payloads()), draw(st.sampled_from([TEXT, BINARY])), draw(st.sampled_from([0, 4]))
    parts = cut(
        deflated_octets(payload, zlib.compressobj(wbits=-12)) if rsv else payload,
        draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=4)),
    ) or [b""]
    frames = [
        client_frame(CONTINUATION if place else opcode, part, fin=place == len(parts) - 1, rsv=0 if place else rsv)
        for place, part in enumerate(parts)
    ]
    return draw(st.sampled_from([b"", client_frame(PING, b"between"), client_frame(PONG)])).join(frames)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw a stream: mostly ordinary, sometimes cut short or with some octets changed."""
    frames = st.one_of(
        ordinary(),
        ordinary(),
        ordinary(),
        fragmented(),
        odd(),
        st.builds(client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    )
    octets = bytearray(
        b"".join(draw(st.lists(frames, max_size=8))) + draw(st.one_of(st.just(b""), st.binary(max_size=20)))
    )
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        if octets:
            octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    return bytes(octets[: draw(st.one_of(st.just(len(octets)), st.integers(0, len(octets))))])


@settings(max_examples=400)
@given(data=st.data(), way=st.sampled_from([PLAIN, *WAYS.values()]), stream=streams())
def test_random_streams_cut_anywhere(grounds: Grounds, data: st.DataObject, way: Way, stream: bytes) -> None:
    places = st.one_of(st.integers(0, max(0, len(stream) - 1)), st.integers(0, 40))
    compare(
        grounds,
        way,
        cut(stream, data.draw(st.lists(places, max_size=12))),
        data.draw(st.booleans()),
        data.draw(st.booleans()),
    )


@st.composite
def deflated_talk(draw: st.DrawFn, keeps_context: bool) -> bytes:
    """Draw a stream of deflated messages with plain messages and control frames between them; some are damaged."""
    client, frames = Deflater(keeps_context), []
    for _ in range(draw(st.integers(1, 8))):
        payload, opcode = draw(payloads()), draw(st.sampled_from([TEXT, BINARY]))
        octets = client.octets(
            payload,
            draw(st.sampled_from([6, 6, 6, 0, 1, 9])),
            draw(st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH])),
        )
        if not draw(st.integers(0, 9)):
            octets = octets[: draw(st.integers(0, len(octets)))] + draw(st.binary(max_size=5))
        step = draw(st.sampled_from([2**20, 2**20, len(octets) // 2 + 1, len(octets) // 6 + 1]))
        frames.append(in_frames(octets, opcode, step, draw(st.sampled_from([b"", client_frame(PING, b"between")]))))
        frames.append(draw(st.sampled_from([b"", b"", ORDINARY, client_frame(PONG)])))
    return b"".join(frames)


@settings(max_examples=300)
@given(data=st.data(), way=st.sampled_from([name for name, way in WAYS.items() if way.headers]))
def test_random_deflated_streams_cut_anywhere(grounds: Grounds, data: st.DataObject, way: str) -> None:
    stream = data.draw(deflated_talk(keeps_context="without context" not in way))
    places = st.one_of(st.integers(0, max(0, len(stream) - 1)), st.integers(0, 40))
    compare(
        grounds,
        WAYS[way],
        cut(stream, data.draw(st.lists(places, max_size=12))),
        data.draw(st.booleans()),
        data.draw(st.booleans()),
    )
