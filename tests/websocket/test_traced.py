"""`--log-frames` over real sockets: a line for each opening, answer, frame and end, and no more lines than there may
be."""

from __future__ import annotations

import gc
import io
import json
import re
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from echod.core.log import FIELDS, LONG_TEXT_SIZE, UNLIMITED, LogFormat, make_observer
from echod.http.answer import Answer
from echod.lane.native import Native
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, CLOSE, CONTINUATION, DEFLATE, PING, TEXT, client_frame, close_payload, handshake
from tests.loop import Bed, Link, bed
from tests.tls import Certificate
from tests.websocket.peers import TLS_FAULT, Deflater, opened


class Told:
    """What the log was told of connections."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "echod.connection":
            self.events.append(event)

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        lines = [formatEvent(event) for event in self.events]
        self.events.clear()
        return lines

    def fields(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of the lines about events of this kind."""
        found = [it[FIELDS] for it in self.events]
        return [fields for fields in found if fields.get("event") == event]


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    globalLogPublisher.addObserver(told)  # type: ignore[arg-type]
    yield told
    globalLogPublisher.removeObserver(told)  # type: ignore[arg-type]


@pytest.fixture
def made(native: Native) -> Iterator[Bed]:
    with bed(native, log_frames=True) as made:
        yield made


ANSWER = (
    "#1: answer: HTTP/1.1 101 Switching Protocols | Upgrade: websocket | Connection: Upgrade"
    " | Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)
UPGRADE = (
    "Host: localhost | Upgrade: websocket | Connection: Upgrade"
    " | Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ== | Sec-WebSocket-Version: 13"
)


def close(link: Link) -> None:
    """Close as a client does, and wait for the end."""
    link.send(client_frame(CLOSE, close_payload(1000, "b\x1bye")))
    link.receive_all()
    link.end()
    link.loop.until(lambda: not link.protocol.factory.live)


def test_a_whole_connection(made: Bed, told: Told) -> None:
    link = made.link("Cookie: a=secret", "authorization: Basic eA==", "X-Odd: odd", target="/chat?x=1")
    secrets = "Cookie: (8 octets, not shown) | authorization: (10 octets, not shown) | X-Odd: (3 octets, not shown)"
    assert told.take() == [f"#1: opening from 127.0.0.1: GET /chat?x=1 HTTP/1.1 | {UPGRADE} | {secrets}", ANSWER]
    assert (link.protocol.lease, link.protocol._codec) == (None, None)
    link.send(client_frame(TEXT, b"a\nb") + client_frame(BINARY, b"\x00\xff"))
    link.receive(5 + 4)
    assert told.take() == [
        r"#1: in text fin masked length=3: a\nb",
        r"#1: out text fin length=3: a\nb",
        r"#1: in binary fin masked length=2: \x00\xff",
        r"#1: out binary fin length=2: \x00\xff",
    ]
    link.send(client_frame(TEXT, b"x", fin=False) + client_frame(PING, b"?") + client_frame(CONTINUATION, b"y"))
    link.receive(3 + 4)
    assert told.take() == [
        "#1: in text masked length=1: x",
        "#1: in ping fin masked length=1: ?",
        "#1: out pong fin length=1: ?",
        "#1: in continuation fin masked length=1: y",
        "#1: out text fin length=2: xy",
    ]
    close(link)
    lines = told.take()
    assert lines[:2] == [
        r"#1: in close fin masked length=6: 1000 b\x1bye",
        r"#1: out close fin length=6: 1000 b\x1bye",
    ]
    assert re.fullmatch(
        r"#1: end: clean; closed by the client with 1000 b\\x1bye; received frames=6 messages=3 octets=7; "
        r"sent frames=5 messages=3 octets=7; after \d+\.\d+s",
        lines[2],
    )
    assert not lines[3:]


def test_the_fields(made: Bed, told: Told) -> None:
    link = made.link("Cookie: a=secret")
    link.send(client_frame(TEXT, b"hello"))
    link.receive(7)
    close(link)
    (opening,), (answer,), frames, (end,) = map(told.fields, ("opening", "answer", "frame", "end"))
    assert {event[FIELDS]["connection"] for event in told.events} == {"1"}
    assert (opening["peer"], opening["request"]) == ("127.0.0.1", "GET / HTTP/1.1")
    assert (opening["fields"][0], opening["fields"][-1]) == (["Host", "localhost"], ["Cookie", "(8 octets, not shown)"])
    assert (answer["status"], answer["fields"][0]) == ("HTTP/1.1 101 Switching Protocols", ["Upgrade", "websocket"])
    assert [frame["direction"] for frame in frames] == ["in", "out", "in", "out"]
    common = {"connection": "1", "event": "frame", "opcode": 1, "type": "text", "fin": True, "rsv": [], "length": 5}
    assert frames[0] == {**common, "direction": "in", "masked": True, "payload": "hello"}
    assert frames[1] == {**common, "direction": "out", "masked": False, "payload": "hello"}
    assert end.pop("seconds") >= 0
    sums = {"frames": 2, "messages": 1, "octets": 5}
    closed = {"outcome": "clean", "closer": "client", "code": 1000, "reason": r"b\x1bye"}
    assert end == {"connection": "1", "event": "end", **closed, "received": sums, "sent": sums}
    assert all(event[UNLIMITED] for event in told.events), "the rate is limited before the log"


def test_over_tls(made: Bed, told: Told, certificate: Certificate) -> None:
    link = made.secure_link(certificate)
    link.send(client_frame(TEXT, b"hello"))
    link.receive(7)
    assert told.take()[2:] == [
        "#1: in text fin masked length=5: hello",
        "#1: out text fin length=5: hello",
    ]


def test_a_deflated_message_is_as_on_the_wire(made: Bed, told: Told) -> None:
    link, deflater = made.link(DEFLATE), Deflater()
    told.take()
    octets = deflater.deflate(b"hello")
    link.send(client_frame(TEXT, octets, rsv=4))
    link.receive(2 + len(octets))
    shown = repr(octets)[2:-1]
    assert told.take() == [
        f"#1: in text fin rsv1 masked length={len(octets)}: {shown}",
        f"#1: out text fin rsv1 length={len(octets)}: {shown}",
    ]


@pytest.mark.parametrize(
    ("octets", "line", "code"),
    [
        (b"\x81\x01x", "#1: in text fin length=1: x", 1002),
        (client_frame(3, b"x", rsv=2), "#1: in opcode 3 fin rsv2 masked length=1: x", 1002),
        (client_frame(TEXT, b"\xff"), r"#1: in text fin masked length=1: \xff", 1007),
        (
            client_frame(BINARY, bytes(200))[:9],
            r"#1: in binary fin masked length=200: \x00… (incomplete, 1 octets came)",
            1009,
        ),
    ],
)
def test_the_frame_for_which_a_connection_fails(
    native: Native, told: Told, octets: bytes, line: str, code: int
) -> None:
    with bed(native, log_frames=True, max_message_size=100) as made:
        link = made.link()
        told.take()
        link.send(octets)
        link.receive_all()
        link.end()
        made.loop.until(lambda: not made.factory.live)
    first, second, third, last = told.take()
    assert first == line
    assert second.startswith(f"#1: closing 127.0.0.1: {code} ")
    assert re.match(rf"#1: out close fin length=\d+: {code} ", third)
    assert last.startswith(f"#1: end: failed; closed by the server with {code} ")


def test_a_client_that_leaves_in_the_middle_of_a_frame(made: Bed, told: Told) -> None:
    link = made.link()
    told.take()
    link.send(client_frame(BINARY, bytes(200))[:9])
    made.loop.until(lambda: link.protocol._received._came)  # type: ignore[attr-defined]
    link.reset()
    made.loop.until(lambda: not made.factory.live)
    frame, end = told.take()
    assert frame == r"#1: in binary fin masked length=200: \x00… (incomplete, 1 octets came)"
    assert end.startswith("#1: end: lost; closed by the client without a Close frame; received frames=1 messages=0 ")


@pytest.mark.parametrize(
    ("octets", "head", "answer", "outcome"),
    [
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nno field\r\n\r\n",
            "GET / HTTP/1.1 | Host: x | : (8 octets, not shown)",
            "400",
            "refused",
        ),
        (b"\x16\x03\x01", r"\x16\x03\x01", None, "refused"),
        (b"\r\n\r\n", "", None, "refused"),
        (b"GET /" + b"a" * 2000, "GET /" + "a" * 1019, "431", "refused"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1 | Host: x", "200", "page"),
    ],
    ids=["malformed", "not HTTP", "empty lines", "too long", "page"],
)
def test_what_is_no_websocket(
    clock: Clock, told: Told, octets: bytes, head: str, answer: str | None, outcome: str
) -> None:
    pages = Answer(200, [("X", "y")], b"body")
    peer = Peer(make_factory(clock, pages=lambda _: pages, log_frames=True, max_request_head=1000))
    for place in range(0, len(octets), 900):
        peer.send(octets[place : place + 900])
    peer.lose()
    lines = [line for line in told.take() if ": refused a handshake" not in line]
    assert lines[0] == f"#1: opening from 192.0.2.1: {head}"
    if answer is not None:
        assert lines[1].startswith(f"#1: answer: HTTP/1.1 {answer} ")
        assert "body" not in lines[1]
    nothing = "frames=0 messages=0 octets=0"
    assert lines[-1] == f"#1: end: {outcome}; received {nothing}; sent {nothing}; after 0.0s"
    assert len(lines) == 2 + (answer is not None)


def test_a_connection_with_which_tls_failed(clock: Clock, told: Told) -> None:
    Peer(make_factory(clock, log_frames=True)).protocol.connectionLost(Failure(TLS_FAULT))
    refused, end = told.take()
    assert refused == "#1: refused a handshake from 192.0.2.1: TLS: no shared cipher"
    assert end.startswith("#1: end: refused; received ")


def test_an_empty_line_before_the_head_is_no_head(clock: Clock, told: Told) -> None:
    peer = Peer(make_factory(clock, log_frames=True))
    peer.send(b"\r\n")
    peer.send(b"\x16\x03")
    assert told.take()[0] == r"#1: opening from 192.0.2.1: \x16\x03"


def test_a_head_of_which_only_a_part_comes(clock: Clock, told: Told) -> None:
    peer = Peer(make_factory(clock, log_frames=True))
    peer.send(b"GET /chat HTTP/1.1\r\nHost: x\r\n")
    peer.send(b"Cookie: secret\r\nAuthoriz")
    assert told.take() == []
    peer.lose()
    opening, end = told.take()
    assert opening == (
        "#1: opening from 192.0.2.1: GET /chat HTTP/1.1 | Host: x | Cookie: (6 octets, not shown) "
        "| : (8 octets, not shown) (incomplete, 53 octets came)"
    )
    assert end.startswith("#1: end: lost; received ")


def test_a_part_of_a_head_while_memory_is_short(clock: Clock, told: Told) -> None:
    factory = make_factory(clock, log_frames=True)
    factory.budget.is_tight = True
    Peer(factory).send(b"GET / HTTP/1.1\r\n")
    opening, refused, answer = told.take()
    assert opening == "#1: opening from 192.0.2.1: GET / HTTP/1.1 (incomplete, 16 octets came)"
    assert refused.startswith("#1: refused a handshake from 192.0.2.1: 503 ")
    assert answer.startswith("#1: answer: HTTP/1.1 503 ")


@pytest.mark.parametrize(("rest", "more"), [(b"", " (incomplete, 23 octets came)"), (b"\r\n\r\nrest", "")])
def test_the_request_of_one_too_many(clock: Clock, told: Told, rest: bytes, more: str) -> None:
    factory = make_factory(clock, log_frames=True, max_connections=1)
    first = Peer(factory)
    Peer(factory).send(b"GET / HTTP/1.1\r\nHost: x" + rest)
    opening, refused, answer = told.take()
    assert opening == f"#2: opening from 192.0.2.1: GET / HTTP/1.1 | Host: x{more}"
    assert refused.startswith("#2: refused a handshake from 192.0.2.1: 503 ")
    assert answer.startswith("#2: answer: HTTP/1.1 503 ")
    first.lose()


def test_a_client_that_says_nothing(clock: Clock, told: Told) -> None:
    peer = Peer(make_factory(clock, log_frames=True))
    clock.advance(1.5)
    peer.lose()
    nothing = "frames=0 messages=0 octets=0"
    assert told.take() == [f"#1: end: lost; received {nothing}; sent {nothing}; after 1.5s"]


def test_a_head_is_cut(clock: Clock, told: Told) -> None:
    long = "x" * 500
    Peer(make_factory(clock, log_frames=True, log_cut=10)).send(
        handshake(f"/{long}", f"Sec-WebSocket-Protocol: {long}", f"Cookie: {long}")
    )
    (opening,) = told.fields("opening")
    assert opening["request"] == "GET /" + "x" * 35
    protocol = ["Sec-WebSocket-Protocol"[:10], "x" * 10 + "…"]
    assert opening["fields"][5:] == [protocol, ["Cookie", "(500 octets, not shown)"]]
    (answer,) = told.fields("answer")
    assert protocol in answer["fields"]
    told.take()
    Peer(make_factory(clock, log_frames=True, max_head_lines=2)).send(handshake())
    (opening,) = told.fields("opening")
    assert [name for name, _ in opening["fields"]] == ["Host", "Upgrade"]


def test_what_the_client_s_frames_ask_for_is_cut_out_of_one_read(clock: Clock, told: Told) -> None:
    """Frames that come in one read are told one by one, with the answer to each behind it."""
    peer = opened(clock, log_frames=True, log_frames_rate=1000)
    told.take()
    peer.send(client_frame(PING, b"") * 200 + client_frame(BINARY, bytes(100_000)) + client_frame(TEXT, b"last"))
    clock.pump([0.01] * 50)
    lines = told.take()
    assert lines[:400:2] == ["#1: in ping fin masked length=0: "] * 200
    assert lines[1:400:2] == ["#1: out pong fin length=0: "] * 200
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines[400:]] == [
        "in binary fin masked length=100000",
        "out binary fin length=100000",
        "in text fin masked length=4",
        "out text fin length=4",
    ]


def test_frames_that_a_fault_makes(clock: Clock, told: Told) -> None:
    peer = opened(clock, "/?fragment=2", log_frames=True)
    told.take()
    peer.send(client_frame(TEXT, b"abc"))
    assert told.take() == [
        "#1: in text fin masked length=3: abc",
        "#1: out text length=2: ab",
        "#1: out continuation fin length=1: c",
    ]


def test_lines_have_a_rate_by_kind(clock: Clock, told: Told) -> None:
    peer = opened(clock, log_frames=True, log_frames_rate=3)
    peer.send(client_frame(PING, b"?") * 10)
    clock.advance(0.5)
    assert [len(told.fields(kind)) for kind in ("opening", "answer", "frame")] == [1, 1, 3]
    told.take()
    clock.advance(0.6)
    (event,) = told.events
    assert event["log_level"] is LogLevel.warn
    assert told.take() == ["17 lines left out in the last second because of --log-frames-rate"]
    peer.send(client_frame(PING, b"?"))
    assert len(told.take()) == 2
    clock.advance(2)
    assert told.take() == []


def test_each_kind_of_line_may_be_left_out(clock: Clock, told: Told) -> None:
    factory = make_factory(clock, log_frames=True, log_frames_rate=1)
    for _ in range(2):
        peer = Peer(factory)
        peer.open()
        peer.lose()
    assert [len(told.fields(kind)) for kind in ("opening", "answer", "end")] == [1, 1, 1]
    clock.advance(2)
    assert told.take()[-1] == "3 lines left out in the last second because of --log-frames-rate"


def test_what_is_left_out_before_the_end_is_counted_at_the_end(clock: Clock, told: Told) -> None:
    peer = opened(clock, log_frames=True, log_frames_rate=1)
    peer.send(client_frame(PING, b"?") * 2)
    drained = peer.protocol.factory.drain()
    peer.send(client_frame(CLOSE, close_payload(1001)))
    peer.protocol.connectionLost(Failure(ConnectionDone()))
    assert drained.called
    lines = told.take()
    assert lines[-2].startswith("#1: end: clean; closed by the server with 1001 going away; ")
    assert lines[-1] == "5 lines left out in the last second because of --log-frames-rate"
    assert not clock.getDelayedCalls()


HOSTILE = 'é\x9b[31m\x1b]0;\u2028\r\u202e%s{}\\"' * 300


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_client_forges_no_line_and_makes_none_too_long(clock: Clock, log_format: LogFormat) -> None:
    out = io.StringIO()
    observer = make_observer(out, log_format)
    globalLogPublisher.addObserver(observer)
    try:
        factory, hostile = make_factory(clock, log_frames=True), HOSTILE.encode().decode("latin-1")
        heads = [
            handshake(f"/{hostile}", f"{hostile}: x", f"Cookie: {hostile}"),
            handshake("/", f"Origin: {hostile}", "no field\x1b[2J", "X: y\r\n\x1b: folded"),
            HOSTILE.encode() + b"\r\n\r\n",
            handshake("/", *[f"Via: {'x' * 140}" for _ in range(90)]),
        ]
        for head in heads:
            Peer(factory).send(head)
        for octets in (
            client_frame(TEXT, HOSTILE.encode()),
            client_frame(BINARY, HOSTILE.encode()),
            client_frame(CLOSE, close_payload(4000, HOSTILE[:40])),
            client_frame(11, HOSTILE.encode()),
            client_frame(TEXT, b"\xff\x1b" * 200),
        ):
            peer = Peer(factory)
            peer.open()
            peer.send(octets)
            peer.lose()
    finally:
        globalLogPublisher.removeObserver(observer)
    lines = out.getvalue().removesuffix("\n").split("\n")
    assert len(lines) > 20
    assert all(line.isprintable() for line in lines)
    if log_format is LogFormat.JSON:
        assert all(json.loads(line)["connection"] for line in lines)
        assert max(map(len, lines)) < 3 * LONG_TEXT_SIZE
    else:
        assert all(re.search(r"#[0-9]+: ", line) for line in lines)
        assert max(map(len, lines)) < LONG_TEXT_SIZE


def test_others_are_not_traced(clock: Clock, told: Told) -> None:
    peer = opened(clock)
    peer.send(client_frame(TEXT, b"hello"))
    assert peer.protocol.factory.tracing is None
    assert told.take() == []


def test_a_lost_one_is_freed_without_the_garbage_collector(clock: Clock) -> None:
    peer = opened(clock, log_frames=True)
    peer.send(client_frame(TEXT, b"hello") + client_frame(3, b""))
    reference = weakref.ref(peer.protocol)
    gc.collect()
    gc.disable()
    try:
        peer.lose()
        del peer
        assert reference() is None
    finally:
        gc.enable()


# The last frames.


def frames_of(peer: Peer) -> list[dict[str, Any]]:
    """Return the last frames of the only connection of a factory."""
    tracing = peer.protocol.factory.tracing
    assert tracing is not None
    (connection,) = tracing.live.values()
    assert tracing.live == {connection.number: connection}
    return connection.last_frames()


def test_the_last_frames_are_kept(clock: Clock) -> None:
    peer = opened(clock, log_frames=True, log_frames_rate=1, kept_frames=3, log_cut=2)
    assert frames_of(peer) == []
    clock.advance(1)
    peer.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))
    clock.advance(0.5)
    peer.send(client_frame(PING, b"?")[:-1])
    common = {"opcode": 1, "type": "text", "fin": True, "rsv": [], "length": 3, "at": 1.0}
    assert frames_of(peer) == [
        {**common, "direction": "out", "masked": False, "payload": "on…"},
        {**common, "direction": "in", "masked": True, "payload": "tw…"},
        {**common, "direction": "out", "masked": False, "payload": "tw…"},
    ]
    peer.send(client_frame(PING, b"?")[-1:])
    assert [(frame["type"], frame["at"]) for frame in frames_of(peer)] == [("text", 1.0), ("ping", 1.5), ("pong", 1.5)]
    assert peer.protocol.snapshot().is_traced
    peer.lose()
    tracing = peer.protocol.factory.tracing
    assert tracing is not None
    assert not tracing.live


def test_frames_go_first_when_memory_is_short(clock: Clock) -> None:
    peer = opened(clock, log_frames=True, max_buffered=64 * 1024)
    peer.send(client_frame(TEXT, b"hello"))
    assert peer.protocol.count() > 500
    peer.protocol.wait_for_room()
    assert (frames_of(peer), peer.protocol.count(), peer.protocol.is_waiting) == ([], 0, True)
    peer.protocol.go_on(1000)
    peer.protocol.factory.budget.is_tight = True
    peer.send(client_frame(TEXT, b"hello"))
    assert (frames_of(peer), peer.protocol.count()) == ([], 0)
    peer.protocol.factory.budget.is_tight = False
    peer.send(client_frame(TEXT, b"hello"))
    assert len(frames_of(peer)) == 2


def test_a_connection_that_is_turned_away_is_forgotten(clock: Clock) -> None:
    """It is reset while it is being made if too many are."""
    factory = make_factory(clock, max_connections=1, log_frames=True, reserved_descriptors=0)
    peers = [Peer(factory) for _ in range(3)]
    assert [peer.transport.aborted for peer in peers] == [False, True, True]
    for peer in peers:
        peer.lose()
    assert factory.tracing is not None
    assert not factory.tracing.live
