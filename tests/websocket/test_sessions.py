"""The HTTP/2 connections of a factory: how they count, and how they end."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from twisted.internet.task import Clock

from echod.core.counts import Closer, Outcome
from echod.core.deadlines import TICK
from echod.settings import Http2Mode
from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, Frame, client_frame, close_payload, handshake
from tests.h2_client import Exchange, Http2Client, exchange

GOING_AWAY = Frame(CLOSE, close_payload(1001, "going away"))


def test_a_connection_counts_while_it_has_no_stream(clock: Clock) -> None:
    factory = make_factory(clock, max_connections=3)
    made = exchange(clock, factory)
    assert (factory.count, factory.room) == (1, 2)
    one = made.opened()
    assert (factory.count, factory.room) == (1, 2)
    made.opened()
    made.opened()
    assert (factory.count, factory.room) == (3, 0)
    assert made.refused(made.client.connect()) == ("503", "Too many connections.\n")
    made.client.h2.end_stream(one)
    made.go()
    made.opened()
    made.lose()
    assert factory.count == 0


def test_if_very_many_are_too_many_streams_are_refused_without_an_answer(clock: Clock, lines: list[str]) -> None:
    factory = make_factory(clock, max_connections=1, reserved_descriptors=4, close_timeout=0)
    made = exchange(clock, factory)
    made.opened()
    streams = [made.client.connect() for _ in range(4)]
    made.go()
    assert [made.client.heads.get(number, {}).get(":status") for number in streams] == ["503", "503", None, None]
    assert made.client.resets == dict.fromkeys(streams[2:], 7)
    assert "a connection failed" not in " ".join(lines)


def test_the_connections_of_one_address(clock: Clock) -> None:
    factory = make_factory(clock, max_connections_per_address=2)
    made, other = exchange(clock, factory), exchange(clock, factory)
    assert Peer(factory).send(handshake()).startswith(b"HTTP/1.1 429 ")
    one, two = made.opened(), made.client.connect()
    assert made.refused(two)[0] == "429"
    made.client.h2.end_stream(one)
    made.client.h2.end_stream(two)
    made.go()
    assert Peer(factory).send(handshake()).startswith(b"HTTP/1.1 429 "), "the connection counts again"
    other.lose()
    made.opened()
    made.opened()
    assert made.refused(made.client.connect())[0] == "429"
    made.lose()
    assert not factory._addresses


def test_busy_connections_take_turns(clock: Clock) -> None:
    """However many connections have sent thousands of frames, they share one line."""
    factory = make_factory(clock)
    several = [exchange(clock, factory) for _ in range(3)]
    for made in several:
        made.opened()
    for made in several:
        made.session.call_soon(next(iter(made.session.streams.values())))
    assert len(clock.getDelayedCalls()) == 2, "the ticker, and the line"


@pytest.mark.parametrize("mode", Http2Mode)
def test_a_connection_that_is_one_too_many(clock: Clock, mode: Http2Mode) -> None:
    factory = make_factory(clock, max_connections=1, http2=mode)
    Peer(factory).open()
    peer, client = Peer(factory), Http2Client()
    octets = peer.send(client.to_send())
    assert peer.transport.half_closed
    if mode is Http2Mode.OFF:
        assert octets.startswith(b"HTTP/1.1 503 ")
        return
    client.take(octets)
    assert client.goaway == (0, ErrorCodes.ENHANCE_YOUR_CALM, "Too many connections")
    assert factory.counts.refusals == {("503", "Too many connections"): 1}


def test_a_connection_that_asks_in_a_drain(clock: Clock) -> None:
    factory = make_factory(clock)
    peer, client = Peer(factory), Http2Client()
    factory.drain()
    client.take(peer.send(client.to_send()))
    assert client.goaway == (0, ErrorCodes.NO_ERROR, "Shutting down")
    peer.lose()


class TestDraining:
    """SIGTERM."""

    def test_each_stream_is_closed_and_then_the_connection(self, clock: Clock) -> None:
        factory = make_factory(clock)
        made, empty = exchange(clock, factory), exchange(clock, factory)
        numbers = [made.opened(), made.opened()]
        drained = factory.drain()
        for each in (made, empty):
            each.go()
            assert [goaway.code for goaway in each.client.goaways] == [ErrorCodes.NO_ERROR] * 2
        assert empty.transport.half_closed
        empty.lose()
        assert not drained.called
        assert not made.transport.half_closed
        for number in numbers:
            assert made.client.frames(number) == [GOING_AWAY]
            made.client.send(number, client_frame(CLOSE, close_payload(1001)), is_last=True)
            made.go()
        assert made.transport.half_closed
        assert not drained.called
        made.lose()
        assert drained.called
        assert factory.counts.closes == {("1001", Closer.SERVER): 2}

    def test_a_stream_whose_client_does_not_end_it_is_waited_for(self, clock: Clock) -> None:
        factory = make_factory(clock, close_timeout=2)
        made = exchange(clock, factory)
        number = made.opened()
        drained = factory.drain()
        made.go()
        made.client.send(number, client_frame(CLOSE, close_payload(1001)))
        made.go()
        assert made.client.ended == {number}
        assert (factory.count, drained.called) == (1, False)
        clock.pump([TICK] * 22)
        made.go()
        assert made.client.resets == {number: 0}
        assert made.transport.half_closed
        made.lose()
        assert drained.called
        clock.advance(TICK)
        assert not clock.getDelayedCalls()

    def test_a_client_that_leaves_in_a_drain(self, clock: Clock) -> None:
        factory = make_factory(clock)
        made = exchange(clock, factory)
        made.opened()
        drained = factory.drain()
        drained.addCallback(lambda _: factory.count)
        made.lose()
        assert drained.called
        assert drained.result == 0
        assert not clock.getDelayedCalls()

    def test_a_stream_that_is_opened_before_the_client_knows(self, clock: Clock) -> None:
        factory = make_factory(clock)
        made = exchange(clock, factory)
        late = made.client.connect()
        factory.drain()
        made.go()
        assert made.client.heads[late][":status"] == "503"
        assert made.client.goaway == (late, ErrorCodes.NO_ERROR, "")

    def test_a_client_that_does_nothing(self, clock: Clock) -> None:
        factory = make_factory(clock, drain_timeout=4)
        made = exchange(clock, factory)
        made.opened()
        drained = factory.drain()
        clock.pump([TICK] * 45)
        assert made.transport.aborted
        made.lose()
        assert drained.called
        assert factory.counts.outcomes == {Outcome.TIMEOUT: 1}

    def test_a_connection_that_begins_in_a_drain(self, clock: Clock) -> None:
        factory = make_factory(clock)
        peer = Peer(factory)
        peer.transport.protocol = peer.protocol  # type: ignore[attr-defined]
        factory.drain()
        factory.go_on_over_http2(peer.protocol, b"")
        made = Exchange(peer.transport, lambda: clock.advance(0))
        made.go()
        assert peer.transport.half_closed
        made.lose()


def test_a_malformed_request_is_counted(clock: Clock) -> None:
    factory = make_factory(clock)
    made = exchange(clock, factory)
    made.client.request("GET", "/", ("upgrade", "websocket"))
    made.go()
    assert factory.counts.refusals == {("none", "malformed request: a header field of HTTP/1.1"): 1}
    assert factory.counts.outcomes == {Outcome.REFUSED: 1}


def test_a_unix_socket(clock: Clock, lines: list[str]) -> None:
    peer = Peer(make_factory(clock), host=None)
    peer.transport.protocol = peer.protocol  # type: ignore[attr-defined]
    made = Exchange(peer.transport, lambda: clock.advance(0))
    made.go()
    made.client.request("GET", "/", ("upgrade", "websocket"))
    made.go()
    assert lines[-1].startswith("refused a handshake from a local client: ")
