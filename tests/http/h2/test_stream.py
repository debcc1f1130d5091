"""One stream as a carrier, over a connection that only notes what it is asked."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from echod.http.h2.stream import DELIVERED, HIGH, Fields, Stream
from echod.upstream.carriers import carrier_of
from tests.fakes import Transport


class Below:
    """A connection that sends at once what it is told to, up to `room` bytes."""

    window = 1000
    taken = 0

    def __init__(self) -> None:
        self.room = 10**9
        self.position = 0
        self.heads: list[tuple[int, Fields]] = []
        self.sent = b""
        self.has_end = False
        self.windows: list[int] = []
        self.resets: list[int] = []
        self.soon: list[Stream] = []
        self.forgotten = self.waiting = self.disowned_streams = 0
        self.has_gone = False

    def send_head(self, stream: Stream, status: int, fields: Fields) -> None:
        assert not stream.has_ended
        self.heads.append((status, fields))

    def wants_to_send(self, stream: Stream) -> None:
        while stream.wants_to_send and (self.room or not stream.needs_window):
            octets, is_last = stream.take_to_send(min(self.room, 100))
            self.room -= len(octets)
            self.position += len(octets)
            self.sent += octets
            self.has_end |= is_last
            stream.sent(is_last)

    def open_window(self, stream: Stream, octets: int) -> None:
        assert not stream.has_ended
        self.windows.append(octets)

    def send_reset(self, stream: Stream, code: int) -> None:
        self.resets.append(stream.number)
        self.resets.append(code)

    def call_soon(self, stream: Stream) -> None:
        self.soon.append(stream)

    def forget(self, stream: Stream) -> None:
        assert stream.has_ended
        self.forgotten += 1

    def disowned(self) -> None:
        self.disowned_streams += 1

    def wait_for_end(self, stream: Stream) -> None:
        assert stream.has_ended
        self.waiting += 1

    def describe(self) -> dict[str, Any]:
        return {"settings": {}}

    def go_away(self) -> None:
        self.has_gone = True

    def turn(self) -> None:
        """Let a turn of the reactor pass."""
        soon, self.soon = self.soon, []
        for stream in soon:
            stream.act()


class Owner:
    """What the stream carries."""

    def __init__(self, stream: Stream, pauses: bool = False) -> None:
        self.stream = stream
        self.pauses = pauses
        self.events: list[object] = []

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)
        if self.pauses:
            self.stream.pause()

    def readConnectionLost(self) -> None:
        self.events.append("end")

    def connectionLost(self, reason: Failure) -> None:
        self.events.append(reason.type)

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")


@pytest.fixture
def below() -> Below:
    return Below()


@pytest.fixture
def stream(below: Below) -> Stream:
    made = Stream(below, [Transport()], 5, 100)
    made.owner = Owner(made)
    return made


def memory_of(action: Callable[[bytes], None]) -> int:
    """Return how many bytes of memory an action has left behind that takes two bytes at a time, 20,000 times."""
    tracemalloc.start()
    try:
        for number in range(20_000):
            action(b"%02d" % (number % 100))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_its_facts_are_those_of_the_connection(stream: Stream) -> None:
    assert carrier_of(stream) is stream
    assert stream.peer == ("192.0.2.1", 1234)
    assert (stream.descriptor, stream.tls, stream.has_session) == (None, None, False)
    assert stream.describe_http() == {"version": "2", "stream": 5, "settings": {}}
    assert stream.renew_buffers()
    stream.give_back_sent()
    assert stream.is_stream


def test_goaway_is_the_connections(stream: Stream, below: Below) -> None:
    stream.send_goaway()
    assert below.has_gone


class TestReading:
    """What comes, and the window for it."""

    def test_a_websocket_gets_a_window_and_a_request_gets_none(self, stream: Stream, below: Below) -> None:
        stream.deliver(b"x" * 60, 60)
        assert below.windows == []
        stream.register(stream.owner)
        assert below.windows == [960]
        stream.deliver(b"x" * 499, 499)
        assert below.windows == [960]
        stream.deliver(b"x", 1)
        assert below.windows == [960, 500]
        assert [len(octets) for octets in stream.owner.events] == [60, 499, 1]

    def test_a_paused_stream_keeps_what_comes_and_gets_no_window(self, stream: Stream, below: Below) -> None:
        stream.register(stream.owner)
        stream.pause()
        stream.deliver(b"a" * 600, 650)
        stream.deliver(b"b" * 10, 10)
        assert (stream.unread, stream.held, stream.owner.events) == (610, 610, [])
        stream.set_read_size(HIGH)
        stream.resume()
        stream.resume()
        assert stream.owner.events == []
        stream.deliver(b"c", 1)
        below.turn()
        assert stream.owner.events == [b"a" * 600 + b"b" * 10 + b"c"]
        assert below.windows == [900, 661]
        below.turn()
        assert not below.soon

    def test_small_frames_take_little_more_memory_than_their_bytes(self, stream: Stream) -> None:
        stream.pause()
        assert memory_of(lambda octets: stream.deliver(octets, 2)) < 60_000
        assert stream.held == stream.unread == 40_000

    def test_it_comes_in_pieces_after_a_pause(self, stream: Stream, below: Below) -> None:
        stream.pause()
        for octet in b"ab":
            stream.deliver(bytes([octet]) * (DELIVERED - 1), 0)
        stream.resume()
        below.turn()
        assert stream.owner.events == [b"a" * (DELIVERED - 1) + b"b"]
        below.turn()
        assert stream.owner.events[1:] == [b"b" * (DELIVERED - 2)]

    def test_a_pause_within_a_delivery(self, stream: Stream, below: Below) -> None:
        stream.owner = Owner(stream, pauses=True)
        stream.register(stream.owner)
        for octets in (b"a" * 600, b"b" * DELIVERED, b"c"):
            stream.deliver(octets, len(octets))
        stream.deliver_end()
        assert stream.owner.events == [b"a" * 600]
        for number in range(2, 4):
            stream.resume()
            below.turn()
            assert len(stream.owner.events) == number
        stream.resume()
        below.turn()
        assert stream.owner.events[3:] == ["end"]
        assert below.windows == [900]

    def test_a_resume_without_anything_to_read_opens_the_window(self, stream: Stream, below: Below) -> None:
        stream.owner = Owner(stream, pauses=True)
        stream.register(stream.owner)
        stream.deliver(b"x" * 600, 600)
        stream.resume()
        assert below.windows == [900, 600]

    def test_a_smaller_share_is_a_smaller_window(self, stream: Stream, below: Below) -> None:
        stream.set_read_size(512)
        stream.register(stream.owner)
        assert below.windows == [412]
        stream.deliver(b"x" * 300, 300)
        assert below.windows == [412, 300]

    def test_the_end(self, stream: Stream, below: Below) -> None:
        stream.deliver_end()
        assert stream.owner.events == ["end"]
        stream.register(stream.owner)
        assert below.windows == []

    def test_an_end_during_a_pause(self, stream: Stream, below: Below) -> None:
        stream.pause()
        stream.deliver_end()
        assert stream.owner.events == []
        stream.resume()
        below.turn()
        assert stream.owner.events == ["end"]
        stream.pause()
        stream.close()
        stream.resume()
        below.turn()
        assert stream.owner is None

    def test_nothing_is_read_after_another_pause(self, stream: Stream, below: Below) -> None:
        stream.pause()
        stream.deliver(b"x", 1)
        stream.resume()
        stream.pause()
        below.turn()
        assert stream.owner.events == []


class TestWriting:
    """What goes out."""

    def test_it_goes_out_in_order_and_in_pieces(self, stream: Stream, below: Below) -> None:
        below.room = 150
        stream.write(b"")
        stream.write(b"a" * 120)
        stream.write(b"b" * 120)
        stream.write(b"c")
        assert below.sent == b"a" * 120 + b"b" * 30
        assert (stream.unsent, stream.held) == (91, 91 + 30)
        below.room = 1000
        below.wants_to_send(stream)
        assert below.sent == b"a" * 120 + b"b" * 120 + b"c"
        assert (stream.unsent, stream.held) == (0, 0)

    def test_what_the_peer_has_not_confirmed(self, stream: Stream, below: Below) -> None:
        below.position = 50
        stream.write(b"x" * 10)
        below.position = 500  # of another stream
        assert stream.unacknowledged == 60
        below.taken = 55
        assert stream.unacknowledged == 5
        below.taken = 400
        assert stream.unacknowledged == 0

    def test_small_writes_take_little_more_memory_than_their_bytes(self, stream: Stream, below: Below) -> None:
        below.room = 0
        assert memory_of(stream.write) < 60_000
        assert stream.held == stream.unsent == 40_000
        below.room = 10**9
        below.wants_to_send(stream)
        assert below.sent == 200 * b"".join(b"%02d" % number for number in range(100))

    def test_backpressure(self, stream: Stream, below: Below) -> None:
        stream.register(stream.owner)
        below.room = 0
        stream.write(b"x" * HIGH)
        assert stream.owner.events == []
        stream.write(b"y")
        stream.write(b"z")
        assert stream.owner.events == ["pause"]
        below.room = HIGH
        below.wants_to_send(stream)
        assert stream.owner.events == ["pause"]
        below.room = 10
        below.wants_to_send(stream)
        assert stream.owner.events == ["pause", "resume"]

    def test_nobody_is_resumed_who_does_not_want_to_be(self, stream: Stream, below: Below) -> None:
        stream.register(stream.owner)
        below.room = 0
        stream.write(b"x" * (HIGH + 1))
        stream.unregister()
        below.room = 10**6
        below.wants_to_send(stream)
        assert stream.owner.events == ["pause"]
        assert below.sent == b"x" * (HIGH + 1)

    def test_an_answer(self, stream: Stream, below: Below) -> None:
        stream.respond(404, [(b"a", b"b")])
        assert below.heads == [(404, [(b"a", b"b")])]


class TestTheEnd:
    """The ends of a stream."""

    def test_half_close_waits_for_what_was_written_and_for_the_peer(self, stream: Stream, below: Below) -> None:
        below.room = 5
        stream.write(b"x" * 10)
        stream.half_close()
        stream.half_close()
        stream.write(b"too late")
        assert not below.has_end
        below.room = 5
        below.wants_to_send(stream)
        assert (below.sent, below.has_end, below.forgotten) == (b"x" * 10, True, 0)
        stream.deliver(b"still read", 10)
        stream.deliver_end()
        below.turn()
        assert stream.owner is None
        assert (below.forgotten, below.waiting) == (1, 0)
        stream.deliver_end()

    def test_half_close_after_the_peers_end(self, stream: Stream, below: Below) -> None:
        owner = stream.owner
        stream.deliver_end()
        stream.half_close()
        assert below.forgotten == 1
        below.turn()
        assert owner.events == ["end", ConnectionDone]

    def test_close_waits_for_what_was_written_and_not_for_the_peer(self, stream: Stream, below: Below) -> None:
        owner = stream.owner
        below.room = 5
        stream.write(b"x" * 10)
        stream.close()
        stream.close()
        assert below.waiting == 0
        below.room = 5
        below.wants_to_send(stream)
        assert (below.has_end, below.waiting) == (True, 1)
        below.turn()
        assert owner.events == [ConnectionDone]
        stream.deliver(b"nobody is there", 10)
        stream.act()
        assert owner.events == [ConnectionDone]
        stream.deliver_end()
        assert below.forgotten == 1

    def test_close_after_half_close(self, stream: Stream, below: Below) -> None:
        owner = stream.owner
        stream.half_close()
        stream.close()
        below.turn()
        assert owner.events == [ConnectionDone]
        assert below.waiting == 1

    @pytest.mark.parametrize(("has_answered", "code"), [(True, ErrorCodes.CANCEL), (False, ErrorCodes.REFUSED_STREAM)])
    def test_reset(self, stream: Stream, below: Below, has_answered: bool, code: int) -> None:
        owner = stream.owner
        if has_answered:
            stream.respond(200, [])
        below.room = 0
        stream.write(b"lost")
        stream.reset()
        assert owner.events == []
        assert (below.resets, below.forgotten) == ([5, code], 1)
        assert not stream.wants_to_send
        below.turn()
        assert owner.events == [ConnectionAborted]
        assert stream.unsent == 0

    def test_a_reset_of_a_stream_that_has_ended_both_ways_sends_nothing(self, stream: Stream, below: Below) -> None:
        owner = stream.owner
        owner.dataReceived = lambda _: stream.reset()
        stream.respond(200, [])
        stream.half_close()
        stream.deliver(b"the last", 8, is_last=True)
        assert (below.resets, below.forgotten) == ([], 1)
        below.turn()
        assert owner.events == [ConnectionAborted]

    def test_the_first_reason_counts(self, stream: Stream, below: Below) -> None:
        owner = stream.owner
        stream.reset()
        stream.lose(Failure(ConnectionLost()))
        below.turn()
        assert owner.events == [ConnectionAborted]

    def test_a_lost_stream(self, stream: Stream, below: Below) -> None:
        owner = stream.owner
        stream.lose(Failure(ConnectionLost()))
        stream.lose(Failure(ConnectionLost()))
        assert owner.events == [ConnectionLost]
        assert below.disowned_streams == 1
        stream.write(b"nobody reads it")
        assert stream.unsent == 0


def test_what_was_put_off_is_not_done_for_nobody(stream: Stream, below: Below) -> None:
    stream.pause()
    stream.deliver(b"x", 1)
    stream.resume()
    stream.owner = None
    below.turn()
    assert stream.stream_number == 5


def test_an_owner_that_closes_is_not_told_of_the_peers_end(stream: Stream, below: Below) -> None:
    below.room = 0
    stream.write(b"waits")
    stream.pause()
    stream.deliver_end()
    stream.close()
    stream.resume()
    below.turn()
    assert stream.owner.events == []
