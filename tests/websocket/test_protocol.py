"""One connection over a fake transport: it echoes, its limits hold, and it always closes.

What is compared with is `tests.frames`, written from the RFC, not what Autobahn or echod would make of it.
"""

from __future__ import annotations

import io
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from echod.core import log
from echod.core.counts import Outcome
from echod.core.deadlines import TICK
from echod.core.log import LogFormat
from echod.http.request import PageRequest
from echod.settings import Compression
from echod.websocket.protocol import SMALL_ANSWER
from tests.fakes import Peer, assert_freed_at_once, make_factory
from tests.frames import (
    ACCEPT,
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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def peer(clock: Clock) -> Peer:
    return opened(clock)


def opened(clock: Clock, target: str = "/", *headers: str, **settings: Any) -> Peer:
    peer = Peer(make_factory(clock, **settings))
    peer.open(target, *headers)
    return peer


def closed_with(frames: list[Frame]) -> int:
    assert frames[-1].opcode == CLOSE
    return int.from_bytes(frames[-1].payload[:2], "big")


# Opening.


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
    factory = make_factory(clock, pages=lambda request: asked.append(request) or b"a page", close_timeout=5)  # type: ignore[func-returns-value]
    peer = Peer(factory)
    assert peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + handshake()) == b"a page"
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


def test_a_page_is_refused_when_too_much_is_held_but_not_a_health_check(clock: Clock) -> None:
    factory = make_factory(
        clock, pages=lambda request: b"ok" if request.path == "/healthz" else bytes(SMALL_ANSWER + 1)
    )
    for is_tight, answer in ((False, bytes(SMALL_ANSWER + 1)), (True, b"HTTP/1.1 503 ")):
        factory.budget.is_tight = is_tight
        assert Peer(factory).send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(answer)
        assert Peer(factory).send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == b"ok"
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


# Echoing.

SIZES = [0, 1, 2, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 200_000]


@pytest.mark.parametrize("step", [0, 1, 1000, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_each_message_comes_back_as_it_was(clock: Clock, opcode: int, step: int) -> None:
    sizes = [size for size in SIZES if step != 1 or size < 5000]
    payloads = [bytes(random.Random(size).choices(range(32, 127), k=size)) for size in sizes]
    octets = b"".join(client_frame(opcode, payload) for payload in payloads)
    peer = opened(clock)
    answer = b"".join(
        peer.send(octets[start : start + (step or len(octets))]) for start in range(0, len(octets), step or len(octets))
    )
    assert answer == b"".join(server_frame(opcode, payload) for payload in payloads)


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.text(max_size=120)), max_size=20), st.data())
def test_any_messages_cut_anywhere(messages: list[tuple[int, str]], data: st.DataObject) -> None:
    octets = b"".join(
        client_frame(opcode, text.encode()[:125] if opcode == PING else text.encode()) for opcode, text in messages
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=10)))
    peer = opened(Clock())
    answer = b"".join(peer.send(octets[a:b]) for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True) if a < b)
    expected = [(PONG, text.encode()[:125]) if opcode == PING else (opcode, text.encode()) for opcode, text in messages]
    assert answer == b"".join(server_frame(*frame) for frame in expected)


def test_the_answers_of_one_read_are_one_write(peer: Peer) -> None:
    writes: list[bytes] = []
    peer.transport.write = writes.append  # type: ignore[method-assign]
    peer.send(b"".join(client_frame(opcode, b"x") for opcode in (TEXT, PING, BINARY) * 100))
    assert len(writes) == 1
    assert len(split(writes[0])[0]) == 300


def test_a_fragmented_message_is_echoed_as_one_with_pings_between(peer: Peer) -> None:
    octets = [
        client_frame(TEXT, "Grüße".encode()[:3], fin=False),
        client_frame(PING, b"?"),
        client_frame(CONTINUATION, b"", fin=False),
        client_frame(CONTINUATION, "Grüße".encode()[3:]),
    ]
    assert peer.frames(b"".join(octets)) == [Frame(PONG, b"?"), Frame(TEXT, "Grüße".encode())]


TLS_FAULT = SSL.Error([("SSL routines", "", "no shared cipher")])


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


def test_messages_are_logged_when_asked_for(clock: Clock) -> None:
    lines: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_format") == "recv: {text}":
            lines.append(event["text"])

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        peer = opened(clock, log_messages=True, log_cut=5)
        peer.send(client_frame(TEXT, b"a\nb") + client_frame(BINARY, b"\x00\x01") + client_frame(TEXT, b"123456"))
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert lines == [r"a\nb", r"\x00\x01", "12345… (6 octets)"]


def test_clients_bring_about_nine_lines_a_second(clock: Clock) -> None:
    out = io.StringIO()
    limiter = log.make_observer(out, LogFormat.TEXT)
    limiter.start(clock)
    globalLogPublisher.addObserver(limiter)
    try:
        factory = make_factory(clock)
        for _ in range(10):
            Peer(factory).send(b"POST / HTTP/1.1\r\n\r\n")
            Peer(factory).protocol.connectionLost(Failure(TLS_FAULT))
            opened(clock).send(client_frame(3, b""))
        clock.advance(1)
    finally:
        globalLogPublisher.removeObserver(limiter)
        limiter.stop()
    lines = [line.partition("] ")[2] for line in out.getvalue().splitlines()]
    refusals = ["refused a handshake from 192.0.2.1: 405 Only GET and HEAD are answered here"]
    refusals.append("refused a handshake from 192.0.2.1: TLS: no shared cipher")
    assert [lines.count(line) for line in refusals] == [2, 2]
    assert len([line for line in lines if line.startswith("closing 192.0.2.1: 1002 ")]) == 4
    assert lines[8:] == ["22 lines left out in the last second: 22 of echod.websocket.protocol"]


# /json.


def test_json_is_echoed_compactly(clock: Clock) -> None:
    peer = opened(clock, "/json?and=query")
    assert peer.frames(client_frame(TEXT, b'{ "a" : [1, 2 ] }')) == [Frame(TEXT, b'{"a":[1,2]}')]


@pytest.mark.parametrize(
    ("frame", "code"),
    [(client_frame(TEXT, b"nope"), 1007), (client_frame(BINARY, b"1"), 1007), (client_frame(TEXT, b"[1,1,1,1]"), 1009)],
)
def test_what_is_not_json_closes(clock: Clock, frame: bytes, code: int) -> None:
    peer = opened(clock, "/json", max_json_values=3)
    assert closed_with(peer.frames(client_frame(TEXT, b"0") + frame)) == code
    assert peer.transport.half_closed


# Compression.


class Deflater:
    """A client's end of permessage-deflate with context takeover (RFC 7692 section 7.2)."""

    def __init__(self, level: int = 6, memory: int = 8) -> None:
        self.compressor = zlib.compressobj(level, zlib.DEFLATED, -15, memory)
        self.decompressor = zlib.decompressobj(-15)

    def deflate(self, payload: bytes) -> bytes:
        return deflated_octets(payload, self.compressor)

    def inflate(self, frame: Frame) -> bytes:
        return self.decompressor.decompress(frame.payload + b"\x00\x00\xff\xff") if frame.rsv == 4 else frame.payload


@pytest.mark.parametrize("compression", [Compression.MIRROR, Compression.DEFLATE])
@pytest.mark.parametrize("memory", [1, 8])
def test_compressed_messages(clock: Clock, memory: int, compression: Compression) -> None:
    client, limit = Deflater(memory=memory), 100_000
    peer = opened(clock, "/", DEFLATE, max_message_size=limit, compression=compression)
    noise = random.Random(1).randbytes
    for payload in (b"", b"short", b"long" * 100, noise(63), noise(64), b"z" * limit, noise(limit)):
        octets = client_frame(BINARY, client.deflate(payload), rsv=4)
        found, _ = split(b"".join(peer.send(octets[start : start + 65536]) for start in range(0, len(octets), 65536)))
        assert [client.inflate(frame) for frame in found] == [payload]
        is_deflated = len(payload) >= 64 or compression is Compression.MIRROR
        assert found[0].rsv == (4 if is_deflated else 0), "what can't gain is not compressed"


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_message_that_inflates_over_the_limit_is_too_big(clock: Clock, pieces: int) -> None:
    peer = opened(clock, "/", DEFLATE, max_message_size=100_000)
    octets = client_frame(BINARY, Deflater().deflate(bytes(100_001)), rsv=4)
    step = len(octets) // pieces + 1
    answer = b"".join(peer.send(octets[start : start + step]) for start in range(0, len(octets), step))
    assert closed_with(split(answer)[0]) == 1009


def test_a_bomb_is_not_inflated(clock: Clock) -> None:
    peer = opened(clock, "/", DEFLATE, max_message_size=100_000)
    assert closed_with(peer.frames(client_frame(BINARY, Deflater(9).deflate(bytes(60_000_000)), rsv=4))) == 1009


def test_what_does_not_inflate_is_invalid(clock: Clock) -> None:
    peer = opened(clock, "/", DEFLATE)
    assert closed_with(peer.frames(client_frame(BINARY, b"\xff\xff\xff", rsv=4))) == 1007


def test_compression_can_be_off(clock: Clock) -> None:
    assert b"Extensions" not in Peer(make_factory(clock, compression=Compression.OFF)).open("/", DEFLATE)


# Limits.


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (client_frame(BINARY, bytes(1001)), 1009),
        (client_frame(BINARY, bytes(1000), fin=False) + client_frame(CONTINUATION, b"x"), 1009),
        (client_frame(BINARY, b"", claim=2**30), 1009),
        (client_frame(BINARY, b"", claim=2**63 - 1), 1009),
        (client_frame(BINARY, b"", claim=2**63), 1002),
        (client_frame(TEXT, b"", fin=False) + client_frame(CONTINUATION, b"", fin=False) * 10, 1008),
        (client_frame(PING, b"", claim=2**20), 1002),
        (client_frame(TEXT, b"x", mask=None), 1002),
        (client_frame(TEXT, b"x", rsv=1), 1002),
        (client_frame(3, b"x"), 1002),
        (client_frame(CONTINUATION, b"x"), 1002),
        (client_frame(TEXT, b"\xff"), 1007),
        (client_frame(CLOSE, close_payload(1005)), 1002),
        (client_frame(CLOSE, close_payload(1000) + b"\xff"), 1007),
        (client_frame(CLOSE, b"x"), 1002),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_over_a_limit_or_wrong_fails_the_connection(clock: Clock, octets: bytes, code: int) -> None:
    peer = opened(clock, max_message_size=1000, max_fragments=10)
    answer = peer.frames(client_frame(TEXT, b"before") + octets + client_frame(TEXT, b"behind"))
    assert answer[0] == Frame(TEXT, b"before")
    assert closed_with(answer) == code
    assert len(answer) == 2
    assert peer.transport.half_closed
    assert peer.send(client_frame(TEXT, b"later")) == b""


def test_fragments_are_counted_for_each_message(clock: Clock) -> None:
    peer = opened(clock, max_fragments=3)
    message = (
        client_frame(TEXT, b"a", fin=False)
        + client_frame(CONTINUATION, b"b", fin=False)
        + client_frame(CONTINUATION, b"c")
    )
    assert peer.frames(message * 5) == [Frame(TEXT, b"abc")] * 5


def test_an_exception_closes_with_1011_and_goes_no_further(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened(clock)
    monkeypatch.setattr(peer.protocol, "onMessage", lambda *_: 1 / 0)
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        assert closed_with(peer.frames(client_frame(TEXT, b"x"))) == 1011
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    assert any("log_failure" in event for event in events)


# Backpressure.


def test_who_does_not_read_is_not_read(peer: Peer) -> None:
    assert peer.transport.producer is peer.protocol
    peer.protocol.pauseProducing()
    assert peer.transport.producerState == "paused"
    peer.protocol.resumeProducing()
    assert peer.transport.producerState == "producing"
    peer.protocol.stopProducing()


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


def test_no_answer_follows_our_close_frame(peer: Peer) -> None:
    peer.protocol.begin_close(1000, "")
    assert closed_with(split(peer.take())[0]) == 1000
    peer.protocol.answer(b"late", False, is_plain=True)
    assert peer.take() == b""


def test_who_is_closed_by_what_its_lease_gives_back_waits_for_nothing(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer.protocol, "_take_back", lambda: peer.protocol.fail(1002, "not a frame"))
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


# Closing.


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        *(close_payload(code, reason) for code in (1000, 1001, 1011, 3000, 4999) for reason in ("", "bye", "ü" * 61)),
    ],
    ids=repr,
)
def test_close_code_and_reason_are_echoed(peer: Peer, payload: bytes) -> None:
    assert peer.frames(client_frame(TEXT, b"x") + client_frame(CLOSE, payload)) == [
        Frame(TEXT, b"x"),
        Frame(CLOSE, payload),
    ]
    assert peer.transport.disconnecting
    assert not peer.transport.half_closed


def test_no_close_outlives_its_deadline(clock: Clock) -> None:
    for octets in (client_frame(CLOSE), client_frame(3, b"a failure")):
        peer = opened(clock, close_timeout=2)
        peer.send(octets)
        clock.pump([TICK] * 19)
        assert not peer.transport.aborted
        clock.pump([TICK] * 3)
        assert peer.transport.aborted


def test_a_second_step_does_not_put_off_the_deadline(clock: Clock) -> None:
    peer = opened(clock, close_timeout=2)
    peer.protocol.go_away()
    clock.pump([TICK] * 15)
    peer.send(client_frame(CLOSE, close_payload(1001)))
    clock.pump([TICK] * 7)
    assert peer.transport.aborted


def test_who_closes_its_half_still_gets_its_answers(clock: Clock) -> None:
    peer = opened(clock)
    peer.send(client_frame(TEXT, b"x"))
    peer.protocol.readConnectionLost()
    peer.protocol.writeConnectionLost()
    assert peer.transport.disconnecting
    assert not peer.transport.aborted
    clock.pump([1] * 7)
    assert peer.transport.aborted


def test_silence_is_pinged_and_then_reset(clock: Clock) -> None:
    peer = opened(clock, ping_interval=4, ping_timeout=2)
    clock.pump([TICK] * 45)
    assert split(peer.take())[0] == [Frame(PING, b"")]
    peer.send(client_frame(PONG))
    clock.pump([TICK] * 35)
    assert not peer.transport.aborted
    clock.pump([TICK] * 40)
    assert peer.transport.aborted


# Work that takes long.


@pytest.fixture
def _short_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a connection work for one slice at a time."""
    monkeypatch.setattr("echod.core.turns.SHARE", 0)


def pings(count: int) -> bytes:
    return b"".join(client_frame(PING, b"%d" % i) for i in range(count))


def pongs(count: int) -> bytes:
    return b"".join(server_frame(PONG, b"%d" % i) for i in range(count))


@pytest.mark.usefixtures("_short_shares")
def test_long_work_is_put_off_and_goes_on_in_order(clock: Clock, peer: Peer) -> None:
    answer = peer.send(pings(1000))
    assert 0 < len(answer) < len(pongs(1000))
    assert peer.transport.producerState == "paused"
    assert peer.protocol.count() > 1000
    answer += peer.send(client_frame(TEXT, b"what TLS had read already"))
    while clock.getDelayedCalls() and peer.transport.producerState == "paused":
        clock.advance(0)
        answer += peer.take()
    assert answer == pongs(1000) + server_frame(TEXT, b"what TLS had read already")
    assert peer.transport.producerState == "producing"


@pytest.mark.usefixtures("_short_shares")
def test_what_was_put_off_comes_before_going_away(clock: Clock, peer: Peer) -> None:
    answer = peer.send(pings(1000))
    peer.protocol.go_away()
    clock.pump([0] * 20)
    assert answer + peer.take() == pongs(1000) + server_frame(CLOSE, close_payload(1001, "going away"))


@pytest.mark.usefixtures("_short_shares")
def test_what_was_put_off_goes_with_the_connection(clock: Clock, peer: Peer) -> None:
    peer.send(pings(1000))
    peer.lose()
    clock.pump([0] * 20)
    assert peer.take() == b""


@pytest.mark.usefixtures("_short_shares")
def test_what_was_put_off_behind_a_failure_is_not_looked_at(clock: Clock, peer: Peer) -> None:
    answer = peer.send(pings(200) + client_frame(TEXT, b"\xff") + pings(1000))
    clock.pump([0] * 20)
    frames, _ = split(answer + peer.take())
    assert [frame.opcode for frame in frames] == [PONG] * 200 + [CLOSE]
    assert peer.transport.producerState == "producing"


# Going away.


def test_going_away_when_nothing_is_under_way(peer: Peer) -> None:
    peer.protocol.go_away()
    assert peer.take() == server_frame(CLOSE, close_payload(1001, "going away"))
    assert peer.send(client_frame(TEXT, b"too late") + client_frame(PING, b"too late")) == b"", (
        "nothing follows a Close frame"
    )
    assert not peer.transport.disconnecting
    peer.send(client_frame(CLOSE, close_payload(1001)))
    assert peer.transport.disconnecting


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_message_under_way_is_echoed_first(peer: Peer, cut: int) -> None:
    octets = client_frame(TEXT, b"under way")
    peer.send(octets[:cut])
    peer.protocol.go_away()
    assert peer.take() == b""
    assert peer.frames(octets[cut:]) == [Frame(TEXT, b"under way"), Frame(CLOSE, close_payload(1001, "going away"))]


def test_going_away_at_once(peer: Peer) -> None:
    peer.send(client_frame(TEXT, b"under way")[:5])
    peer.protocol.go_away(at_once=True)
    assert closed_with(split(peer.take())[0]) == 1001
    peer.protocol.go_away(at_once=True)
    assert peer.take() == b""


def test_going_away_before_it_is_open(clock: Clock) -> None:
    """Not before it has asked for something, unless there is no time left."""
    peer, other = Peer(make_factory(clock)), Peer(make_factory(clock))
    for each in (peer, other):
        each.protocol.go_away()
        assert each.take() == b""
    assert peer.send(b"G").startswith(b"HTTP/1.1 503 ")
    other.protocol.go_away(at_once=True)
    assert other.take().startswith(b"HTTP/1.1 503 ")


def test_a_failure_while_closing_says_nothing_more(peer: Peer) -> None:
    peer.protocol.go_away()
    peer.take()
    assert peer.send(client_frame(3)) == b""
    assert peer.transport.half_closed
    peer.protocol.go_on(1000)
    peer.protocol.wait_for_room()
    assert not peer.protocol.is_waiting


# Being forgotten.


@pytest.mark.parametrize("kind", ["echo", "deflate", "json", "refused", "failed", "never opened", "backlogged"])
def test_a_lost_connection_is_freed_without_the_garbage_collector(clock: Clock, kind: str) -> None:
    def use(peer: Peer) -> None:
        if kind == "refused":
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
        elif kind != "never opened":
            peer.open("/json" if kind == "json" else "/", *([DEFLATE] if kind == "deflate" else []))
            deflated = Deflater().deflate(json.dumps("x" * 100).encode())
            peer.send(client_frame(TEXT, deflated, rsv=4) if kind == "deflate" else client_frame(TEXT, b"1"))
        if kind == "failed":
            peer.send(client_frame(3))
        if kind == "backlogged":
            peer.protocol.pauseProducing()

    assert_freed_at_once(clock, use, max_connections_per_address=5)
