"""Connections whose URL asks for faults: what the client gets, when it gets it, and that every connection ends."""

from __future__ import annotations

import gc
import itertools
import random
import weakref
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from echod.core import close_deadline
from echod.core.counts import Outcome
from echod.core.deadlines import TICK
from echod.core.turns import SHARE, STEP
from echod.faults.ending import LOOK
from echod.faults.frames import in_frames
from echod.faults.messages import OVERHEAD
from echod.faults.opening import refusal
from echod.http.refusals import render
from echod.lane.native import Native
from echod.settings import Compression
from tests.fakes import Peer, assert_freed_at_once, make_factory
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    deflated_octets,
    handshake,
    server_frame,
    split,
)
from tests.loop import bed


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock, target: str, *headers: str, **settings: Any) -> Peer:
    """Return an open connection. What followed its 101 is still to be taken."""
    peer = Peer(make_factory(clock, **settings))
    answer = peer.send(handshake(target, *headers))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), answer
    peer.transport.write(rest)
    return peer


def come(peer: Peer) -> list[Frame]:
    """Return what has arrived since the last call."""
    found, rest = split(peer.take())
    assert not rest
    return found


def text(*payloads: str) -> bytes:
    return b"".join(client_frame(TEXT, payload.encode()) for payload in payloads)


def texts(*payloads: str) -> list[Frame]:
    return [Frame(TEXT, payload.encode()) for payload in payloads]


def close(code: int, reason: str = "") -> Frame:
    return Frame(CLOSE, close_payload(code, reason))


# Reading the URL.


def test_a_value_that_is_wrong_is_refused_in_one_line(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    answer = peer.send(handshake("/?delay=secret") + text("x"))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\nBad request: the parameter delay is not a duration, such as 250ms, 5s or 2m.\n")
    assert b"secret" not in answer
    assert peer.transport.half_closed


def test_faults_can_be_off(clock: Clock) -> None:
    peer = opened(clock, "/?delay=secret&close=1000", has_faults=False)
    assert peer.frames(text("x")) == texts("x")


@pytest.mark.parametrize("target", ["/", "/?", "/?token=1", "/?delay=0", "/?drop=0"])
def test_who_asks_for_nothing_has_nothing_of_it(clock: Clock, target: str) -> None:
    assert "_faulty" not in vars(opened(clock, target).protocol)


# Delay.


def test_echoes_come_late_and_in_order(clock: Clock) -> None:
    peer = opened(clock, "/?delay=250ms")
    assert peer.send(text("a")) == b""
    clock.advance(0.1)
    assert peer.send(text("b", "c")) == b""
    clock.advance(0.149)
    assert peer.take() == b""
    clock.advance(0.001)
    assert come(peer) == texts("a")
    clock.advance(0.099)
    assert peer.take() == b""
    clock.advance(0.001)
    assert come(peer) == texts("b", "c")
    assert peer.protocol.count() == 0
    assert peer.send(client_frame(PING, b"at once")) == server_frame(PONG, b"at once")
    peer.lose()
    assert not [call for call in clock.getDelayedCalls() if call.getTime() > clock.seconds() + TICK]


def test_what_is_held_counts_and_has_a_limit(clock: Clock) -> None:
    peer = opened(clock, "/?delay=1s", max_delayed=10_000)
    peer.send(client_frame(BINARY, bytes(5000)))
    assert peer.protocol.held == peer.protocol.count() == 5000 + OVERHEAD
    assert peer.transport.producerState == "producing"
    # Slices of a read that come behind what it takes to be full wait in front of the echoes.
    rest = [bytes([number]) * 2000 for number in range(30)]
    peer.send(b"".join(client_frame(BINARY, payload) for payload in rest))
    assert peer.transport.producerState == "paused"
    assert peer.protocol.count() > 60_000
    assert peer.protocol.faulty is not None
    assert peer.protocol.account.delayed < 16_000
    # What TLS had read already.
    peer.send(client_frame(TEXT, b"last"))
    found: list[Frame] = []
    while not found or found[-1].payload != b"last":
        clock.advance(0.5)
        found += come(peer)
        assert clock.seconds() < 30
    assert [frame.payload for frame in found] == [bytes(5000), *rest, b"last"]
    assert peer.transport.producerState == "producing"
    assert peer.protocol.held == 0


def test_who_is_not_read_while_echoes_are_held_is_not_taken_for_dead(clock: Clock) -> None:
    peer = opened(clock, "/?delay=30s", max_delayed=1000, ping_interval=4, ping_timeout=2)
    peer.send(client_frame(BINARY, bytes(1000)))
    peer.send(text("a"))
    assert peer.transport.producerState == "paused"
    clock.pump([TICK] * 290)
    assert all(frame.opcode == PING for frame in come(peer))
    clock.pump([TICK] * 11)
    assert come(peer) == [Frame(BINARY, bytes(1000))]
    assert peer.transport.producerState == "producing"
    assert not peer.transport.aborted
    # From now on it could answer a ping.
    clock.pump([TICK] * 80)
    assert peer.transport.aborted


def test_what_is_held_counts_for_all_connections_together(clock: Clock) -> None:
    peer = opened(clock, "/?delay=1s", max_buffered=100_000, ping_interval=0)
    modest = Peer(peer.protocol.factory)
    modest.open()
    messages = [bytes([number]) * 1000 for number in range(50)]
    peer.send(b"".join(client_frame(BINARY, message) for message in messages))
    assert peer.protocol.factory.budget.is_tight
    assert modest.frames(text("x")) == texts("x")
    clock.pump([TICK] * 15)
    assert [frame.payload for frame in come(peer)] == messages
    assert not peer.protocol.factory.budget.is_tight
    assert peer.transport.producerState == "producing"


def test_what_is_held_is_sent_before_the_answer_to_a_close(clock: Clock) -> None:
    peer = opened(clock, "/?delay=10s")
    assert peer.frames(text("a", "b") + client_frame(CLOSE, close_payload(1000, "bye"))) == [
        *texts("a", "b"),
        close(1000, "bye"),
    ]
    assert peer.transport.disconnecting


def test_what_is_held_is_sent_before_a_failure(clock: Clock) -> None:
    peer = opened(clock, "/?delay=10s")
    found = peer.frames(text("a") + client_frame(3))
    assert found[0] == Frame(TEXT, b"a")
    assert found[1].payload[:2] == (1002).to_bytes(2, "big")
    assert peer.transport.half_closed


def test_what_is_held_is_sent_to_who_closes_its_half(clock: Clock) -> None:
    peer = opened(clock, "/?delay=10s")
    peer.send(text("a"))
    peer.protocol.readConnectionLost()
    assert come(peer) == texts("a")
    assert peer.transport.disconnecting


def test_a_drain_waits_for_what_is_held(clock: Clock) -> None:
    peer = opened(clock, "/?delay=1s")
    peer.send(text("a"))
    peer.protocol.factory.drain()
    assert peer.take() == b""
    clock.advance(1)
    assert come(peer) == [*texts("a"), close(1001, "going away")]
    peer.send(client_frame(CLOSE, close_payload(1001)))
    peer.lose()


def test_a_drain_waits_for_so_long_and_loses_nothing(clock: Clock) -> None:
    peer = opened(clock, "/?delay=60s", drain_timeout=10)
    peer.send(text("a"))
    peer.protocol.factory.drain()
    clock.advance(4.9)
    assert peer.take() == b""
    clock.advance(0.1)
    assert come(peer) == [*texts("a"), close(1001, "going away")]
    peer.lose()


def test_held_messages_go_with_the_connection(clock: Clock) -> None:
    peer = opened(clock, "/?delay=1s&ping=1s")
    peer.send(text("a"))
    factory = peer.protocol.factory
    peer.lose()
    assert factory.budget.held == 0
    clock.pump([TICK] * 3)
    assert not clock.getDelayedCalls()


def test_a_failure_in_what_time_brings_closes_with_1011(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened(clock, "/?delay=1s")
    peer.send(text("a", "b"))
    monkeypatch.setattr(peer.protocol, "answering", lambda *_, **__: 1 / 0)
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        clock.advance(1)
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    assert any("log_failure" in event for event in events)
    assert come(peer) == [close(1011, "internal error")]


def test_what_comes_after_a_failure_is_not_kept(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened(clock, "/?fragment=1")
    monkeypatch.setattr(peer.protocol, "answering", lambda *_, **__: 1 / 0)
    assert peer.frames(text("a")) == [close(1011, "internal error")]
    for _ in range(3):
        assert peer.send(text("b") * 1000) == b""
    assert peer.protocol.count() == 0


# An end after so many echoes.


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 1014, 3000, 4999])
def test_close(clock: Clock, code: int) -> None:
    peer = opened(clock, f"/?close={code}&reason=gr%C3%BC%C3%9Fe&after=2")
    assert peer.frames(text("a")) == texts("a")
    assert peer.frames(text("b", "c")) == [*texts("b"), close(code, "grüße")]
    assert peer.send(text("d") + client_frame(PING)) == b""
    peer.send(client_frame(CLOSE, close_payload(code)))
    assert peer.transport.disconnecting


@pytest.mark.parametrize(
    ("query", "payload"),
    [
        ("close=1001", close_payload(1001)),
        ("close=1005", b""),
        ("close=1005&after=0", b""),
        ("close=4000&reason=a", close_payload(4000, "a")),
    ],
)
def test_close_at_once(clock: Clock, query: str, payload: bytes) -> None:
    assert come(opened(clock, f"/?{query}")) == [Frame(CLOSE, payload)]


def test_an_end_of_tcp_without_a_close_frame(clock: Clock) -> None:
    peer = opened(clock, "/?close=1006&after=1&ping=1s")
    assert peer.frames(text("a", "b")) == texts("a")
    assert peer.transport.half_closed
    assert not peer.transport.aborted
    clock.pump([1] * 7)
    assert peer.take() == b""
    assert peer.transport.aborted, "at the deadline of every close"


def test_a_close_that_nobody_answers_has_its_deadline(clock: Clock) -> None:
    peer = opened(clock, "/?close=1000&ping=1s", close_timeout=2)
    assert come(peer) == [close(1000)]
    clock.pump([TICK] * 23)
    assert peer.take() == b"", "no ping behind a Close frame"
    assert peer.transport.aborted


def test_abort(clock: Clock) -> None:
    peer = opened(clock, "/?abort&after=2")
    assert peer.frames(text("a", "b", "c") + client_frame(PING)) == texts("a", "b")
    assert not peer.transport.aborted, "before what was written"
    assert peer.transport.producerState == "paused"
    clock.advance(0)
    assert peer.transport.aborted
    assert not peer.transport.half_closed
    peer.lose()


def test_an_abort_waits_until_the_peer_has_all(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened(clock, "/?abort", close_timeout=2)
    pending = iter([100, 10, 0])
    monkeypatch.setattr(peer.protocol, "count_pending", lambda: next(pending))
    clock.pump([0, LOOK, LOOK])
    assert not peer.transport.aborted
    clock.advance(LOOK)
    assert peer.transport.aborted


def test_an_abort_looks_ever_more_rarely(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened(clock, "/?abort", close_timeout=5)
    looks: list[float] = []

    def count_pending() -> int:
        looks.append(clock.seconds())
        return 1

    monkeypatch.setattr(peer.protocol, "count_pending", count_pending)
    clock.pump([LOOK] * 520)
    assert peer.transport.aborted
    assert len(looks) < 12 + close_deadline.LOOKS


def test_an_abort_does_not_wait_for_ever(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened(clock, "/?abort", close_timeout=2)
    monkeypatch.setattr(peer.protocol, "count_pending", lambda: 1)
    clock.pump([TICK] * 19)
    assert not peer.transport.aborted
    clock.pump([TICK] * 3)
    assert peer.transport.aborted
    peer.lose()
    clock.pump([TICK] * 3)
    assert not clock.getDelayedCalls()


def test_a_reset_instead_of_the_answer_to_a_close(clock: Clock) -> None:
    peer = opened(clock, "/?close=1001&abort")
    assert come(peer) == [close(1001)]
    clock.advance(0)
    assert peer.transport.aborted


def test_a_drain_reads_the_reply_behind_what_was_not_taken(clock: Clock) -> None:
    peer = opened(clock, "/?delay=20s", drain_timeout=10)
    message = client_frame(BINARY, bytes(1_000_000))
    peer.send(message * 5 + client_frame(CLOSE, close_payload(1001)))
    assert peer.protocol.is_paused_by_url
    assert peer.transport.producerState == "paused"
    drained = peer.protocol.factory.drain()
    clock.pump([TICK] * 55)
    *echoes, last = come(peer)
    assert {len(echo.payload) for echo in echoes} == {1_000_000}
    assert last == Frame(CLOSE, close_payload(1001, "going away"))
    assert peer.protocol.outcome == Outcome.CLEAN
    peer.lose()
    assert drained.called


@pytest.mark.parametrize("query", ["stall", "handshake-delay=1m"])
def test_who_is_not_read_may_take_half_of_the_places(clock: Clock, query: str) -> None:
    """The server does not see that their clients have gone."""
    factory = make_factory(clock, max_connections=5)
    taken = []
    for _ in range(3):
        taken.append(Peer(factory))
        assert not taken[-1].send(handshake(f"/?{query}")).startswith(b"HTTP/1.1 503 ")
    more = Peer(factory)
    assert more.send(handshake(f"/?{query}")).startswith(b"HTTP/1.1 503 ")
    more.lose()
    Peer(factory).open()
    taken[0].lose()
    assert not Peer(factory).send(handshake(f"/?{query}")).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("query", "is_read"), [("handshake-delay=1s", True), ("handshake-delay=1s&stall&after=1", False)]
)
def test_who_has_its_late_answer_is_read_and_leaves_the_place_to_another(
    clock: Clock, query: str, is_read: bool
) -> None:
    factory = make_factory(clock, max_connections=4)
    first = [Peer(factory), Peer(factory)]
    for peer in first:
        assert peer.send(handshake(f"/?{query}")) == b""
    clock.advance(1)
    assert [peer.take()[:12] for peer in first] == [b"HTTP/1.1 101"] * 2
    assert Peer(factory).send(handshake("/?handshake-delay=1s")).startswith(b"HTTP/1.1 503 ") is not is_read


def test_stall(clock: Clock) -> None:
    peer = opened(clock, "/?stall&after=2&ping=30s", ping_interval=4, ping_timeout=2, max_stall=40)
    assert peer.frames(text("a", "b", "c") + client_frame(PING) + client_frame(BINARY, bytes(5000))) == texts("a", "b")
    assert peer.transport.producerState == "paused"
    # What TLS had read already, an end of the backlog, and room.
    assert peer.send(text("d")) == b""
    peer.protocol.resumeProducing()
    peer.protocol.wait_for_room()
    peer.protocol.go_on(1000)
    assert peer.transport.producerState == "paused"
    clock.pump([TICK] * 398)
    assert come(peer) == [Frame(PING, b"")], "the one that was asked for, and none of the keepalive's"
    assert not peer.transport.aborted
    clock.pump([TICK] * 4)
    assert peer.transport.aborted
    peer.lose()


def test_a_drain_does_not_wait_for_who_is_not_read(clock: Clock) -> None:
    peer = opened(clock, "/?stall")
    drained = peer.protocol.factory.drain()
    assert come(peer) == [close(1001, "going away")]
    assert peer.transport.half_closed
    assert peer.transport.producerState == "producing"
    peer.lose()
    assert drained.called


def test_a_close_frame_whose_answer_is_never_read(clock: Clock) -> None:
    peer = opened(clock, "/?close=1001&stall", close_timeout=2)
    assert come(peer) == [close(1001)]
    peer.send(client_frame(CLOSE, close_payload(1001)))
    assert not peer.transport.disconnecting
    clock.pump([TICK] * 22)
    assert peer.transport.aborted


@pytest.mark.parametrize("end", ["close=1001", "abort", "stall"])
def test_what_is_held_behind_the_end_is_left(clock: Clock, end: str) -> None:
    peer = opened(clock, f"/?delay=1s&{end}&after=2")
    peer.send(text("a", "b", "c"))
    clock.advance(0.5)
    peer.send(text("d"))
    clock.pump([0.5] * 3)
    found = come(peer)
    assert found[:2] == texts("a", "b")
    assert found[2:] == ([close(1001)] if end == "close=1001" else [])
    assert peer.protocol.faulty is not None
    assert peer.protocol.account.delayed == 0


def test_an_end_that_comes_while_what_is_held_is_sent(clock: Clock) -> None:
    peer = opened(clock, "/?delay=1s&close=4000&after=2")
    assert peer.frames(text("a", "b", "c") + client_frame(CLOSE, close_payload(1000))) == [
        *texts("a", "b"),
        close(4000),
    ]
    assert peer.transport.disconnecting


# The opening handshake.


@pytest.mark.parametrize(
    ("status", "line", "header"),
    [
        (300, b"HTTP/1.1 300 Multiple Choices", b"Connection: close"),
        (400, b"HTTP/1.1 400 Bad Request", b"Connection: close"),
        (401, b"HTTP/1.1 401 Unauthorized", b'WWW-Authenticate: Basic realm="echod"'),
        (404, b"HTTP/1.1 404 Not Found", b"Connection: close"),
        (405, b"HTTP/1.1 405 Method Not Allowed", b"Allow: GET"),
        (407, b"HTTP/1.1 407 Proxy Authentication Required", b'Proxy-Authenticate: Basic realm="echod"'),
        (426, b"HTTP/1.1 426 Upgrade Required", b"Connection: Upgrade, close\r\nUpgrade: websocket"),
        (429, b"HTTP/1.1 429 Too Many Requests", b"Retry-After: 5"),
        (499, b"HTTP/1.1 499 ", b"Connection: close"),
        (503, b"HTTP/1.1 503 Service Unavailable", b"Retry-After: 5"),
        (599, b"HTTP/1.1 599 ", b"Connection: close"),
    ],
)
def test_status(clock: Clock, status: int, line: bytes, header: bytes) -> None:
    peer = Peer(make_factory(clock))
    answer = peer.send(handshake(f"/?status={status}&close=1000&ping=1s") + text("x"))
    assert answer.startswith(line + b"\r\n")
    assert b"\r\n" + header + b"\r\n" in answer
    assert answer.endswith(
        b"\r\nContent-Length: 30\r\nX-Content-Type-Options: nosniff\r\n\r\nThe URL asks for this status.\n"
    )
    assert peer.transport.half_closed
    clock.pump([1] * 7)
    assert peer.take() == b""
    assert peer.transport.aborted


def test_304_has_no_body() -> None:
    assert render(refusal(304), "now").octets == b"HTTP/1.1 304 Not Modified\r\nDate: now\r\nConnection: close\r\n\r\n"


def test_the_handshake_is_answered_late_and_what_comes_before_is_kept(clock: Clock) -> None:
    peer = Peer(make_factory(clock, handshake_timeout=5))
    assert peer.send(handshake("/?handshake-delay=10s") + text("a")) == b""
    assert peer.transport.producerState == "paused"
    assert peer.protocol.count() == len(text("a"))
    assert peer.send(text("b")) == b"", "which TLS had read already"
    clock.pump([TICK] * 99)
    assert peer.take() == b""
    assert not peer.transport.aborted, "the time is the server's own"
    clock.pump([TICK] * 2)
    assert peer.take().endswith(b"\r\n\r\n" + server_frame(TEXT, b"a") + server_frame(TEXT, b"b"))
    assert peer.transport.producerState == "producing"
    assert peer.frames(text("c")) == texts("c")


def test_the_handshake_is_answered_late_when_nothing_came_before(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    peer.send(handshake("/?handshake-delay=10s"))
    clock.advance(10)
    assert peer.take().startswith(b"HTTP/1.1 101 ")
    assert peer.transport.producerState == "producing"


def test_a_refusal_comes_late(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    assert peer.send(handshake("/?handshake-delay=10s&status=503")) == b""
    clock.advance(10)
    assert peer.take().startswith(b"HTTP/1.1 503 ")
    assert peer.transport.half_closed


def test_a_drain_does_not_wait_for_a_late_handshake(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    peer.send(handshake("/?handshake-delay=10s") + text("a"))
    peer.protocol.go_away()
    assert peer.take().startswith(b"HTTP/1.1 503 ")
    clock.advance(10)
    assert peer.take() == b""


# Frames.


@given(st.binary(max_size=400), st.integers(1, 500), st.sampled_from([TEXT, BINARY]), st.sampled_from([0, 4]))
def test_frames_are_cut_as_the_rfc_has_it(payload: bytes, size: int, opcode: int, rsv: int) -> None:
    found, rest = split(b"".join(in_frames(payload, size, opcode, rsv)))
    assert not rest
    assert b"".join(frame.payload for frame in found) == payload
    assert len(found) == max(1, -(-len(payload) // size))
    assert [frame.opcode for frame in found] == [opcode] + [CONTINUATION] * (len(found) - 1)
    assert [frame.rsv for frame in found] == [rsv] + [0] * (len(found) - 1)
    assert [frame.fin for frame in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize("size", [125, 126, 65535, 65536])
def test_frames_of_each_form(size: int) -> None:
    payload = bytes(2 * size + 1)
    expected = [server_frame(BINARY, payload[:size], fin=False), server_frame(CONTINUATION, payload[:size], fin=False)]
    assert b"".join(in_frames(payload, size, BINARY, 0)) == b"".join([*expected, server_frame(CONTINUATION, b"\0")])


def test_fragments(clock: Clock) -> None:
    peer = opened(clock, "/?fragment=3")
    assert peer.frames(text("Grüße") + client_frame(BINARY, b"abc") + text("")) == [
        Frame(TEXT, b"Gr\xc3", fin=False),
        Frame(CONTINUATION, b"\xbc\xc3\x9f", fin=False),
        Frame(CONTINUATION, b"e"),
        Frame(BINARY, b"abc"),
        Frame(TEXT, b""),
    ]


def test_fragments_of_a_deflated_message(clock: Clock) -> None:
    peer = opened(clock, "/?fragment=100", DEFLATE)
    deflate, inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
    payloads = [random.Random(1).randbytes(1000), b"short", b"z" * 10_000, random.Random(2).randbytes(1000)]
    for payload in payloads:
        deflated = deflated_octets(payload, deflate)
        found = peer.frames(client_frame(BINARY, deflated, rsv=4))
        assert [frame.rsv for frame in found] == [4 if len(payload) >= 64 else 0] + [0] * (len(found) - 1)
        assert all(len(frame.payload) == 100 for frame in found[:-1])
        octets = b"".join(frame.payload for frame in found)
        assert (inflate.decompress(octets + b"\x00\x00\xff\xff") if found[0].rsv else octets) == payload


def test_too_many_fragments(clock: Clock) -> None:
    peer = opened(clock, "/?fragment=2", max_fragments=10)
    assert len(peer.frames(client_frame(BINARY, bytes(20)))) == 10
    assert peer.frames(client_frame(BINARY, bytes(21)) + text("x")) == [close(1008, "too many fragments")]


# Faults whose work takes long: it is done in turns, and whatever else happens finds its place.


class SlowClock(Clock):
    """A clock that advances whenever it is read, so that each share is over after a step or two."""

    def seconds(self) -> float:
        self.rightNow += SHARE / 2
        return self.rightNow

    def advance(self, amount: float) -> None:
        """Run one turn as a reactor does: calls that are scheduled within the turn run in the next."""
        self.rightNow += amount
        for call in [call for call in sorted(self.calls, key=DelayedCall.getTime) if call.getTime() <= self.rightNow]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


@pytest.fixture
def slow() -> SlowClock:
    return SlowClock()


NOISE = random.Random(3).randbytes(6 * STEP)


def work_off(peer: Peer) -> list[Frame]:
    """Run turns until no work is left. Return what has arrived, as whole messages if their fragments are in order."""
    turns = 0
    while peer.protocol.is_behind:
        peer.protocol.factory.clock.advance(0)
        turns += 1
        assert turns < 10_000
    return messages_of(come(peer))


def messages_of(frames: list[Frame]) -> list[Frame]:
    """Join the fragments of messages."""
    whole: list[Frame] = []
    for frame in frames:
        if frame.opcode == CONTINUATION:
            assert not whole[-1].fin
            whole[-1] = whole[-1]._replace(payload=whole[-1].payload + frame.payload, fin=frame.fin)
        else:
            assert not whole or whole[-1].fin
            whole.append(frame)
    return whole


LONG = [
    "/?fragment=50",
    "/?delay=1ms&fragment=50",
    "/?compression=deflate",
    "/?compression=deflate&fragment=50",
    "/json",
]


def begin_long(clock: SlowClock, target: str, behind: bytes = b"", **settings: Any) -> tuple[Peer, Frame]:
    """Send a message that takes many turns, and bytes behind it. Return the connection and the expected answer."""
    peer = opened(clock, target, *([DEFLATE] if "deflate" in target else []), **settings)
    if "deflate" in target:
        compressor = zlib.compressobj(wbits=-15)
        octets = deflated_octets(NOISE, compressor)
        expected = zlib.compressobj(1, zlib.DEFLATED, -12, 4)
        answer = Frame(BINARY, deflated_octets(NOISE, expected), rsv=4)
        sent = client_frame(BINARY, octets, rsv=4)
    elif target == "/json":
        answer = Frame(TEXT, b"[" + b"1," * STEP + b"1]")
        sent = client_frame(TEXT, b" [ " + b"1 , " * STEP + b" 1 ] ")
    else:
        answer = Frame(BINARY, NOISE)
        sent = client_frame(BINARY, NOISE)
    peer.protocol.dataReceived(sent + behind)
    wait_for_task(peer)
    assert peer.transport.producerState == "paused"
    assert peer.protocol.count() >= len(answer.payload) // 2
    return peer, answer


def wait_for_task(peer: Peer) -> None:
    """Wait until all of a message has been read, and its delay is over."""
    for _ in range(1000):
        if peer.protocol._tasks is not None:
            return
        peer.protocol.factory.clock.advance(0.001)
    pytest.fail("there was nothing that takes long")


@pytest.mark.parametrize("target", LONG)
def test_what_comes_behind_a_message_that_takes_long_is_answered_behind_it(slow: SlowClock, target: str) -> None:
    behind = client_frame(PING, b"1") + text("22") + client_frame(PING, b"3")
    peer, answer = begin_long(slow, target, behind)
    peer.protocol.dataReceived(text("4") + client_frame(CLOSE, close_payload(4000)))
    found = work_off(peer)
    expected = [answer, Frame(PONG, b"1"), *texts("22"), Frame(PONG, b"3"), *texts("4"), close(4000)]
    if "delay" in target:  # pongs are not
        assert sorted(found) == sorted(expected)
        for frames in (found, expected):
            frames[:] = [frame for frame in frames if frame.opcode != PONG]
    assert found == expected
    assert peer.transport.disconnecting
    assert peer.protocol.count() == 0


@pytest.mark.parametrize("target", LONG)
def test_a_drain_waits_for_a_message_that_takes_long(slow: SlowClock, target: str) -> None:
    peer, answer = begin_long(slow, target)
    peer.protocol.go_away()
    assert peer.protocol.in_open_state
    assert work_off(peer) == [answer, close(1001, "going away")]
    assert peer.protocol.traffic.sent_messages == 1


@pytest.mark.parametrize("target", LONG)
@pytest.mark.parametrize("end", ["at once", "failed"])
def test_our_own_close_comes_behind_a_message_that_takes_long(slow: SlowClock, target: str, end: str) -> None:
    peer, answer = begin_long(slow, target)
    if end == "at once":
        peer.protocol.go_away(at_once=True)
    else:
        peer.protocol.fail(1013, "the server is full")
    assert not peer.transport.half_closed
    assert peer.protocol in peer.protocol.factory._closing
    found = work_off(peer)
    # What is not proven to be JSON yet is too late.
    assert found[:-1] == ([] if target == "/json" else [answer])
    assert found[-1] == (close(1001, "going away") if end == "at once" else close(1013, "the server is full"))
    assert peer.transport.half_closed == (end == "failed")
    assert peer.transport.producerState == "producing"
    peer.protocol.dataReceived(client_frame(CLOSE, close_payload(1001)))
    assert peer.take() == b""


@pytest.mark.parametrize("target", LONG)
def test_the_end_of_what_a_client_sends_does_not_overtake(slow: SlowClock, target: str) -> None:
    peer, answer = begin_long(slow, target)
    peer.protocol.readConnectionLost()
    assert not peer.transport.disconnecting
    assert work_off(peer) == [answer]
    assert peer.transport.disconnecting


@pytest.mark.parametrize("target", LONG)
def test_a_reset_drops_what_is_still_to_be_done(slow: SlowClock, target: str) -> None:
    peer, _ = begin_long(slow, target, text("behind"))
    peer.take()
    peer.protocol.give_up()
    assert peer.transport.aborted
    factory = peer.protocol.factory
    peer.lose()
    assert factory.budget.total == 0
    for _ in range(10):
        slow.advance(0)
    assert peer.take() == b""


def test_a_connection_that_is_lost_within_its_work_is_freed_when_its_turn_comes(slow: SlowClock) -> None:
    peer, _ = begin_long(slow, "/?fragment=50", text("behind"))
    reference = weakref.ref(peer.protocol)
    gc.collect()
    gc.disable()
    try:
        peer.lose()
        del peer
        slow.advance(0)
        assert reference() is None
    finally:
        gc.enable()


def test_a_ping_does_not_come_between_fragments(slow: SlowClock) -> None:
    peer, answer = begin_long(slow, "/?fragment=50")
    peer.protocol.ping()
    assert work_off(peer) == [answer, Frame(PING, b"")]


@pytest.mark.parametrize(
    ("end", "last"), [("close=4000", [close(4000)]), ("close=1006", []), ("abort", []), ("stall", [])]
)
def test_the_end_comes_after_a_message_that_takes_long(slow: SlowClock, end: str, last: list[Frame]) -> None:
    peer, answer = begin_long(slow, f"/?delay=1ms&fragment=50&{end}&after=1")
    assert work_off(peer) == [answer, *last]
    assert (peer.protocol.is_paused_by_url, peer.protocol.in_open_state) == (end in {"abort", "stall"}, end == "stall")


def test_what_is_held_behind_a_message_that_takes_long_comes_after_it_and_before_the_close(slow: SlowClock) -> None:
    peer = opened(slow, "/?delay=1s&fragment=50")
    peer.protocol.dataReceived(client_frame(BINARY, NOISE))
    peer.protocol.dataReceived(text("b", "c"))
    assert work_off(peer) == []
    slow.advance(1)
    wait_for_task(peer)
    peer.protocol.go_away(at_once=True)
    assert work_off(peer) == [Frame(BINARY, NOISE), *texts("b", "c"), close(1001, "going away")]


def test_thousands_of_held_messages_are_sent_in_turns(slow: SlowClock) -> None:
    peer = opened(slow, "/?delay=50s", ping_interval=0)
    letters = [chr(0x4E00 + number) for number in range(1000)]
    peer.protocol.dataReceived(text(*letters))
    assert work_off(peer) == []
    slow.advance(50)
    slow.advance(0)  # what is due has stood in line
    found = come(peer)
    assert 0 < len(found) < 10
    assert found + work_off(peer) == texts(*letters)
    assert peer.protocol.count() == 0


def test_too_many_fragments_are_found_behind_what_takes_long(slow: SlowClock) -> None:
    peer, _ = begin_long(slow, "/?delay=1ms&compression=deflate&fragment=50", max_fragments=100)
    assert work_off(peer) == [close(1008, "too many fragments")]
    assert peer.transport.half_closed
    peer, _ = begin_long(slow, "/?compression=deflate&fragment=50", max_fragments=100)
    peer.protocol.go_away(at_once=True)
    assert work_off(peer) == [close(1001, "going away")], "it was decided on before"


def test_what_is_found_not_to_be_json_closes_in_its_turn(slow: SlowClock) -> None:
    peer = opened(slow, "/json")
    peer.protocol.dataReceived(text("[" + "1," * STEP, "[]"))
    assert peer.protocol._tasks is not None
    peer.protocol.ping()
    (found,) = work_off(peer)
    assert found.payload[:2] == (1007).to_bytes(2, "big")
    assert peer.transport.half_closed


def test_a_failure_within_work_closes_with_1011(slow: SlowClock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, _ = begin_long(slow, "/?fragment=50")
    come(peer)
    monkeypatch.setattr(peer.protocol, "_note_sent", lambda *_: 1 / 0)
    frames = come_after_work(peer)
    assert frames[-1] == close(1011, "internal error")
    assert peer.transport.half_closed


def come_after_work(peer: Peer) -> list[Frame]:
    """Do the same as `work_off`, but what arrives begins within a message."""
    while peer.protocol.is_behind:
        peer.protocol.factory.clock.advance(0)
    return come(peer)


@pytest.mark.parametrize("target", ["/json", "/"])
def test_a_message_that_is_deflated_anew_takes_long_without_faults_too(slow: SlowClock, target: str) -> None:
    peer = opened(slow, target, DEFLATE, compression=Compression.DEFLATE)
    compressor, inflater = zlib.compressobj(9, wbits=-15), zlib.decompressobj(-15)
    payloads = [b'"' + random.Random(number).randbytes(3 * STEP).hex().encode() + b'"' for number in range(3)]
    for payload in payloads:
        octets = deflated_octets(payload, compressor)
        peer.protocol.dataReceived(client_frame(TEXT, octets, rsv=4))
    wait_for_task(peer)
    found = work_off(peer)
    assert [inflater.decompress(frame.payload + b"\x00\x00\xff\xff") for frame in found] == payloads


# Pings.


def test_pings(clock: Clock) -> None:
    peer = opened(clock, "/?ping=5s", ping_interval=0)
    clock.advance(4.9)
    assert peer.take() == b""
    clock.advance(0.1)
    assert come(peer) == [Frame(PING, b"")]
    clock.pump([5] * 3)
    assert come(peer) == [Frame(PING, b"")] * 3


# Lost messages.

LOST = {(0.5, 7): "ABDFG", (0.1, 7): "DG", (0.5, 8): "ACEFH", (1.0, 1): "ABCDEFGH"}
"""Which of eight messages are lost for a seed. A seed must mean the same in every version, so these never change."""


@pytest.mark.parametrize(("drop", "seed"), LOST)
def test_the_same_seed_loses_the_same_messages(clock: Clock, drop: float, seed: int) -> None:
    for _ in range(2):
        peer = opened(clock, f"/?drop={drop}&seed={seed}")
        kept = b"".join(frame.payload for frame in peer.frames(text(*"ABCDEFGH")))
        assert kept.decode() == "".join(letter for letter in "ABCDEFGH" if letter not in LOST[drop, seed])


def test_without_a_seed_each_connection_loses_others(clock: Clock) -> None:
    letters = [chr(0x4E00 + number) for number in range(1000)]
    kept = [peer.frames(text(*letters)) for peer in (opened(clock, "/?drop=.5") for _ in range(2))]
    assert kept[0] != kept[1]
    assert all(300 < len(frames) < 700 for frames in kept)


def test_what_is_lost_does_not_count(clock: Clock) -> None:
    peer = opened(clock, "/?drop=.5&seed=7&close=1001&after=2")
    assert peer.frames(text(*"ABCDEFGH")) == [*texts("C", "E"), close(1001)]


def test_json_is_proven_before_it_is_late(clock: Clock) -> None:
    peer = opened(clock, "/json?delay=1s")
    found = peer.frames(text("[ 1 ]", "nope"))
    assert found[0] == Frame(TEXT, b"[1]")
    assert found[1].payload[:2] == (1007).to_bytes(2, "big")


# All together.


def test_every_parameter_at_once(clock: Clock) -> None:
    query = "handshake-delay=1s&delay=2s&drop=.5&seed=7&fragment=1&ping=3s&close=4000&reason=end&after=2&abort"
    peer = Peer(make_factory(clock, ping_interval=0))
    peer.send(handshake(f"/?{query}") + text(*"ABCDEFGH"))
    clock.advance(1)
    assert peer.take().endswith(b"\r\n\r\n")
    clock.advance(2)
    assert come(peer) == [*texts("C", "E"), close(4000, "end")]
    clock.advance(0)
    assert peer.transport.aborted
    peer.lose()
    clock.pump([TICK] * 2)
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    "query", ["delay=1s", "stall", "abort", "close=1006", "handshake-delay=1s", "status=503", "ping=1s", "drop=.5"]
)
def test_a_lost_connection_is_freed_without_the_garbage_collector(clock: Clock, query: str) -> None:
    assert_freed_at_once(clock, lambda peer: peer.send(handshake(f"/?{query}") + text("a")))


def test_parameters_in_any_order_mean_the_same(clock: Clock) -> None:
    pairs = ["close=1001", "reason=bye", "after=1", "fragment=1"]
    for order in itertools.permutations(pairs):
        assert opened(clock, "/?" + "&".join(order)).frames(text("a")) == [*texts("a"), close(1001, "bye")]


# Over real sockets.


def test_only_who_asks_for_nothing_is_leased(native: Native) -> None:
    with bed(native) as made:
        assert made.link(target="/?token=1").protocol.lease is not None
        faulty = made.link(target="/?fragment=1")
        assert faulty.protocol.lease is None
        assert faulty.protocol._codec is None
        faulty.send(text("ab"))
        assert faulty.receive(6) == server_frame(TEXT, b"a", fin=False) + server_frame(CONTINUATION, b"b")
        assert faulty.protocol.lease is None


def test_an_abort_is_a_reset_behind_all_that_was_sent() -> None:
    with bed(None) as made:
        link = made.link(target="/?abort&after=2")
        payload = bytes(2**20)
        link.send(client_frame(BINARY, payload) * 3)
        for _ in range(2):
            assert link.receive(len(payload) + 10) == server_frame(BINARY, payload)
        while not link.has_ended:
            made.loop.advance(LOOK)
            made.loop.turn(0.01)
            link.take()
        assert link.was_reset
        assert not link.received


def test_who_stalls_reads_nothing_that_the_kernel_does_not_hold() -> None:
    with bed(None) as made:
        link = made.link(target="/?stall&after=1")
        link.send(text("a", "b"))
        assert link.receive(3) == server_frame(TEXT, b"a")
        octets, sent = bytes(2**16), 1
        while sent:
            made.loop.turn(0.01)
            sent = link.push(octets)
        assert link.protocol.count() < 100
        assert not link.take()
