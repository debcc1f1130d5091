"""Faults on a stream of HTTP/2: what means the same there, what means something else, and what means nothing."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived
from h2.exceptions import ProtocolError
from hyperframe.frame import DataFrame
from twisted.internet.task import Clock

from echod.core.counts import Outcome
from echod.faults.bad import BAD
from echod.faults.ending import ROOM_PAUSE
from echod.faults.heads import HEADS
from echod.faults.table import PARAMETERS
from tests.fakes import Peer, make_factory
from tests.faults.queries import VALID, write
from tests.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    handshake,
    server_frame,
)
from tests.h2_client import Exchange, Http2Client, exchange

DEFLATE = ("sec-websocket-extensions", "permessage-deflate")


def begun(clock: Clock, client: Http2Client | None = None, **settings: Any) -> Exchange:
    """Return a client whose connection has begun."""
    return exchange(clock, client=client, **{"ping_interval": 0, **settings})


def later(made: Exchange, clock: Clock, seconds: float) -> None:
    """Let time pass, and exchange what there is then."""
    clock.advance(seconds)
    made.go()


def pieces(made: Exchange, number: int) -> list[bytes]:
    """Return the payloads of the DATA frames that have come on a stream since the last call."""
    found = [event.data for event in made.client.events if isinstance(event, DataReceived)]
    made.client.events.clear()
    assert b"".join(found) == made.client.bodies.pop(number, b"")
    return found


def echoes(made: Exchange, number: int) -> bool:
    """Tell whether a stream echoes."""
    return made.echo(number, client_frame(TEXT, b"still here")) == [Frame(TEXT, b"still here")]


# What HTTP/2 does not have.


@pytest.mark.parametrize("name", [name for name, row in PARAMETERS.items() if row.version == "1.1"])
def test_what_means_nothing_here_is_refused(clock: Clock, name: str) -> None:
    made = begun(clock)
    other = made.opened()
    for value in VALID[name]:
        why = f"Bad request: the parameter {name} has no effect over HTTP/2.\n"
        assert made.refused(made.client.connect(f"/?{write({name: value})}")) == ("400", why)
    assert echoes(made, other)


@pytest.mark.parametrize("name", [name for name, head in HEADS.items() if head.on_stream is None])
def test_a_malformed_head_of_http_1_1_is_refused(clock: Clock, name: str) -> None:
    made = begun(clock)
    why = "Bad request: the parameter head is not nul or non-ascii or endless: HTTP/2 has no other.\n"
    assert made.refused(made.client.connect(f"/?head={name}")) == ("400", why)


def test_what_the_operator_asks_for_is_refused_too(clock: Clock) -> None:
    made = begun(clock, fault="accept=wrong")
    assert made.refused(made.client.connect())[0] == "400"


# The answer.


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("subprotocol=c", {"sec-websocket-protocol": "c"}),
        ("subprotocol=", {}),
        ("extension=foo;+a%3D1", {"sec-websocket-protocol": "a", "sec-websocket-extensions": "foo; a=1"}),
        ("header=X-Tea:gr%C3%BCn&subprotocol=", {"x-tea": "grün"}),
        ("header=Connection:close&subprotocol=", {"connection": "close"}),
        ("head=nul&subprotocol=", {"x-echod": "a\0b"}),
        ("head=non-ascii&subprotocol=", {"x-echod": "gr\udcfc\udcdfe"}),
    ],
)
def test_the_answer_has_the_fields_that_were_asked_for(clock: Clock, query: str, fields: dict[str, str]) -> None:
    """Also those that no client may accept (RFC 9113 sections 8.2.1 and 8.2.2)."""
    made = begun(clock, Http2Client(is_strict=False))
    number = made.opened(f"/?{query}", ("sec-websocket-protocol", "a, b"), *[DEFLATE] * query.startswith("extension"))
    assert made.client.heads[number] == {":status": "200", **fields}
    assert echoes(made, number)


@pytest.mark.parametrize("query", ["head=nul", "header=Connection:close"])
def test_a_client_finds_fields_that_are_not_allowed(clock: Clock, query: str) -> None:
    made = begun(clock)
    made.client.connect(f"/?{query}")
    with pytest.raises(ProtocolError):
        made.go()


def test_a_head_that_is_too_long(clock: Clock) -> None:
    client = Http2Client()
    client.h2.decoder.max_header_list_size = 100 * 1024
    made = begun(clock, client)
    number = made.client.connect("/?head=endless")
    made.go()
    (head,) = [event.headers for event in client.events if isinstance(event, ResponseReceived)]
    sizes = [32 + len(name) + len(value) for name, value in head if name == b"x-echod"]
    assert sum(sizes) == 64 * 1024
    assert echoes(made, number)


@pytest.mark.parametrize(
    ("query", "head", "body"),
    [
        ("status=302&location=/other", {":status": "302", "location": "/other"}, "The URL asks for this status.\n"),
        ("status=503&body=tea+break", {":status": "503", "content-length": "9", "retry-after": "5"}, "tea break"),
        ("status=304&body=tea", {":status": "304"}, ""),
        ("auth=bearer:tea", {":status": "401", "www-authenticate": 'Bearer realm="echod"'}, "The URL asks for other "),
        ("status=418&header=X-Tea:green", {":status": "418", "x-tea": "green"}, "The URL asks for this status.\n"),
        ("status=426", {":status": "426"}, "The URL asks for this status.\n"),
        ("status=503&slice=1&cut=2", {":status": "503"}, "The URL asks for this status.\n"),
    ],
)
def test_a_refusal(clock: Clock, query: str, head: dict[str, str], body: str) -> None:
    made = begun(clock)
    number = made.client.connect(f"/?{query}")
    made.go()
    for _ in range(40):
        later(made, clock, 0.001)
    came = made.client.heads[number]
    assert came.items() >= head.items()
    assert came.keys().isdisjoint({"connection", "upgrade"})
    text = made.client.bodies[number].decode()
    assert text.startswith(body)
    assert bool(text) == bool(body)
    assert made.client.ended == {number}


def test_credentials_open(clock: Clock) -> None:
    made = begun(clock)
    credentials = base64.b64encode(b"tea:green").decode()
    assert echoes(made, made.opened("/?auth=basic:tea:green", ("authorization", f"Basic {credentials}")))


def test_the_first_handshakes_with_a_key_fail(clock: Clock) -> None:
    made = begun(clock)
    found = []
    for _ in range(3):
        number = made.client.connect("/?fail=2&key=a&status=429")
        made.go()
        found.append(made.client.heads[number][":status"])
    assert found == ["429", "429", "200"]


def test_what_lasts_is_for_an_own_origin(clock: Clock) -> None:
    made = begun(clock)
    path = "/?header=Set-Cookie:a%3Db"
    for origin, status in (("https://localhost", "200"), ("https://a.example", "400")):
        number = made.client.connect(path, ("origin", origin))
        made.go()
        assert made.client.heads[number][":status"] == status
        assert ("set-cookie" in made.client.heads[number]) == (status == "200")


def test_a_greeting_comes_with_the_answer(clock: Clock) -> None:
    made = begun(clock)
    number = made.client.connect("/?greeting=tea")
    made.transport.protocol.dataReceived(made.client.to_send())  # type: ignore[attr-defined]
    made.client.take(made.transport.take())
    assert made.client.heads[number][":status"] == "200"
    assert made.client.frames(number) == [Frame(TEXT, b"tea")]


# Frames.


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_frame_has_the_same_bytes_as_over_http_1_1(clock: Clock, name: str) -> None:
    peer = Peer(make_factory(clock, ping_interval=0))
    head = handshake(
        f"/?bad={name}&after=1", *["Sec-WebSocket-Extensions: permessage-deflate"] * BAD[name].needs_deflate
    )
    assert peer.send(head).startswith(b"HTTP/1.1 101 ")
    message = client_frame(TEXT, b"tea")
    wanted = peer.send(message)
    made = begun(clock)
    other = made.opened()
    number = made.opened(f"/?bad={name}&after=1", *[DEFLATE] * BAD[name].needs_deflate)
    made.client.send(number, message)
    made.go()
    assert bytes(made.client.bodies[number]) == wanted
    assert len(wanted) > len(server_frame(TEXT, b"tea"))
    assert echoes(made, other)


def test_bytes_as_they_are(clock: Clock) -> None:
    made = begun(clock)
    number = made.opened("/?raw=ff00ff&slice=1")
    for _ in range(3):
        later(made, clock, 0.001)
    assert pieces(made, number) == [b"\xff", b"\0", b"\xff"]


def test_a_bomb(clock: Clock) -> None:
    made = begun(clock)
    number = made.opened("/?bomb=1MiB", DEFLATE)
    (frame,) = made.client.frames(number)
    assert (frame.opcode, frame.rsv, len(frame.payload) < 2000) == (BINARY, 4, True)
    assert made.refused(made.client.connect("/?bomb=1MiB"))[0] == "400"


def test_bombs_wait_while_memory_is_short(clock: Clock) -> None:
    factory = make_factory(clock, max_buffered=2**20, ping_interval=0)
    made = exchange(clock, factory, Http2Client(opens_windows=False))
    numbers = [made.opened("/?bomb=100MiB", DEFLATE) for _ in range(20)]
    assert 2**19 < factory.budget.held < 2**20
    next(reversed(factory.live)).go_away(at_once=True)
    made.client.h2.increment_flow_control_window(2**24)
    for number in numbers:
        made.client.h2.increment_flow_control_window(2**20, number)
    for _ in range(20):
        later(made, clock, ROOM_PAUSE)
    *others, last = ([frame.opcode for frame in made.client.frames(number)] for number in numbers)
    assert others == [[BINARY]] * 19
    assert last == [CLOSE]


# Delivery.


def test_slices_are_frames_of_their_own(clock: Clock) -> None:
    made = begun(clock)
    number = made.opened("/?slice=4")
    made.client.send(number, client_frame(BINARY, bytes(9)))
    made.go()
    for _ in range(3):
        later(made, clock, 0.001)
    assert [len(piece) for piece in pieces(made, number)] == [4, 4, 3]


def test_a_rate(clock: Clock) -> None:
    made = begun(clock)
    number, other = made.opened("/?rate=200"), made.opened()
    made.client.send(number, client_frame(BINARY, bytes(28)))
    made.go()
    found = [pieces(made, number)]
    for _ in range(3):
        later(made, clock, 0.05)
        found.append(pieces(made, number))
    assert [[len(piece) for piece in some] for some in found] == [[10], [10], [10], []]
    assert echoes(made, other)


@pytest.mark.parametrize(
    ("query", "resets"), [("cut=5", {}), ("cut=5&abort", {3: 8}), ("cut=0", {}), ("cut=3&slice=1", {})]
)
def test_a_cut_ends_the_stream_alone(clock: Clock, query: str, resets: dict[int, int]) -> None:
    made = begun(clock)
    other, number = made.opened(), made.opened(f"/?{query}")
    if "cut=0" not in query:
        made.client.send(number, client_frame(TEXT, b"hello"))
        made.go()
    for _ in range(5):
        later(made, clock, 0.01)
    whole, most = server_frame(TEXT, b"hello"), int(query[4])
    assert bytes(made.client.bodies[number]) == whole[:most]
    assert (made.client.ended, made.client.resets) == (set() if resets else {number}, resets)
    assert echoes(made, other)


@pytest.mark.parametrize(
    "octets",
    [client_frame(CLOSE, close_payload(1000)), b"\xf1\x80\0\0\0\0", b""],
    ids=["Close frame", "wrong frame", "END_STREAM"],
)
def test_a_cut_resets_a_stream_though_the_client_ends_it(clock: Clock, octets: bytes) -> None:
    made = begun(clock)
    other, number = made.opened(), made.opened("/?cut=2&abort")
    made.client.send(number, client_frame(TEXT, b"tea") + octets, is_last=not octets)
    made.go()
    assert bytes(made.client.bodies[number]) == server_frame(TEXT, b"tea")[:2]
    assert (made.client.ended, made.client.resets) == (set(), {number: 8})
    assert echoes(made, other)


def test_a_rate_of_reading(clock: Clock) -> None:
    """The client may send what its window allows, and gets no more while the server takes a rest."""
    made = begun(clock)
    number, other = made.opened("/?read-rate=1000"), made.opened()
    message = client_frame(BINARY, bytes(4990))
    size = made.client.h2.local_flow_control_window(number)
    assert made.echo(number, message) == [Frame(BINARY, bytes(4990))]
    assert made.echo(number, client_frame(TEXT, b"late")) == []
    assert echoes(made, other)
    later(made, clock, 4.9)
    assert made.client.frames(number) == []
    later(made, clock, 0.2)
    assert made.client.frames(number) == [Frame(TEXT, b"late")]
    assert made.client.h2.local_flow_control_window(number) <= size


# Of its own accord, and its replies.


def test_messages_that_nobody_asked_for(clock: Clock) -> None:
    made = begun(clock)
    number = made.opened("/?every=1s&count=2&burst=2&size=3&ping=1s&pong-every=1s")
    assert made.client.frames(number) == [Frame(TEXT, b"1 x"), Frame(TEXT, b"2 x")]
    later(made, clock, 1)
    assert sorted(frame.opcode for frame in made.client.frames(number)) == [TEXT, PING, PONG]


def test_replies_that_come_late_or_never(clock: Clock) -> None:
    made = begun(clock, max_stall=20)
    number, other = made.opened("/?pong=2s&close-reply=3s"), made.opened("/?pong=no&close-reply=no")
    for each in (number, other):
        assert made.echo(each, client_frame(PING, b"a")) == []
    later(made, clock, 2)
    assert made.client.frames(number) == [Frame(PONG, b"a")]
    for each in (number, other):
        assert made.echo(each, client_frame(CLOSE, close_payload(1000))) == []
    later(made, clock, 3)
    assert made.client.frames(number) == [Frame(CLOSE, close_payload(1000))]
    assert made.client.ended == {number}
    made.client.h2.end_stream(number)
    later(made, clock, 16)
    assert made.client.resets == {}
    later(made, clock, 2)
    assert made.client.resets == {other: 8}
    assert made.client.frames(other) == []


def test_changed_and_lost_messages(clock: Clock) -> None:
    made = begun(clock)
    number, lossy = made.opened("/?mutate=1&seed=7"), made.opened("/?drop=1")
    (frame,) = made.echo(number, client_frame(TEXT, b"two"))
    assert len(frame.payload) == 3
    assert frame.payload != b"two"
    assert made.echo(lossy, client_frame(TEXT, b"two")) == []


def test_frames_are_told_of(clock: Clock) -> None:
    made = begun(clock)
    (frame,) = made.echo(made.opened("/frames"), client_frame(TEXT, b"tea"))
    assert json.loads(frame.payload)["payload"] == b"tea".hex()


# The end.


def test_a_stall_opens_no_window_and_ends_with_a_reset(clock: Clock) -> None:
    made = begun(clock, max_stall=10)
    number, other = made.opened("/?stall&slice=1"), made.opened()
    before = made.client.h2.local_flow_control_window(number)
    made.client.send(number, client_frame(BINARY, bytes(1000)))
    made.go()
    assert made.client.h2.local_flow_control_window(number) == before - 1008
    assert made.client.frames(number) == []
    assert echoes(made, other)
    later(made, clock, 12)
    assert made.client.resets == {number: 8}
    assert echoes(made, other)


def test_an_end_without_a_close_frame(clock: Clock) -> None:
    made = begun(clock)
    other, number = made.opened(), made.opened("/?close=1006&after=1&rate=1KiB")
    assert made.echo(number, client_frame(TEXT, b"tea")) == [Frame(TEXT, b"tea")]
    for _ in range(3):
        later(made, clock, 0.05)
    assert made.client.ended == {number}
    assert echoes(made, other)


@pytest.mark.parametrize("query", ["goaway", "goaway&slice=3", "goaway&close=1001", "goaway&abort"])
def test_goaway_with_other_faults(clock: Clock, query: str) -> None:
    made = begun(clock)
    other, number = made.opened(), made.opened(f"/?{query}")
    for _ in range(5):
        later(made, clock, 0.01)
    assert made.client.goaway is not None
    assert made.client.resets == ({number: 8} if "abort" in query else {})
    assert [frame.opcode for frame in made.client.frames(number)] == [CLOSE] * ("close" in query)
    assert echoes(made, other)


@pytest.mark.parametrize("octets", [client_frame(CLOSE, close_payload(1000)), b""], ids=["Close frame", "END_STREAM"])
def test_goaway_is_sent_though_its_stream_ends(clock: Clock, octets: bytes) -> None:
    made = begun(clock)
    other, number = made.opened(), made.opened("/?goaway&after=1")
    made.client.send(number, client_frame(TEXT, b"tea") + octets, is_last=not octets)
    made.go()
    assert made.client.frames(number)[0] == Frame(TEXT, b"tea")
    assert made.client.goaway is not None
    assert echoes(made, other)


def test_goaway_is_owed_when_the_client_breaks_a_rule(clock: Clock) -> None:
    """h2 takes no frame any more by then."""
    factory = make_factory(clock)
    made = exchange(clock, factory)
    number = made.opened("/?goaway&after=1")
    made.client.send(number, client_frame(TEXT, b"tea"))
    made.session.dataReceived(made.client.to_send() + DataFrame(9, b"on no stream").serialize())
    assert not factory.live
    made.go()
    assert [goaway.code for goaway in made.client.goaways] == [ErrorCodes.PROTOCOL_ERROR]


def test_info_tells_of_the_stream_below_a_slow_carrier(clock: Clock) -> None:
    made = begun(clock)
    number = made.opened("/info?rate=1MiB")
    later(made, clock, 1)
    (frame,) = made.client.frames(number)
    told = json.loads(frame.payload)
    assert (told["http"]["version"], told["http"]["stream"]) == ("2", number)
    assert told["faults"]["rate"] == 1024 * 1024
    assert made.session.streams[number].owner.snapshot().stream == number


def test_each_is_counted(clock: Clock) -> None:
    made = begun(clock)
    factory = made.session._house._factory  # type: ignore[attr-defined]
    number = made.opened("/?bad=masked&slice=100")
    made.client.send(number, client_frame(CLOSE, close_payload(1002)))
    made.go()
    later(made, clock, 0.01)
    assert factory.counts.faults == {"bad": 1, "slice": 1}
    assert factory.counts.outcomes == {Outcome.CLEAN: 1}
