"""What the budget and keepalive ask of a connection."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from echod.core.counts import Outcome
from echod.core.deadlines import TICK
from tests.fakes import Peer
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    handshake,
    split,
)
from tests.websocket.peers import closed_with, opened


def test_who_holds_more_than_a_share_waits_and_is_told_in_the_end(clock: Clock) -> None:
    peer = opened(clock, max_buffered=100_000, full_timeout=10, ping_interval=0)
    hog, modest = Peer(peer.protocol.factory), Peer(peer.protocol.factory)
    hog.open()
    modest.open()
    peer.send(client_frame(BINARY, bytes(49_000))[:-1])
    hog.send(client_frame(BINARY, bytes(49_000))[:-1])
    # One of them may go on, to make room; when it does nothing, it is the other's turn.
    assert {peer.transport.producerState, hog.transport.producerState} == {"paused", "producing"}
    assert modest.frames(client_frame(TEXT, b"x")) == [Frame(TEXT, b"x")]
    clock.pump([TICK] * 30)
    assert peer.transport.producerState == hog.transport.producerState == "paused"
    clock.pump([TICK] * 65)
    assert hog.take() == peer.take() == b""
    clock.pump([TICK] * 40)
    assert closed_with(split(hog.take())[0]) == closed_with(split(peer.take())[0]) == 1013
    assert hog.protocol.held == 0


def test_whose_turn_it_is_gets_its_message_through(clock: Clock) -> None:
    peer = opened(clock, max_buffered=100_000)
    hog = Peer(peer.protocol.factory)
    hog.open()
    message = client_frame(BINARY, bytes(49_000))
    hog.send(client_frame(BINARY, bytes(20_000), fin=False) + client_frame(CONTINUATION, bytes(20_000), fin=False))
    peer.send(message[:-10])
    assert (peer.transport.producerState, hog.transport.producerState) == ("producing", "paused")
    assert peer.frames(message[-10:]) == [Frame(BINARY, bytes(49_000))]


def test_who_is_not_open_yet_has_no_turn(clock: Clock) -> None:
    peer = opened(clock, max_buffered=100_000)
    early = Peer(peer.protocol.factory)
    early.send(handshake("/?handshake-delay=10s") + bytes(60_000))
    message = client_frame(BINARY, bytes(49_000))
    peer.send(message[:-1])
    clock.pump([TICK] * 10)
    assert peer.protocol.factory.budget.held > 100_000
    assert peer.frames(message[-1:]) == [Frame(BINARY, bytes(49_000))]


def test_who_waits_for_room_is_read_again_for_the_reply_to_our_close_frame(clock: Clock) -> None:
    peers = [opened(clock, max_buffered=100_000, drain_timeout=10, ping_interval=0)]
    peers.append(Peer(peers[0].protocol.factory))
    peers[1].open()
    for peer in peers:
        peer.send(client_frame(BINARY, bytes(49_000))[:-1])
    assert any(peer.protocol.is_waiting for peer in peers)
    drained = peers[0].protocol.factory.drain()
    clock.pump([TICK] * 55)
    for peer in peers:
        assert closed_with(split(peer.take())[0]) == 1001
        assert peer.transport.producerState == "producing"
        assert peer.protocol.count() == 0, "of what will have no echo nothing is kept"
        peer.send(client_frame(BINARY, bytes(49_000))[-1:] + client_frame(CLOSE, close_payload(1001)))
        assert peer.protocol.outcome == Outcome.CLEAN
        peer.lose()
    assert drained.called


def test_who_is_closed_by_what_its_lease_gives_back_waits_for_nothing(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer.protocol, "take_back", lambda: peer.protocol.fail(1002, "not a frame"))
    peer.protocol.wait_for_room()
    assert peer.protocol not in peer.protocol.factory.waiting


def test_who_waits_and_takes_its_answers_may_wait_on(clock: Clock) -> None:
    peer = opened(clock, full_timeout=10, ping_interval=0)
    peer.protocol.count_pending = iter(range(1000, 0, -1)).__next__  # type: ignore[method-assign]
    peer.protocol.wait_for_room()
    clock.pump([TICK] * 250)
    assert peer.take() == b""
    peer.protocol.go_on(1000)
    assert not peer.protocol.is_waiting
    assert peer.transport.producerState == "producing"


def test_silence_is_pinged_and_then_reset(clock: Clock) -> None:
    peer = opened(clock, ping_interval=4, ping_timeout=2)
    clock.pump([TICK] * 45)
    assert split(peer.take())[0] == [Frame(PING, b"")]
    peer.send(client_frame(PONG))
    clock.pump([TICK] * 35)
    assert not peer.transport.aborted
    clock.pump([TICK] * 40)
    assert peer.transport.aborted


def test_a_close_frame_ends_the_wait_for_room_of_a_connection_whose_close_has_begun(peer: Peer) -> None:
    """This is so when the peer has sent its FIN and has not taken its answers yet."""
    peer.protocol.factory.start_close_deadline(peer.protocol)
    peer.protocol.wait_for_room()
    assert peer.protocol in peer.protocol.factory.waiting
    peer.protocol.go_away(at_once=True)
    assert peer.protocol not in peer.protocol.factory.waiting
