"""The opening handshake over a fake transport: which requests are answered with 101, with a page, or with a refusal."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echod.core.counts import Outcome
from echod.core.deadlines import TICK
from echod.http.answer import Answer
from echod.http.h2 import frames
from echod.http.request import PageRequest
from echod.upstream.carriers import Carrier
from echod.websocket.opening import SMALL_ANSWER
from tests.fakes import Peer, make_factory
from tests.frames import (
    ACCEPT,
    TEXT,
    client_frame,
    handshake,
    server_frame,
)
from tests.h2_client import Goaway, Http2Client
from tests.websocket.peers import TLS_FAULT, opened


def test_the_opening_handshake(clock: Clock) -> None:
    answer = Peer(make_factory(clock)).open("/any/path?and=query")
    assert ACCEPT in answer
    assert b"Server" not in answer


def test_the_first_subprotocol_offered_is_chosen(clock: Clock) -> None:
    assert b"\r\nSec-WebSocket-Protocol: b\r\n" in Peer(make_factory(clock)).open("/", "Sec-WebSocket-Protocol: b, a")
    assert b"Sec-WebSocket-Protocol" not in Peer(make_factory(clock)).open()


def test_frames_behind_the_handshake_are_echoed(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    answer = peer.send(handshake() + client_frame(TEXT, b"early"))
    assert answer.endswith(b"\r\n\r\n" + server_frame(TEXT, b"early"))


def test_a_refusal_is_answered_and_the_connection_half_closed(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    assert peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nmore").startswith(b"HTTP/1.1 426 ")
    assert peer.transport.half_closed
    assert peer.send(b"still more") == b""


def test_plain_http_is_answered_once_and_the_connection_closed(clock: Clock) -> None:
    asked: list[PageRequest] = []

    def answer(request: PageRequest) -> Answer:
        asked.append(request)
        return Answer(200, [], b"a page")

    peer = Peer(factory := make_factory(clock, pages=answer, close_timeout=5))
    octets = peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + handshake())
    assert octets == b"HTTP/1.1 200 OK\r\n\r\na page"
    assert peer.transport.half_closed
    # It is a live connection all the same, and has a deadline; neither a drain nor what comes behind gets another
    # answer.
    assert peer.send(handshake()) == b""
    assert peer.protocol in factory.live
    drained = factory.drain()
    assert peer.take() == b""
    clock.pump([TICK] * 49)
    assert not peer.transport.aborted
    clock.pump([TICK] * 3)
    assert peer.transport.aborted
    peer.lose()
    assert drained.called
    assert len(asked) == 1


def goaway_of(octets: bytes) -> Goaway | None:
    client = Http2Client()
    client.take(octets)
    return client.goaway


@pytest.mark.parametrize("octets", [handshake(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01", b"no\nhead"])
def test_something_else_where_http2_was_agreed_on(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, lines: list[str], octets: bytes
) -> None:
    monkeypatch.setattr(Carrier, "agreed_protocol", b"h2")
    peer = Peer(make_factory(clock))
    why = "does not speak HTTP/2, on which it agreed with TLS (ALPN)"
    assert goaway_of(peer.send(octets)) == (0, ErrorCodes.PROTOCOL_ERROR, why)
    assert peer.transport.half_closed
    assert lines == [f"#1: refused a handshake from 192.0.2.1: {why}"]


def test_a_preface_that_is_cut_while_there_is_no_room(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Carrier, "agreed_protocol", b"h2")
    factory = make_factory(clock)
    factory.budget.is_tight = True
    answer = Peer(factory).send(frames.PREFACE[:5])
    assert goaway_of(answer) == (0, ErrorCodes.ENHANCE_YOUR_CALM, "Too much is buffered")


@pytest.mark.parametrize("agreed", [b"", b"h2"])
def test_the_preface_where_it_may_come(clock: Clock, monkeypatch: pytest.MonkeyPatch, agreed: bytes) -> None:
    monkeypatch.setattr(Carrier, "agreed_protocol", agreed)
    factory = make_factory(clock)
    Peer(factory).send(frames.PREFACE)
    assert len(factory.sessions.live) == 1


def test_the_preface_where_http1_was_agreed_on(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Carrier, "agreed_protocol", b"http/1.1")
    assert Peer(make_factory(clock)).send(frames.PREFACE).startswith(b"HTTP/1.1 505 ")


def test_goaway_needs_http2(clock: Clock) -> None:
    answer = Peer(make_factory(clock)).send(handshake("/?goaway"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"Bad request: the parameter goaway has no effect over HTTP/1.1.\n")


def test_a_page_is_refused_when_too_much_is_held_but_not_a_health_check(clock: Clock) -> None:
    factory = make_factory(
        clock, pages=lambda request: Answer(200, [], b"ok" if request.path == "/healthz" else bytes(SMALL_ANSWER))
    )
    for is_tight, answer in ((False, b"HTTP/1.1 200 "), (True, b"HTTP/1.1 503 ")):
        factory.budget.is_tight = is_tight
        assert Peer(factory).send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(answer)
        assert Peer(factory).send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"\r\n\r\nok")
    factory.budget.is_tight = False


def test_a_head_that_is_not_whole_is_held_and_refused_when_too_much_is(clock: Clock) -> None:
    factory = make_factory(clock)
    peers = [Peer(factory), Peer(factory)]
    for peer in peers:
        assert peer.send(b"GET / HTTP/1.1\r\nX: ") == b""
    assert factory.budget.total == 2 * 19
    factory.budget.is_tight = True
    assert peers[0].send(b"a").startswith(b"HTTP/1.1 503 ")
    assert factory.budget.held == 19
    assert Peer(factory).open("/")
    factory.budget.is_tight = False
    assert peers[1].send(b"b\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 426 ")
    assert factory.budget.held == 0


def test_a_proxy_over_a_unix_socket_may_say_who_the_client_is(clock: Clock) -> None:
    factory = make_factory(clock, trust_proxy=1, max_connections_per_address=1)
    peer = Peer(factory, host=None)
    peer.open("/", "X-Forwarded-For: 192.0.2.7")
    assert (peer.protocol.address, peer.protocol.who) == ("192.0.2.7", "192.0.2.7")
    assert Peer(factory, host=None).send(handshake("/", "X-Forwarded-For: 192.0.2.7")).startswith(b"HTTP/1.1 429 ")
    other = Peer(factory, host=None)
    other.open()
    assert (other.protocol.address, other.protocol.who) == (None, "a local client")


def test_what_is_not_http_is_closed_without_a_word(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    assert peer.send(b"\x16\x03\x01") == b""
    assert peer.transport.half_closed


def test_a_handshake_has_its_time(clock: Clock) -> None:
    peer = Peer(make_factory(clock, handshake_timeout=5))
    peer.send(handshake()[:-1])
    clock.pump([TICK] * 49)
    assert not peer.transport.aborted
    clock.pump([TICK] * 3)
    assert peer.transport.aborted


@pytest.mark.parametrize(
    ("error", "is_opened", "outcome"),
    [
        (TLS_FAULT, False, Outcome.REFUSED),
        (TLS_FAULT, True, Outcome.LOST),
        (SSL.Error([]), False, Outcome.LOST),
        (SSL.SysCallError(-1, "Unexpected EOF"), False, Outcome.LOST),
        (ConnectionDone(), False, Outcome.LOST),
    ],
)
def test_a_fault_of_tls_before_the_opening_handshake_is_a_refused_one(
    clock: Clock, error: Exception, is_opened: bool, outcome: Outcome
) -> None:
    peer = opened(clock) if is_opened else Peer(make_factory(clock))
    counts = peer.protocol.factory.counts
    peer.protocol.connectionLost(Failure(error))
    assert counts.outcomes == {outcome: 1}
    assert counts.refusals == ({("none", "TLS failed"): 1} if outcome is Outcome.REFUSED else {})
