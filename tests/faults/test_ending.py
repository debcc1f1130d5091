"""Wrong frames after so many echoes, and with an end. tests/faults/test_stages.py has the ends alone."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from echod.core.counts import Outcome
from tests.fakes import Peer, make_factory
from tests.faults.peers import come, opened
from tests.frames import CLOSE, DEFLATE, TEXT, Frame, client_frame, close_payload, deflated_octets, handshake


def texts(*payloads: str) -> bytes:
    return b"".join(client_frame(TEXT, payload.encode()) for payload in payloads)


def test_a_wrong_frame_comes_once_and_echoes_go_on(clock: Clock) -> None:
    peer = opened(clock, "raw=8a00&after=1")
    assert peer.send(texts("a", "b", "c")) == b"\x81\x01a\x8a\x00\x81\x01b\x81\x01c"


def test_bytes_that_are_no_frame(clock: Clock) -> None:
    assert opened(clock, "raw=ff").take() == b"\xff"


def test_all_come_before_the_end(clock: Clock) -> None:
    peer = opened(clock, "raw=8a00&bad=opcode-3&close=4000&after=1")
    assert peer.send(texts("a", "b")) == b"\x81\x01a\x8a\x00\x83\x00\x88\x02\x0f\xa0"


def test_behind_a_close_frame(clock: Clock) -> None:
    peer = opened(clock, "bad=behind-close&after=1")
    assert peer.send(texts("a", "b")) == b"\x81\x01a\x88\x02\x03\xe8\x81\x0cHello World!"
    assert peer.send(client_frame(CLOSE, close_payload(1000))) == b""
    assert peer.transport.disconnecting
    assert peer.protocol.outcome is Outcome.CLEAN


def test_what_is_held_is_dropped_behind_a_close_frame(clock: Clock) -> None:
    peer = opened(clock, "bad=behind-close&after=1&delay=1s")
    peer.send(texts("a"))
    clock.advance(0.5)
    peer.send(texts("b"))
    clock.advance(0.5)
    assert peer.take() == b"\x81\x01a\x88\x02\x03\xe8\x81\x0cHello World!"


def test_nothing_follows_an_unfinished_message_but_the_close(clock: Clock) -> None:
    peer = opened(clock, "bad=unfinished&delay=1s&after=0")
    assert peer.send(texts("a")) == b"\x01\x0aunfinished"
    clock.advance(2)
    assert come(peer) == []
    assert peer.frames(client_frame(CLOSE, close_payload(1000))) == [Frame(CLOSE, close_payload(1000))]


def test_what_is_held_is_dropped_when_no_echo_can_follow(clock: Clock) -> None:
    peer = opened(clock, "bad=close-999&delay=1s&after=1")
    assert peer.send(texts("a", "b")) == b""
    clock.advance(1)
    assert peer.take() == b"\x81\x01a\x88\x02\x03\xe7"
    assert peer.protocol.account.delayed == 0


def test_an_answer_does_not_refer_to_what_the_client_has_not_seen(clock: Clock) -> None:
    """A compressor with context forgets what it has sent, because the client has inflated something else since."""
    peer = opened(clock, "bomb=1MiB&after=1", DEFLATE)
    payload = deflated_octets(100 * b"tea")
    first = peer.send(client_frame(TEXT, payload, rsv=4))
    second = peer.frames(client_frame(TEXT, payload, rsv=4))
    assert len(first) > 1000
    (echo,) = second
    assert echo.payload == deflated_octets_of(first)


def deflated_octets_of(octets: bytes) -> bytes:
    """Return the payload of the first frame."""
    return octets[2 : 2 + octets[1]]


def test_an_abort_where_the_cut_is(clock: Clock) -> None:
    peer = opened(clock, "cut=2&abort&after=7")
    assert peer.send(texts("a", "b")) == b"\x81\x01"
    clock.advance(0)
    clock.advance(0)
    assert peer.transport.aborted
    assert peer.protocol.outcome is Outcome.FAULT


GOODBYE = client_frame(CLOSE, close_payload(1000))
RESERVED = b"\xf1\x80\0\0\0\0"
"""A frame that fails the connection."""


@pytest.mark.parametrize("query", ["cut=2&abort", "cut=2&abort&slice=1", "cut=2&abort&delay=1s", "cut=5&abort"])
@pytest.mark.parametrize("last", [GOODBYE, RESERVED], ids=["Close frame", "wrong frame"])
def test_a_cut_is_a_reset_though_the_client_ends_the_connection(clock: Clock, query: str, last: bytes) -> None:
    """What comes in the same read as the message may not end the connection in order."""
    peer = Peer(make_factory(clock, ping_interval=0))
    peer.protocol.dataReceived(handshake(f"/?{query}") + texts("a") + last)
    clock.pump([0.01] * 400)
    octets = peer.take().partition(b"\r\n\r\n")[2]
    assert (octets[:3], len(octets)) == (b"\x81\x01a"[: int(query[4])], int(query[4]))
    assert not peer.transport.half_closed
    assert not peer.transport.disconnecting
    assert peer.transport.aborted


@pytest.mark.parametrize("query", ["cut=2&abort", "cut=2&abort&delay=1s", "abort&after=1&delay=1s"])
def test_a_reset_that_is_due_comes_though_the_client_has_sent_its_fin(clock: Clock, query: str) -> None:
    peer = opened(clock, query)
    peer.protocol.dataReceived(texts("a"))
    peer.protocol.readConnectionLost()
    clock.pump([0.01] * 3)
    assert not peer.transport.disconnecting
    assert peer.transport.aborted
