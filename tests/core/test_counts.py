"""The counts: the places of sizes, the bounded number of kinds, and the name of each way in which a connection ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from echod.core.counts import KINDS, Closer, Counts, Histogram, Outcome, Sum, Sums, Traffic, close_label
from echod.http.answer import Answer
from echod.http.upgrade import HandshakeGuard
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, CLOSE, CONTINUATION, TEXT, client_frame, close_payload, handshake
from tests.loop import needed_native


@pytest.mark.parametrize(
    ("size", "place"),
    [(0, 63), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11), (2**24, 24), (2**24 + 1, 25)],
)
def test_a_size_has_the_same_place_here_and_in_c(size: int, place: int) -> None:
    counted = Sum()
    counted.add(size)
    assert counted.sizes.index(1) == place
    assert (counted.messages, counted.octets) == (1, size)
    native: Any = needed_native()
    sums = native.ffi.new("echod_sums *")
    native.lib.echod_large_sum(native.ffi.new("echod_large *", {"opcode": 2, "length": size}), sums)
    assert Sums.of_native(sums).binary.sizes == counted.sizes
    assert Sums.of_native(sums).text.messages == 0


def test_a_histogram_counts_by_upper_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5, 100.0):
        histogram.observe(value)
    assert (histogram.places, histogram.total) == ([2, 2, 2], 107.5)


def test_a_copy_of_traffic_is_apart() -> None:
    traffic = Traffic()
    traffic.echoed(2, 10)
    copy = traffic.copy()
    copy.echoed(1, 1)
    assert (traffic.received_messages, traffic.received_octets, traffic.sent_messages, traffic.sent_octets) == (
        2,
        10,
        2,
        10,
    )
    assert (copy.received_messages, copy.received_octets, copy.sent_messages, copy.sent_octets) == (3, 11, 3, 11)


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (1000, "1000"),
        (1015, "1015"),
        (1016, "other"),
        (2999, "other"),
        (3000, "3xxx"),
        (4999, "4xxx"),
        (999, "other"),
        (5000, "other"),
    ],
)
def test_close_codes_are_few(code: int, label: str) -> None:
    assert close_label(code) == label


def test_refusals_and_faults_are_few() -> None:
    counts = Counts()
    counts.refuse(403, "why")
    counts.refuse(403, "why")
    counts.refuse(0, "does not speak HTTP")
    counts.refuse(599, "asked for")
    assert counts.refusals == {("403", "why"): 2, ("none", "does not speak HTTP"): 1, ("other", "asked for"): 1}
    for status in range(300, 600):
        counts.refuse(status, "asked for")
    counts.refuse(429, "too many")
    assert counts.refusals["429", "too many"] == 1
    assert len(counts.refusals) < KINDS / 4
    for i in range(2 * KINDS):
        counts.fault(str(i))
    counts.fault("0")
    assert len(counts.faults) == KINDS + 1
    assert (counts.faults["0"], counts.faults["other"]) == (2, KINDS)


# How a connection ends.


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> EchoFactory:
    return make_factory(clock, drain_timeout=60)


def opened(factory: EchoFactory) -> Peer:
    peer = Peer(factory)
    peer.open()
    return peer


def ends(factory: EchoFactory) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    return dict(factory.counts.outcomes), dict(factory.counts.closes)


@pytest.mark.parametrize(
    ("payload", "label"),
    [(close_payload(1000), "1000"), (close_payload(3210), "3xxx"), (close_payload(4000), "4xxx"), (b"", "1005")],
)
def test_closed_by_the_client(factory: EchoFactory, clock: Clock, payload: bytes, label: str) -> None:
    peer = opened(factory)
    clock.advance(5)
    peer.send(client_frame(CLOSE, payload))
    peer.lose()
    assert ends(factory) == ({Outcome.CLEAN: 1}, {(label, Closer.CLIENT): 1})
    assert factory.counts.durations.total == 5


def test_failed(factory: EchoFactory, clock: Clock) -> None:
    peer = opened(factory)
    peer.send(client_frame(CONTINUATION))
    clock.advance(100)
    assert peer.transport.aborted, "the client doesn't take it"
    peer.lose()
    assert ends(factory) == ({Outcome.FAILED: 1}, {("1002", Closer.SERVER): 1})


def test_an_invalid_close_code_is_a_violation(factory: EchoFactory) -> None:
    peer = opened(factory)
    peer.send(client_frame(CLOSE, close_payload(2000)))
    peer.lose()
    assert ends(factory) == ({Outcome.FAILED: 1}, {("1002", Closer.SERVER): 1})


def test_drained(factory: EchoFactory) -> None:
    polite, rude = opened(factory), opened(factory)
    factory.drain()
    polite.send(client_frame(CLOSE, close_payload(1001)))
    polite.lose()
    rude.lose()
    assert ends(factory) == ({Outcome.CLEAN: 1, Outcome.LOST: 1}, {("1001", Closer.SERVER): 2})


def test_lost(factory: EchoFactory) -> None:
    opened(factory).lose()
    Peer(factory).lose()
    assert ends(factory) == ({Outcome.LOST: 2}, {("1006", Closer.CLIENT): 1})
    assert sum(factory.counts.durations.places) == 1, "the other was never open"


def test_timed_out(factory: EchoFactory, clock: Clock) -> None:
    silent, dead, late = Peer(factory), opened(factory), opened(factory)
    late.send(client_frame(CLOSE, close_payload(1000)))
    clock.pump([0.1] * 60)
    assert (silent.transport.aborted, late.transport.aborted) == (True, True)
    clock.pump([1] * 60)
    assert dead.transport.aborted
    for peer in (silent, dead, late):
        peer.lose()
    assert ends(factory) == (
        {Outcome.TIMEOUT: 2, Outcome.CLEAN: 1},
        {("1006", Closer.SERVER): 1, ("1000", Closer.CLIENT): 1},
    )


def test_refused(clock: Clock) -> None:
    factory = make_factory(clock, max_connections=1, reserved_descriptors=2)
    first, second, third = (Peer(factory) for _ in range(3))
    first.send(b"POST / HTTP/1.1\r\n\r\n")
    second.send(handshake())
    for peer in (first, second, third):
        peer.lose()
    odd = Peer(factory)
    odd.send(b"\x16\x03")
    odd.lose()
    assert ends(factory) == ({Outcome.REFUSED: 4}, {})
    assert factory.counts.refusals == {
        ("405", "Only GET and HEAD are answered here"): 1,
        ("503", "Too many connections"): 1,
        ("none", "Too many connections"): 1,
        ("none", "does not speak HTTP"): 1,
    }


def test_ended_as_the_url_asked(factory: EchoFactory, clock: Clock) -> None:
    for query in ("abort", "close=1006"):
        peer = Peer(factory)
        peer.open(f"/?{query}&after=1")
        peer.send(client_frame(TEXT, b"x"))
        clock.advance(0.1)
        peer.lose()
    assert ends(factory) == ({Outcome.FAULT: 2}, {("1006", Closer.SERVER): 2})
    assert factory.counts.faults == {"abort": 1, "after": 2, "close": 1}
    assert factory.counts.sent.text.messages == 2


def test_plain_http(clock: Clock) -> None:
    factory = make_factory(clock)
    factory.pages = lambda _: Answer(200, [])
    factory.guard = HandshakeGuard(factory.settings, has_pages=True)
    peer = Peer(factory)
    assert peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    peer.lose()
    assert ends(factory) == ({Outcome.PAGE: 1}, {})
    assert sum(factory.counts.durations.places) == 0


def test_since_when_a_delayed_handshake_is_over(factory: EchoFactory, clock: Clock) -> None:
    peer = Peer(factory)
    peer.send(handshake("/?handshake-delay=2s&stall&after=1"))
    clock.pump([0.5] * 4)
    assert peer.take().startswith(b"HTTP/1.1 101 ")
    assert (peer.protocol.since, peer.protocol.is_backpressured) == (2, False)
    peer.send(client_frame(TEXT, b"x"))
    assert peer.protocol.is_backpressured
    peer.lose()


def test_an_answer_of_too_many_frames_is_none_that_was_sent() -> None:
    factory = make_factory(max_fragments=3)
    peer = Peer(factory)
    peer.open("/?fragment=1")
    peer.send(client_frame(TEXT, b"abc"))
    assert factory.counts.sent.text.messages == 1
    peer.send(client_frame(TEXT, b"abcd"))
    assert (factory.counts.received.text.messages, factory.counts.sent.text.messages) == (2, 1)


# Messages through Autobahn. Those of the express lane are in tests/lane.


def test_messages_are_counted_each_way() -> None:
    factory = make_factory()
    peer = Peer(factory)
    peer.open("/json")
    peer.send(
        client_frame(TEXT, b'{ "a": [1,  2] }') + client_frame(TEXT, b"{", fin=False) + client_frame(CONTINUATION, b"}")
    )
    assert factory.counts.received.text.sizes[4] == factory.counts.received.text.sizes[1] == 1
    assert (factory.counts.received.text.octets, factory.counts.sent.text.octets) == (18, 13)
    traffic = peer.protocol.traffic
    assert (traffic.received_messages, traffic.received_octets, traffic.sent_messages, traffic.sent_octets) == (
        2,
        18,
        2,
        13,
    )
    peer.send(client_frame(BINARY, b"x"))
    assert (factory.counts.received.binary.messages, factory.counts.sent.binary.messages) == (1, 0), (
        "binary is not JSON"
    )
    assert peer.protocol.traffic.received_messages == 3


def test_what_is_idle_carries_no_counts() -> None:
    peer = opened(make_factory())
    assert not {"path", "_traffic", "_outcome"} & vars(peer.protocol).keys()
    assert peer.protocol.since is peer.protocol.seen_at, "one number, not two"
    assert (peer.protocol.subprotocol, peer.protocol.extensions, peer.protocol.served_by) == (None, [], "autobahn")


def test_a_compressed_message_counts_as_what_it_says() -> None:
    factory = make_factory()
    peer = Peer(factory)
    peer.open("/", "Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: chat")
    assert peer.protocol.extensions == ["permessage-deflate"]
    assert peer.protocol.subprotocol == "chat"
    peer.send(client_frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4))  # RFC 7692 section 7.2.3.1: "Hello"
    assert factory.counts.received.text.octets == factory.counts.sent.text.octets == 5
