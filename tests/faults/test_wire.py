"""Bad delivery: pieces and pauses, a cut anywhere, slow reading; what waits is counted, and a close waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from echod.core.counts import Outcome
from echod.core.quantities import KIB, MIB
from echod.faults.wire import FULL
from echod.upstream.carriers import Carrier
from tests.fakes import Peer, assert_freed_at_once, make_factory
from tests.faults.peers import opened
from tests.frames import BINARY, CLOSE, PING, TEXT, client_frame, close_payload, handshake, server_frame
from tests.loop import bed

PAUSE = 0.001

GOODBYE = client_frame(CLOSE, close_payload(1000))


def begun(clock: Clock, query: str, **settings: Any) -> Peer:
    """Return a peer that has sent its handshake."""
    peer = Peer(make_factory(clock, ping_interval=0, **settings))
    peer.protocol.dataReceived(handshake(f"/?{query}"))
    return peer


def pieces(peer: Peer, clock: Clock, seconds: float, count: int) -> list[bytes]:
    """Return what comes after so many waits, each by itself."""
    found = [peer.take()]
    for _ in range(count):
        clock.advance(seconds)
        found.append(peer.take())
    return found


def test_slices(clock: Clock) -> None:
    peer = begun(clock, "slice=50")
    first, *others = pieces(peer, clock, PAUSE, 3)
    assert [len(piece) for piece in (first, *others)] == [50, 50, 29, 0]
    peer.protocol.dataReceived(client_frame(BINARY, bytes(100)))
    assert [len(piece) for piece in pieces(peer, clock, PAUSE, 3)] == [50, 50, 2, 0]


def test_a_rate(clock: Clock) -> None:
    peer = begun(clock, "rate=200")
    assert [len(piece) for piece in pieces(peer, clock, 0.05, 13)] == [10] * 12 + [9, 0]
    peer = begun(clock, "rate=1")
    assert [len(piece) for piece in pieces(peer, clock, 1, 2)] == [1, 1, 1]


def test_a_piece_at_a_high_rate_is_not_large(clock: Clock) -> None:
    """To copy many MiB at once takes long."""
    peer = begun(clock, "rate=1GiB")
    peer.take()
    clock.advance(1)
    peer.protocol.dataReceived(client_frame(BINARY, bytes(3 * MIB)))
    assert [len(piece) for piece in pieces(peer, clock, 1 / KIB, 3)] == [MIB, MIB, MIB, 10]


def test_slices_at_a_rate(clock: Clock) -> None:
    peer = begun(clock, "rate=100&slice=50")
    assert [len(piece) for piece in pieces(peer, clock, 0.25, 5)] == [50, 0, 50, 0, 29, 0]


def test_a_close_waits_for_what_waits(clock: Clock) -> None:
    peer = begun(clock, "rate=1000")
    clock.pump([0.05] * 5)
    peer.take()
    peer.protocol.dataReceived(client_frame(BINARY, bytes(200)) + GOODBYE)
    assert not peer.transport.disconnecting
    clock.pump([0.05] * 6)
    assert peer.take() == server_frame(BINARY, bytes(200)) + server_frame(CLOSE, close_payload(1000))
    assert peer.transport.disconnecting
    assert peer.protocol.outcome is Outcome.CLEAN


def test_a_refusal_is_slow_too(clock: Clock) -> None:
    peer = begun(clock, "slice=100&status=503")
    assert not peer.transport.half_closed
    clock.pump([PAUSE] * 5)
    assert peer.take().endswith(b"The URL asks for this status.\n")
    assert peer.transport.half_closed


def test_what_waits_counts_and_stops_the_reading(clock: Clock) -> None:
    peer = begun(clock, "rate=1MiB")
    clock.advance(0.05)
    peer.take()
    payload = bytes(4 * FULL)
    peer.protocol.dataReceived(client_frame(BINARY, payload))
    clock.advance(0)
    assert peer.protocol.is_backlogged
    assert peer.protocol.count() > FULL
    assert peer.protocol.count_pending() > FULL
    clock.pump([0.05] * 6)
    assert peer.take() == server_frame(BINARY, payload)
    assert not peer.protocol.is_backlogged
    assert peer.protocol.count() == 0


def test_the_carrier_below_can_be_full(clock: Clock) -> None:
    peer = begun(clock, "slice=50")
    peer.protocol.carrier.pauseProducing()  # type: ignore[attr-defined]
    assert peer.protocol.is_backlogged
    assert len(peer.take()) == 50
    clock.pump([PAUSE] * 3)
    assert peer.take() == b""
    peer.protocol.carrier.resumeProducing()  # type: ignore[attr-defined]
    assert len(peer.take()) == 50
    peer.protocol.carrier.pauseProducing()  # type: ignore[attr-defined]
    peer.protocol.carrier.resumeProducing()  # type: ignore[attr-defined]
    peer.protocol.carrier.stopProducing()  # type: ignore[attr-defined]
    clock.pump([PAUSE] * 2)
    assert len(peer.take()) == 29
    assert not peer.protocol.is_backlogged
    peer.protocol.unregisterProducer()
    peer.protocol.carrier.pauseProducing()
    assert not peer.protocol.is_backlogged


def test_a_close_that_takes_too_long_is_a_reset(clock: Clock) -> None:
    peer = begun(clock, "rate=1", close_timeout=2, max_close_time=4)
    peer.protocol.dataReceived(GOODBYE)
    clock.pump([0.5] * 12)
    assert peer.transport.aborted
    assert peer.protocol.count() == 0


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("more", ["", "&slice=2", "&rate=1MiB"])
def test_a_cut_anywhere(clock: Clock, count: int, more: str) -> None:
    peer = begun(clock, f"cut={count}{more}")
    peer.protocol.dataReceived(client_frame(TEXT, b"tea") + client_frame(PING))
    clock.pump([0.1] * 90)
    octets = peer.take().partition(b"\r\n\r\n")[2]
    assert octets == (server_frame(TEXT, b"tea") + b"\x8a\x00")[:count]
    assert peer.transport.half_closed == (count < 8)
    if count < 7:
        peer.protocol.dataReceived(client_frame(TEXT, b"more"))
        assert peer.take() == b""
        assert peer.protocol.outcome is Outcome.FAULT


def test_a_cut_within_the_reply_to_a_close_frame(clock: Clock) -> None:
    peer = begun(clock, "cut=2")
    peer.take()
    peer.protocol.dataReceived(GOODBYE)
    clock.advance(0)
    assert peer.take() == b"\x88\x02"
    assert peer.transport.disconnecting


@pytest.mark.parametrize("more", ["", "&abort"])
def test_a_cut_does_not_shorten_a_refusal(clock: Clock, more: str) -> None:
    peer = begun(clock, f"cut=0&status=404{more}")
    clock.advance(0)
    assert peer.take().endswith(b"The URL asks for this status.\n")
    assert peer.transport.half_closed
    assert not peer.transport.aborted


def test_slow_reading(clock: Clock) -> None:
    peer = opened(clock, "read-rate=100")
    clock.advance(3)  # for the bytes of the handshake
    assert peer.transport.producerState == "producing"
    peer.send(client_frame(BINARY, bytes(94)))
    assert peer.transport.producerState == "paused"
    assert peer.protocol.is_backpressured
    # What TLS had read already.
    peer.send(client_frame(BINARY, bytes(94)))
    clock.advance(0.9)
    assert peer.transport.producerState == "paused"
    clock.advance(0.2)
    assert peer.transport.producerState == "producing"
    peer.send(GOODBYE)
    assert peer.transport.disconnecting


def test_a_read_is_never_larger_than_usual(clock: Clock) -> None:
    peer = opened(clock, "read-rate=1GiB")
    peer.send(client_frame(BINARY, bytes(1000)))
    clock.advance(0.1)
    assert peer.transport.producerState == "producing"


def test_a_pause_in_reading_is_never_long(clock: Clock) -> None:
    peer = opened(clock, "read-rate=1")
    peer.send(client_frame(BINARY, bytes(60_000)))
    clock.advance(10)
    assert peer.transport.producerState == "producing"


def test_slow_reading_of_little_at_a_time() -> None:
    with bed(None) as made:
        link = made.link(target="/?read-rate=200")
        link.send(client_frame(BINARY, bytes(100)))
        for _ in range(30):
            made.loop.advance(0.05)
            made.loop.turn(0.01)
        assert link.receive(102) == server_frame(BINARY, bytes(100))
        assert link.protocol.carrier.descriptor is None


@pytest.mark.parametrize("query", ["slice=1", "rate=1", "cut=0", "cut=9", "read-rate=1", "slice=1&cut=1&abort"])
def test_a_lost_connection_is_freed_at_once(clock: Clock, query: str) -> None:
    assert_freed_at_once(clock, lambda peer: peer.send(handshake(f"/?{query}") + client_frame(TEXT, b"a")))


class Below(Carrier):
    """Notes what it is asked."""

    def __init__(self) -> None:
        super().__init__(())
        self.asked: list[str] = []

    def give_back_sent(self) -> None:
        self.asked.append("give_back_sent")

    def renew_buffers(self) -> bool:
        self.asked.append("renew_buffers")
        return False


def test_memory_is_the_carriers_below(clock: Clock) -> None:
    wire, below = begun(clock, "slice=50").protocol.carrier, Below()
    wire._inner = below  # type: ignore[attr-defined]
    wire.give_back_sent()
    assert not wire.renew_buffers()
    assert below.asked == ["give_back_sent", "renew_buffers"]
