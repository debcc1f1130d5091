"""Connections that begin in the pump, over real sockets: visitors, guests, and what becomes of them."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.tcp import Port
from twisted.internet.unix import Port as UnixPort
from twisted.logger import capturedLogs, eventAsText

from echod.core.counts import Closer, Outcome, ServedBy, close_label
from echod.echo import EchoProtocol
from echod.lane.native import Native
from echod.settings import Compression, Settings
from echod.upstream import adopt
from echod.websocket.factory import EchoFactory
from echod.websocket.hosting import Hosting
from echod.websocket.phase import OPEN
from tests.frames import BINARY, CLOSE, PING, PONG, TEXT, client_frame, close_payload, handshake, server_frame
from tests.lane.links import stuff
from tests.loop import DEADLINE, Bed, Link, Loop, close

HEAD = handshake()
GOING_AWAY = server_frame(CLOSE, close_payload(1001, "going away"))


class Client(Link):
    """A client's socket. Nothing is known of the server's end."""

    def __init__(self, loop: Loop, made: socket.socket) -> None:
        self.loop = loop
        self.socket = made
        made.setblocking(False)
        self.received = bytearray()
        self.has_ended = False
        self.was_reset = False


class House(Bed):
    """A factory whose port has the door."""

    def __init__(self, loop: Loop, factory: EchoFactory, path: Path | None, has_door: bool = True) -> None:
        super().__init__(loop, factory)
        if has_door:
            factory.begin_hosting()
        self.port: Any = (
            Port(0, cast(Any, factory), interface="127.0.0.1", reactor=cast(Any, loop))
            if path is None
            else UnixPort(bytes(path), cast(Any, factory), reactor=loop)
        )
        self.path = path
        self.port.startListening()
        self.answers: dict[bytes, bytes] = {}

    @property
    def hosting(self) -> Hosting:
        assert self.factory.hosting is not None
        return self.factory.hosting

    @property
    def guests(self) -> int:
        return self.hosting._door.guests

    @property
    def only(self) -> EchoProtocol:
        """The only connection."""
        (connection,) = self.factory.live
        return cast(EchoProtocol, connection)

    def dial(self, octets: bytes = b"") -> Client:
        made = socket.socket(socket.AF_INET if self.path is None else socket.AF_UNIX)
        made.settimeout(DEADLINE)
        made.connect(("127.0.0.1", self.port.getHost().port) if self.path is None else str(self.path))
        client = Client(self.loop, made)
        self.links.append(client)
        client.push(octets)
        return client

    def opened(self, head: bytes = HEAD) -> Client:
        """Return a client whose opening handshake is complete."""
        client = self.dial(head)
        self.loop.until(lambda: b"\r\n\r\n" in client.take())
        end = client.received.index(b"\r\n\r\n") + 4
        self.answers[head] = bytes(client.received[:end])
        del client.received[:end]
        return client

    def guest(self, head: bytes = HEAD) -> Client:
        """Return a client that is a guest."""
        if head not in self.answers:
            self.opened(head).reset()
            self.loop.until(lambda: not self.factory.live)
        before = self.guests
        client = self.opened(head)
        assert self.guests == before + 1
        return client

    def recall(self, most: int = 100) -> None:
        """Make connections of the guests that have been here longest."""
        self.hosting._door.recall(most)

    def stop_clock(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """Let all guests be as old as this moment, which lasts, and return it: a busy machine would make them older."""
        door, now = self.hosting._door, time.monotonic_ns()
        guest = door._lib.echod_door_first(door._door)
        while guest:
            guest.since = guest.seen = now
            guest = guest.next
        monkeypatch.setattr(time, "monotonic_ns", lambda: now)
        return now


Make = Callable[..., House]


@pytest.fixture
def make(native: Native, tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes a factory with the door open."""
    with ExitStack() as stack:

        def make(is_unix: bool = False, max_connections: int = 100, is_open: bool = True, **settings: Any) -> House:
            loop = stack.enter_context(Loop())
            factory = EchoFactory(EchoProtocol, Settings(**settings), loop, max_connections, native)
            house = House(loop, factory, tmp_path / "socket" if is_unix else None)
            if is_open:
                assert house.hosting.open(house.port)

            def end() -> None:
                house.port.stopListening()
                if house.factory.hosting is not None:
                    house.hosting.drain()
                loop.turn()
                close(house)

            stack.callback(end)
            return house

        yield make


@pytest.fixture
def house(make: Make) -> House:
    return make(ping_interval=0)


@pytest.mark.parametrize("is_unix", [False, True])
def test_a_second_connection_is_a_guest(make: Make, is_unix: bool) -> None:
    """The first one of its kind is answered in Python, and the next ones by the door, with the same octets."""
    house = make(is_unix, ping_interval=0)
    first = house.opened()
    assert (house.guests, house.only.phase) == (0, OPEN)
    answer = house.answers[HEAD]
    second = house.opened()
    assert (house.guests, len(house.factory.live), house.factory.count) == (1, 1, 2)
    assert house.answers[HEAD] == answer
    for client in (first, second):
        client.send(client_frame(TEXT, b"Hello"))
        assert client.receive(7) == server_frame(TEXT, b"Hello")
    assert house.guests == 1
    second.socket.close()
    house.loop.until(lambda: not house.guests)
    assert house.factory.counts.outcomes[Outcome.LOST] == 1
    assert house.factory.counts.closes["1006", Closer.CLIENT] == 1
    assert sum(house.factory.counts.durations.places) == 1


ODD = [
    (client_frame(CLOSE, close_payload(999, "")), server_frame(CLOSE, close_payload(1002, ""))[:1]),
    (b"\x83\x80abcd", server_frame(CLOSE, close_payload(1002, ""))[:1]),
]


@pytest.mark.parametrize(("sent", "expected"), ODD)
@pytest.mark.parametrize("is_behind", [False, True])
def test_a_guest_becomes_a_connection(house: House, sent: bytes, expected: bytes, is_behind: bool) -> None:
    """What is not ordinary goes to a connection that is what it would be, had it begun in Python."""
    client = house.guest()
    hello = client_frame(TEXT, b"Hello")
    if is_behind:
        client.send(hello + sent)
    else:
        client.send(hello)
        assert client.receive(7) == server_frame(TEXT, b"Hello")
        client.send(sent)
    echo = server_frame(TEXT, b"Hello") if is_behind else b""
    assert client.receive(len(echo + expected)) == echo + expected
    assert house.guests == 0


def test_control_frames_of_a_guest(house: House) -> None:
    """A ping is answered, and a pong is taken, wherever they stand. The guest stays one."""
    client = house.guest()
    ping = client_frame(PING, b"are you there?") + client_frame(PONG, b"") + client_frame(PING, b"")
    client.send(ping + client_frame(TEXT, b"a", fin=False) + ping + client_frame(0, b"b"))
    pongs = server_frame(PONG, b"are you there?") + server_frame(PONG, b"")
    expected = pongs + pongs + server_frame(TEXT, b"ab")
    assert client.receive(len(expected)) == expected
    assert house.guests == 1


@pytest.mark.parametrize(
    ("sent", "answer", "rest", "expected"),
    [
        (b"", b"", client_frame(PING, b"x"), server_frame(PONG, b"x")),
        (client_frame(PING, b"x")[:-1], b"", client_frame(PING, b"x")[-1:], server_frame(PONG, b"x")),
        (
            client_frame(TEXT, b"a", fin=False) + client_frame(PING, b"") + client_frame(PING, b"x")[:-1],
            server_frame(PONG, b""),
            client_frame(PING, b"x")[-1:] + client_frame(0, b"b"),
            server_frame(PONG, b"x") + server_frame(TEXT, b"ab"),
        ),
    ],
)
def test_a_guest_that_is_wanted_becomes_a_connection(
    house: House, sent: bytes, answer: bytes, rest: bytes, expected: bytes
) -> None:
    """It goes on with what the lease had, and has counted what the guest has counted."""
    client = house.guest()
    client.send(client_frame(TEXT, b"Hello") + sent)
    assert client.receive(7 + len(answer)) == server_frame(TEXT, b"Hello") + answer
    house.recall()
    assert house.guests == 0
    client.send(rest)
    assert client.receive(len(expected)) == expected
    traffic = house.only.traffic
    messages = 1 + expected.count(b"ab")
    assert (traffic.received_messages, traffic.sent_messages) == (messages, messages)
    assert house.only.lease is not None
    client.send(client_frame(BINARY, b"x" * 100_000))
    echo = server_frame(BINARY, b"x" * 100_000)
    assert client.receive(len(echo)) == echo


@pytest.mark.parametrize("code", [None, 1000, 1002, 4711])
def test_a_guest_that_says_goodbye(house: House, code: int | None) -> None:
    """It is counted as a connection is, though none is made of it."""
    payload = b"" if code is None else close_payload(code, "bye")
    for client in (house.opened(), house.guest()):
        client.send(client_frame(CLOSE, payload))
        assert client.receive_all() == server_frame(CLOSE, payload)
    house.loop.until(lambda: not house.factory.count)
    (found,) = ((label, times) for label, times in house.factory.counts.closes.items() if times > 1)
    assert found == ((close_label(1005 if code is None else code), Closer.CLIENT), 2)
    assert house.factory.counts.outcomes[Outcome.CLEAN] == 2
    assert not house.factory.live


def test_the_connection_of_a_guest(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows what a connection knows that began in Python: also its own client's address."""
    house = make(ping_interval=0, trust_proxy=1)

    def head(address: str) -> bytes:
        return handshake("/chat?x=y", "Sec-WebSocket-Protocol: one", f"X-Forwarded-For: {address}", "Cookie: a")

    house.opened(head("192.0.2.1"))
    client = house.opened(head("192.0.2.77").replace(b"Cookie: a", b"Cookie: b"))
    assert house.guests == 1
    house.stop_clock(monkeypatch)
    before = house.factory.clock.seconds()
    house.recall()
    client.send(client_frame(PING, b""))
    assert client.receive(2) == server_frame(PONG, b"")
    one, other = (connection.snapshot() for connection in house.factory.live)
    assert (one.client, other.client) == ("192.0.2.1", "192.0.2.77")
    assert (other.path, other.subprotocol, other.state, other.lane) == (one.path, "one", "open", "pump")
    assert other.peer == client.socket.getsockname()[:2]
    assert other.since == before


@pytest.mark.parametrize("compression", ["mirror", "deflate"])
def test_deflated_messages(make: Make, compression: str) -> None:
    """A guest takes them, and its connection goes on with what the next message may refer to."""
    house = make(ping_interval=0, compression=Compression(compression))
    offer = "Sec-WebSocket-Extensions: permessage-deflate" + "; server_no_context_takeover" * (compression == "deflate")
    head = handshake("/", offer)
    house.opened(head)
    client = house.opened(head)
    assert house.guests == 1
    first, again = b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xf2\x00\x11\x00\x00"  # RFC 7692 section 7.2.3.2
    is_mirror = compression == "mirror"

    def echo(octets: bytes) -> bytes:
        return server_frame(0x40 | TEXT, octets) if is_mirror else server_frame(TEXT, b"Hello")

    client.send(client_frame(0x40 | TEXT, first))
    assert client.receive(len(echo(first))) == echo(first)
    assert house.guests == 1
    house.recall()
    client.send(client_frame(PING, b"") + client_frame(0x40 | TEXT, again))
    expected = server_frame(PONG, b"") + echo(again)
    assert client.receive(len(expected)) == expected
    assert house.guests == 0


NOT_REMEMBERED = [
    handshake("/info"),
    handshake("/json"),
    handshake("/?close=1000"),
    handshake("/", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("head", NOT_REMEMBERED)
def test_what_is_not_ordinary(house: House, head: bytes) -> None:
    """It is answered in Python each time."""
    for _ in range(2):
        house.dial(head)
    house.loop.until(lambda: all(b"\r\n\r\n" in link.take() for link in house.links))
    assert house.guests == 0


@pytest.mark.parametrize("settings", [{"log_messages": True}, {"log_frames": True}, {"max_connections_per_address": 3}])
def test_no_guests(make: Make, settings: dict[str, Any]) -> None:
    """Where something has to be known of each connection before it is answered, there is no door."""
    house = make(is_open=False, ping_interval=0, **settings)
    assert house.factory.hosting is None
    house.opened()
    house.opened()
    assert len(house.factory.live) == house.factory.count == 2


def test_ports_that_the_door_can_not_have(house: House) -> None:
    """A port of another factory, and one with something in between, stay Twisted's."""
    other = EchoFactory(EchoProtocol, Settings(), house.loop, 1)
    house.port.factory, own = other, house.port.factory
    assert not house.hosting.open(house.port)
    house.port.factory = own
    assert not house.hosting.open(object())
    assert not adopt.can_adopt(object(), house.factory)


@pytest.mark.parametrize("place", [1, 10, len(HEAD) - 1])
def test_a_head_in_pieces(house: House, place: int) -> None:
    """Its connection begins in Python, with what was read."""
    house.guest()
    client = house.dial(HEAD[:place])
    house.loop.until(lambda: house.factory.live)
    client.push(HEAD[place:])
    house.loop.until(lambda: b"\r\n\r\n" in client.take())
    assert bytes(client.received) == house.answers[HEAD]


def test_visitors(make: Make) -> None:
    """They count as connections. Those that leave, and those that say nothing in time, are counted as ever."""
    house = make(ping_interval=0, handshake_timeout=0.5)
    house.dial().socket.close()
    house.loop.until(lambda: house.factory.counts.outcomes[Outcome.LOST] == 1)
    silent = house.dial()
    house.loop.until(lambda: house.hosting.count == 1)
    assert house.factory.count == 1

    def is_over() -> bool:
        house.loop.advance(0.1)
        silent.take()
        return silent.was_reset

    house.loop.until(is_over)
    house.loop.until(lambda: house.factory.counts.outcomes[Outcome.TIMEOUT] == 1)
    assert house.factory.count == 0


def test_a_visitor_that_begins_late(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the handshake timeout from when it was accepted, not from its first octet; one that asks in time is not
    concerned."""
    house = make(ping_interval=0, handshake_timeout=5)
    slow = house.dial()
    house.loop.until(lambda: house.hosting.count == 1)
    quick = house.dial()
    house.loop.until(lambda: house.hosting.count == 2)
    now = house.stop_clock(monkeypatch)
    (first,) = house.hosting._door.list(0, 1)
    accepted = now - int(first.age * 1e9)
    monkeypatch.setattr(time, "monotonic_ns", lambda: accepted + 4 * 10**9)
    slow.push(HEAD[:5])
    quick.push(HEAD[:5])
    house.loop.until(lambda: len(house.factory.live) == 2)
    quick.push(HEAD[5:])
    house.loop.until(lambda: b"\r\n\r\n" in quick.take())
    house.loop.advance(0.5)
    house.loop.turn(0.01)
    assert len(house.factory.live) == 2

    def is_reset() -> bool:
        house.loop.advance(0.1)
        slow.take()
        return slow.was_reset

    house.loop.until(is_reset)
    assert house.loop.seconds() < 2
    assert len(house.factory.live) == 1
    assert house.factory.counts.outcomes[Outcome.TIMEOUT] == 1


def test_the_limit_counts_guests(make: Make) -> None:
    """Beyond it a connection is refused when it asks."""
    house = make(ping_interval=0, max_connections=3)
    house.opened()
    house.opened()
    house.dial()
    house.loop.until(lambda: house.hosting.count == 2)
    client = house.dial(HEAD)
    assert client.receive_all().startswith(b"HTTP/1.1 503 ")
    client.socket.close()
    house.loop.until(lambda: house.factory.count == 3)


@pytest.mark.parametrize("is_heard_first", [True, False])
def test_a_visitor_is_not_refused_for_those_that_come_after_it(make: Make, is_heard_first: bool) -> None:
    """Its request and more connections than may be come in the same turn. The request is answered in Python."""
    house = make(ping_interval=0, max_connections=2)
    first = house.dial()
    house.dial()
    house.loop.until(lambda: house.hosting.count == 2)
    if is_heard_first:
        first.push(HEAD)
    refused = [house.dial(HEAD) for _ in range(3)]
    if not is_heard_first:
        first.push(HEAD)
    house.loop.until(lambda: b"\r\n\r\n" in first.take())
    assert first.received.startswith(b"HTTP/1.1 101 ")
    for client in refused:
        assert client.receive_all().startswith(b"HTTP/1.1 503 ")


def test_a_guest_is_not_refused_when_it_becomes_a_connection(make: Make) -> None:
    house = make(ping_interval=0, max_connections=2)
    house.opened()
    client = house.opened()
    assert house.guests == 1
    house.factory.max_connections = 1
    house.recall()
    client.send(client_frame(PING, b""))
    assert client.receive(2) == server_frame(PONG, b"")


def test_keepalive(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that is silent gets its ping when it is due, and is reset if it does not answer. No connection is made of
    it."""
    house = make(ping_interval=8, ping_timeout=4)
    silent = house.guest()
    lively = house.opened()
    answers = house.opened()
    stopped, began = house.stop_clock(monkeypatch), house.loop.seconds()
    # The native door's clock, which passes as that of the loop from here on.
    monkeypatch.setattr(time, "monotonic_ns", lambda: stopped + int((house.loop.seconds() - began) * 1e9))

    def passes() -> bool:
        house.loop.advance(0.1)
        lively.push(client_frame(TEXT, b""))
        lively.take()
        return bytes(silent.take()) == server_frame(PING, b"")

    house.loop.until(passes)
    assert 7.9 < house.loop.seconds() - began < 9.5
    house.loop.until(lambda: (passes(), bytes(answers.take()) == server_frame(PING, b""))[1])
    answers.send(client_frame(PONG, b""))
    house.loop.until(lambda: (passes(), silent.was_reset)[1])
    assert 11.9 < house.loop.seconds() - began < 14
    assert (house.guests, len(house.factory.live)) == (2, 0)
    assert set(lively.received) == {0x81, 0}
    house.loop.until(lambda: house.factory.counts.outcomes[Outcome.TIMEOUT] == 1)
    assert house.factory.counts.closes["1006", Closer.SERVER] == 1


def slow_looks(house: House, monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> list[int]:
    """Let the door look at only so many guests in a turn, and return what notes at how many it has looked."""
    looks: list[int] = []

    def look(most: int) -> int:
        looks.append(min(most, at_a_time))
        return looks[-1]

    monkeypatch.setattr(house.hosting._door, "look", look)
    return looks


def test_looks_that_take_long(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are cut into turns."""
    for _ in range(5):
        house.guest()
    looks = slow_looks(house, monkeypatch, 2)
    house.hosting._look(1.0)
    house.loop.until(lambda: len(looks) == 3)
    assert looks == [2, 2, 1]
    house.loop.turn()
    assert len(looks) == 3


def test_looks_of_a_short_interval(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a tick each guest gets one look at most, and a tick that comes while looks are under way begins no others."""
    house = make(ping_interval=0.001, ping_timeout=0)
    for _ in range(5):
        house.guest()
    looks = slow_looks(house, monkeypatch, 1)
    for _ in range(10):
        house.hosting._looked_at = house.loop.seconds() - 1
        house.hosting._tick()
    assert looks == [1]
    for _ in range(20):
        house.loop.turn()
    assert 5 <= sum(looks) < 10  # a share is rounded up


@pytest.mark.parametrize("count", [1, 70])
def test_a_drain(make: Make, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Guests get their Close frame, those in the middle of a message from connections. A visitor gets a refusal when it
    asks."""
    monkeypatch.setattr("echod.websocket.hosting.MOST_MADE", 2)
    house = make(ping_interval=0)
    guests = [house.guest() for _ in range(count)]
    for client in guests[1::2]:
        client.push(client_frame(TEXT, b"Hello")[:-1])
    visitor, *others = (house.dial() for _ in range(5))
    house.loop.until(lambda: house.hosting.count == count + 5)
    drained = house.factory.drain()
    house.factory._set_tight(True)
    for other in others:
        other.socket.close()
    for client in guests[1::2]:
        client.push(client_frame(TEXT, b"Hello")[-1:])
        assert client.receive(7) == server_frame(TEXT, b"Hello")
    late = house.dial(HEAD)
    for client in guests:
        assert client.receive(len(GOING_AWAY)) == GOING_AWAY
        client.send(client_frame(CLOSE, close_payload(1001, "going away")))
        client.socket.close()
    visitor.push(HEAD)
    assert visitor.receive_all().startswith(b"HTTP/1.1 503 ")
    visitor.socket.close()
    house.loop.until(lambda: drained.called)
    assert house.factory.hosting is None
    assert bytes(late.take()) == b""
    assert house.factory.counts.closes["1001", Closer.SERVER] == count
    assert house.factory.counts.outcomes[Outcome.CLEAN] == count


LEAVING = [
    (client_frame(CLOSE, close_payload(1001, "going away")), Outcome.CLEAN),
    (client_frame(CLOSE, close_payload(4711, "")), Outcome.CLEAN),
    (client_frame(CLOSE, b"") + client_frame(TEXT, b"late"), Outcome.CLEAN),
    (client_frame(TEXT, b"not echoed") + client_frame(CLOSE, b""), Outcome.CLEAN),
    (client_frame(CLOSE, close_payload(999, "")), Outcome.FAILED),
    (b"\x81", Outcome.TIMEOUT),
    (b"", Outcome.TIMEOUT),
    (None, Outcome.LOST),
]


@pytest.mark.parametrize("is_guest", [True, False])
@pytest.mark.parametrize(("reply", "outcome"), LEAVING)
def test_a_reply_in_a_drain(
    make: Make, monkeypatch: pytest.MonkeyPatch, is_guest: bool, reply: bytes | None, outcome: Outcome
) -> None:
    """What a client answers to the Close frame of a drain has the same effect on a guest and on a connection."""
    house = make(ping_interval=0, close_timeout=2, drain_timeout=60)
    client = house.guest()
    if not is_guest:
        house.recall()
    stopped, began = house.stop_clock(monkeypatch), house.loop.seconds()
    monkeypatch.setattr(time, "monotonic_ns", lambda: stopped + int((house.loop.seconds() - began) * 1e9))
    drained = house.factory.drain()
    assert client.receive(len(GOING_AWAY)) == GOING_AWAY
    (told,) = house.factory.snapshots(0, 9)
    assert (told.state, told.lane, house.guests, house.factory.count) == ("closing", ServedBy.CODEC, 0, 1)
    if reply is None:
        client.socket.close()
    else:
        client.push(reply)

    def is_over() -> bool:
        house.loop.advance(0.1)
        if reply is not None:
            client.take()
        return drained.called

    house.loop.until(is_over)
    assert bytes(client.received) == b""
    assert +house.factory.counts.outcomes == Counter([Outcome.LOST, outcome])
    assert house.factory.counts.closes["1001", Closer.SERVER] == 1
    if outcome is Outcome.TIMEOUT:
        assert 2 <= house.loop.seconds() - began < 5
        assert client.was_reset


def test_the_last_guest_leaves_in_a_drain(house: House) -> None:
    """The drain ends when it has gone, though no connection was ever made of it."""
    client = house.guest()
    client.socket.close()
    house.loop.turn(0.01)
    drained = house.factory.drain()
    house.loop.until(lambda: drained.called)
    assert house.factory.count == 0


def test_guests_that_are_reset_at_the_end_of_a_drain(house: House) -> None:
    client = house.guest()
    house.factory.drain()
    house.factory.abort_all()
    house.loop.until(lambda: (client.take(), client.was_reset)[1])


def test_the_list(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has all connections: those of Python, then visitors, then guests, and says of a guest what it would say of its
    connection."""
    house = make(ping_interval=0, trust_proxy=1, compression=Compression.MIRROR)

    def head(number: int) -> bytes:
        fields = "Sec-WebSocket-Protocol: one", "Sec-WebSocket-Extensions: permessage-deflate"
        return handshake("/chat?x=y", *fields, f"X-Forwarded-For: 192.0.2.{number}")

    for number in range(3):
        house.opened(head(number))
    house.links[2].send(client_frame(TEXT, b"Hello") + client_frame(TEXT, b"to be")[:8])
    assert house.links[2].receive(7) == server_frame(TEXT, b"Hello")
    house.dial()
    house.loop.until(lambda: house.factory.count == 4)
    house.stop_clock(monkeypatch)
    now = house.loop.seconds()
    first, visitor, second, third = house.factory.snapshots(0, 10)
    assert [it.client for it in (first, visitor, second, third)] == ["192.0.2.0", None, "192.0.2.1", "192.0.2.2"]
    assert (visitor.state, visitor.path, visitor.peer and visitor.peer[0]) == ("connecting", "/", "127.0.0.1")
    assert second.since == now
    assert (third.traffic.received_messages, third.traffic.sent_octets) == (1, 5)
    assert third.buffered > 0
    for name in ("path", "state", "is_backpressured", "lane", "subprotocol", "extensions", "terms"):
        assert getattr(second, name) == getattr(first, name), name
    assert type(second.peer) is type(first.peer)
    whole = [it.client for it in house.factory.snapshots(0, 10)]
    for start, size in ((0, 1), (0, 2), (1, 2), (2, 1), (3, 5), (4, 5), (9, 1)):
        assert [it.client for it in house.factory.snapshots(start, size)] == whole[start : start + size]
    for count in (0, 1, 3, 4, 9):
        assert [it.client for it in house.factory.newest(count)] == [*whole[1:][::-1], whole[0]][:count]
    house.recall(1)
    house.links[1].send(client_frame(PING, b""))
    assert house.links[1].receive(2) == server_frame(PONG, b"")
    of_connection = next(it for it in house.factory.snapshots(0, 9) if it.client == "192.0.2.1")
    assert of_connection.peer == second.peer
    assert of_connection.terms == second.terms


def test_a_connection_keeps_its_number(make: Make) -> None:
    """A visitor gets one when it is listed, and keeps it as a guest and as a connection."""
    house = make(ping_interval=0)
    house.guest().reset()
    house.loop.until(lambda: house.factory.count == 0)
    client = house.dial()
    house.loop.until(lambda: house.factory.count == 1)

    def number() -> str:
        (told,) = house.factory.snapshots(0, 9)
        return told.number

    assert (number(), number()) == ("1", "1")
    client.push(HEAD)
    house.loop.until(lambda: house.guests == 1)
    assert number() == "1"
    house.recall()
    assert (house.only.number, number()) == ("1", "1")
    client.reset()
    house.loop.until(lambda: house.factory.count == 0)
    house.guest()
    assert number() == "2", "another connection has the descriptor"
    unnamed = house.guest()
    house.recall()
    unnamed.send(client_frame(PING, b""))
    assert sorted(it.number for it in house.factory.snapshots(0, 9)) == ["2", "3"]


@pytest.mark.parametrize("is_unix", [False, True])
def test_the_list_without_what_may_be_there(make: Make, is_unix: bool) -> None:
    house = make(is_unix, ping_interval=0)
    house.opened()
    house.opened()
    one, other = house.factory.snapshots(0, 9)
    assert (other.subprotocol, other.extensions, other.terms, other.path) == (None, [], None, "/")
    assert other.client == one.client
    assert type(other.peer) is type(one.peer)


def test_backpressure(house: House) -> None:
    """A guest whose client does not take its answers is told of."""
    client = house.guest()
    assert house.factory.backpressured == 0
    stuff(client, client_frame(BINARY, b"x" * 60_000), lambda: house.factory.backpressured > 0)
    assert house.guests == 1
    assert house.factory.snapshots(0, 1)[0].is_backpressured


def test_a_closed_port(house: House) -> None:
    """Its guests stay, and can still become connections."""
    client = house.guest()
    house.hosting.close(object())
    house.hosting.close(house.port)
    late = house.dial(HEAD)
    house.loop.turn(0.01)
    assert (house.guests, bytes(late.take())) == (1, b"")
    assert house.hosting._ports
    house.recall()
    client.send(client_frame(PING, b""))
    assert client.receive(2) == server_frame(PONG, b"")
    assert not house.hosting._ports, "nobody can need the port any more"


def test_a_port_that_is_closed_and_opened_again(house: House) -> None:
    """The door opens at it anew, and forgets what it knew of it."""
    client = house.guest()
    house.hosting.close(house.port)
    assert house.hosting.open(house.port)
    other = house.guest()
    client.reset()
    other.reset()
    house.loop.until(lambda: not house.guests)
    assert list(house.hosting._ports.values()) == [house.port]
    house.guest()


def test_what_comes_after_a_drain_does_nothing(house: House) -> None:
    """The door is gone then."""
    hosting = house.hosting
    drained = house.factory.drain()
    assert drained.called
    hosting.told()
    hosting._look(1.0)
    hosting._in_turns("what", bool)
    assert hosting.held == 0
    house.loop.turn()


def test_no_deadlines(make: Make) -> None:
    """Without a handshake timeout visitors stay."""
    house = make(ping_interval=0, handshake_timeout=0)
    house.dial()
    house.loop.until(lambda: house.hosting.count == 1)
    house.loop.advance(1)
    house.loop.turn(0.01)
    assert house.hosting.count == 1


def test_memory_is_short(make: Make) -> None:
    """Guests that hold anything become connections, which the budget knows, and so does whoever comes meanwhile. A
    guest that holds nothing becomes one when it does."""
    house = make(ping_interval=0, max_buffered=1 << 20, max_message_size=1 << 20)
    idle = house.guest()
    for _ in range(2):
        house.guest().send(client_frame(BINARY, b"x" * 400_000)[:300_000])
    house.loop.until(lambda: house.factory.budget.is_tight)
    house.loop.until(lambda: house.guests == 1)
    assert house.hosting.held == 0
    assert house.factory.budget.held > 1 << 19
    other = house.opened()
    assert house.guests == 1
    for client in (other, idle):
        client.send(client_frame(TEXT, b"Hello"))
        assert client.receive(7) == server_frame(TEXT, b"Hello")
    idle.send(client_frame(TEXT, b"Hello")[:8])
    house.loop.until(lambda: house.hosting.held > 0)
    house.loop.advance(0.1)
    assert (house.guests, house.hosting.held) == (0, 0)
    idle.send(client_frame(TEXT, b"Hello")[8:])
    assert idle.receive(7) == server_frame(TEXT, b"Hello")


def test_what_a_guest_holds_is_counted_once_when_it_becomes_a_connection(house: House) -> None:
    """It becomes one outside of the pump's turns, and the next turn may be far away."""
    house.guest().send(client_frame(BINARY, b"x" * 400_000)[:300_000])
    house.loop.until(lambda: house.hosting.held > 300_000)
    house.loop.turn()
    budget = house.factory.budget
    assert budget.total == house.hosting.held
    house.recall()
    assert house.hosting.held == 0
    assert budget.total == budget.held == house.only.count()


def test_a_client_that_is_gone_before_its_connection_is_made(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is counted as if it had been lost."""
    house.guest().send(client_frame(11, b""))
    stranger = house.dial(b"x")

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(adopt, "adopt", fail)
    house.loop.until(lambda: not house.hosting.count)
    assert house.factory.counts.outcomes[Outcome.LOST] == 3
    assert house.factory.counts.closes["1006", Closer.CLIENT] == 2
    stranger.socket.close()


def test_a_replay_that_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is reset, and the others go on."""
    client, other = house.guest(), house.opened()

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch, capturedLogs() as events:
        patch.setattr(EchoProtocol, "replay", fail)
        client.send(client_frame(11, b""))
        house.loop.until(lambda: (client.take(), client.was_reset)[1])
    assert ["a connection could not be made of a guest" in eventAsText(event) for event in events] == [True]
    house.recall()
    other.send(client_frame(PING, b""))
    assert other.receive(2) == server_frame(PONG, b"")


def test_no_descriptors(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twisted accepts once, because it knows what to do then, and the door is open again."""
    calls: list[object] = []
    monkeypatch.setattr(house.port, "doRead", lambda: calls.append(None))
    house.hosting._door.close(0)
    house.hosting.accept(0)
    assert calls == [None]
    house.guest()
    with monkeypatch.context() as patch:
        patch.setattr(house.hosting._door, "open", lambda *_: False)
        house.hosting.accept(0)
    assert house.port in house.loop.readers
    house.port.stopReading()
    calls.pop()
    house.hosting.drain()
    house.hosting.accept(0)
    assert len(calls) == 2
    house.dial(HEAD)
    house.loop.turn(0.01)
    assert house.hosting.count == 1  # the guest, which has its Close frame


def test_steps_of_one_name_are_not_begun_twice(make: Make) -> None:
    house = make()
    steps: list[int] = []

    def step() -> bool:
        steps.append(len(steps))
        return len(steps) < 3

    house.hosting._in_turns("some", step)
    house.hosting._in_turns("some", step)
    assert len(steps) == 1
    house.loop.until(lambda: "some" not in house.hosting._under_way)
    assert len(steps) == 3
