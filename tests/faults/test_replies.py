"""Pongs and the reply to a Close frame: later, or not at all, and never for ever."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from echod.core.counts import Outcome
from echod.faults.replies import OVERHEAD
from tests.fakes import assert_freed_at_once
from tests.faults.peers import come, opened
from tests.frames import CLOSE, PING, PONG, TEXT, Frame, client_frame, close_payload, handshake

GOODBYE = client_frame(CLOSE, close_payload(1000, "bye"))

REPLY = Frame(CLOSE, close_payload(1000, "bye"))


def ping(payload: bytes) -> bytes:
    return client_frame(PING, payload)


def test_no_pong(clock: Clock) -> None:
    peer = opened(clock, "pong=no")
    assert peer.frames(ping(b"a") + client_frame(TEXT, b"b")) == [Frame(TEXT, b"b")]


def test_late_pongs_come_in_order(clock: Clock) -> None:
    peer = opened(clock, "pong=1s")
    peer.send(ping(b"a"))
    clock.advance(0.5)
    peer.send(ping(b"b") + ping(b""))
    assert peer.protocol.account.replies == 3 * OVERHEAD + 2
    clock.advance(0.5)
    assert come(peer) == [Frame(PONG, b"a")]
    clock.advance(0.5)
    assert come(peer) == [Frame(PONG, b"b"), Frame(PONG, b"")]
    assert peer.protocol.count() == 0


def test_of_too_many_pongs_the_latest_are_sent(clock: Clock) -> None:
    peer = opened(clock, "pong=1s", max_delayed=2 * OVERHEAD + 2)
    peer.send(ping(b"a") + ping(b"b") + ping(b"c"))
    clock.advance(1)
    assert come(peer) == [Frame(PONG, b"b"), Frame(PONG, b"c")]


def test_a_late_reply_to_a_close_frame(clock: Clock) -> None:
    peer = opened(clock, "close-reply=8s&delay=1s", close_timeout=2)
    assert peer.send(client_frame(TEXT, b"a") + GOODBYE) == b""
    # Whatever comes behind it is not answered.
    assert peer.send(client_frame(TEXT, b"b") + ping(b"c") + GOODBYE) == b""
    clock.pump([1] * 7)
    assert come(peer) == [Frame(TEXT, b"a")]
    clock.advance(1)
    assert come(peer) == [REPLY]
    assert peer.transport.disconnecting
    assert peer.protocol.outcome is Outcome.CLEAN


def test_a_late_reply_to_a_wrong_close_frame(clock: Clock) -> None:
    peer = opened(clock, "close-reply=1s")
    peer.send(client_frame(CLOSE, close_payload(999)))
    clock.advance(1)
    assert come(peer)[0].payload[:2] == (1002).to_bytes(2)


def test_no_reply_to_a_close_frame_has_a_deadline(clock: Clock) -> None:
    peer = opened(clock, "close-reply=no", max_stall=30)
    peer.send(GOODBYE)
    clock.pump([1] * 29)
    assert not peer.transport.aborted
    clock.pump([1] * 2)
    assert peer.transport.aborted
    assert peer.take() == b""


def test_a_client_that_ends_tcp_instead_is_let_go(clock: Clock) -> None:
    peer = opened(clock, "close-reply=no")
    peer.send(GOODBYE)
    peer.protocol.readConnectionLost()
    assert peer.transport.disconnecting


@pytest.mark.parametrize("query", ["close-reply=no", "close-reply=1m"])
def test_a_drain_does_not_wait(clock: Clock, query: str) -> None:
    peer = opened(clock, query)
    peer.send(GOODBYE)
    peer.protocol.factory.drain()
    assert come(peer) == [Frame(CLOSE, close_payload(1001, "going away"))]
    assert peer.transport.half_closed
    clock.advance(60)
    peer.lose()


def test_our_own_close_is_answered_as_ever(clock: Clock) -> None:
    peer = opened(clock, "close-reply=no&close=4000&after=1")
    assert [frame.opcode for frame in peer.frames(client_frame(TEXT, b"a"))] == [TEXT, CLOSE]
    peer.send(client_frame(CLOSE, close_payload(4000)))
    assert peer.transport.disconnecting


@pytest.mark.parametrize("query", ["pong=1s", "close-reply=1s", "close-reply=no"])
def test_a_lost_connection_is_freed_at_once(clock: Clock, query: str) -> None:
    assert_freed_at_once(clock, lambda peer: peer.send(handshake(f"/?{query}") + ping(b"a") + GOODBYE))
