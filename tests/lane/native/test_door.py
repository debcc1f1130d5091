"""The door by itself, over real sockets: who becomes a guest, who is for the owner, and what is left of a guest."""

from __future__ import annotations

import fcntl
import itertools
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from echod.http.upgrade import JUDGED_FIELDS
from echod.lane.native import zlib_functions
from tests.frames import handshake
from tests.lane.native.oracle import BINARY, TEXT, client_frame, server_frame
from tests.lane.native.test_pump import KEY, ODD, Pump
from tests.lane.native.test_verdicts import OTHER_KEY, answered, with_key
from tests.lane.test_tls_buffers import allocated
from tests.tools import open_files

if TYPE_CHECKING:
    from echod.lane.native import Native

PING_FRAME = b"\x89\x00"
HEAD = handshake()
ANSWER = answered(HEAD)
ACCEPTS = 16
CLOSE = b"\x88\x82" + KEY + bytes(a ^ b for a, b in zip(b"\x03\xe8", KEY, strict=False))
BAD_CLOSE = b"\x88\x82" + KEY + bytes(a ^ b for a, b in zip(b"\x03\xe7", KEY, strict=False))
DEFLATE = handshake("/", "Sec-WebSocket-Extensions: permessage-deflate")


@dataclass
class Arrival:
    """A connection for the owner."""

    served: socket.socket | None
    endpoint: int
    octets: bytes


@dataclass
class Gone:
    """A guest that has ended. If nothing is left to do, there is only a code."""

    code: int
    served: socket.socket | None = None
    endpoint: int = 0
    why: str = ""
    messages: int = 0
    rest: bytes = b""
    unsent: bytes = b""
    head: bytes = b""
    terms: tuple[int, int] | None = None


class Doorkeeper(Pump):
    """A pump with a door, and the owner of what comes through it."""

    def __init__(self, native: Native, kept: bytes = b"") -> None:
        super().__init__(native)
        self.ffi: Any = native.ffi
        self.verdicts = self.lib.echod_verdicts_new(b" ".join(JUDGED_FIELDS), kept, 16_384)
        self.door: Any = self.lib.echod_door_new(self.pump, self.verdicts)
        assert self.door
        self.lib.echod_door_set_room(self.door, 1_000)
        self.listening: list[socket.socket] = []
        self.sockets: list[socket.socket] = []
        self.arrivals: list[Arrival] = []
        self.gone: list[Gone] = []

    def remember(self, head: bytes, answer: bytes, terms: tuple[int, int] | None = None) -> None:
        told = self.ffi.NULL if terms is None else self.ffi.new("echod_terms *", terms)
        assert self.lib.echod_verdicts_remember(self.verdicts, head, len(head), answer, len(answer), told)

    def listen(self, made: socket.socket | None = None) -> int:
        """Open the door at a listening socket; its number."""
        if made is None:
            made = socket.create_server(("127.0.0.1", 0), backlog=200)
        made.setblocking(False)
        self.listening.append(made)
        assert self.lib.echod_door_open(self.door, made.fileno(), len(self.listening) - 1) == 0
        return len(self.listening) - 1

    def dial(self, octets: bytes = b"", endpoint: int = 0) -> socket.socket:
        client = self.keep(socket.create_connection(self.listening[endpoint].getsockname()))
        client.settimeout(20)
        client.sendall(octets)
        return client

    def keep(self, made: socket.socket) -> socket.socket:
        self.sockets.append(made)
        return made

    def turns(self, until: Callable[[], object]) -> None:
        """Take turns until something is so."""
        end = time.monotonic() + 30
        while not until():
            assert time.monotonic() < end
            self.take_turn()

    def take_turn(self, budget: int = 10**6) -> None:
        assert not self.lib.echod_pump_turn(self.pump, budget), "a guest is no lease of the owner's"
        self.collect()

    def collect(self) -> None:
        """Take what the turn has left."""
        arrival = self.lib.echod_door_arrivals(self.door)
        while arrival:
            served = None if arrival.fd < 0 else self.keep(socket.socket(fileno=arrival.fd))
            self.arrivals.append(
                Arrival(served, arrival.endpoint, bytes(self.ffi.buffer(arrival.octets, arrival.size)))
            )
            done, arrival = arrival, arrival.next
            self.lib.echod_arrival_free(done)
        gone = self.ffi.new("echod_gone **")
        for place in range(self.lib.echod_door_gone(self.door, gone)):
            assert 0 <= gone[0][place].age < 60 * 10**9
            self.gone.append(Gone(code=gone[0][place].code))
        guest = self.lib.echod_door_ended(self.door)
        while guest:
            self.gone.append(self.what_is_left(guest))
            done, guest = guest, guest.next
            self.lib.echod_guest_free(self.door, done)

    def what_is_left(self, guest: Any) -> Gone:
        lease, buffer = guest.lease, self.ffi.buffer
        head = self.ffi.new("uint8_t[]", self.lib.echod_guest_head(guest, self.ffi.NULL))
        assert self.lib.echod_guest_head(guest, head) == len(head)
        terms = self.lib.echod_guest_terms(guest)
        return Gone(
            0,
            self.keep(socket.socket(fileno=lease.fd)),
            guest.endpoint,
            self.reasons[lease.why],
            lease.messages,
            bytes(buffer(lease.rest, lease.rest_size)) if lease.rest_size else b"",
            bytes(buffer(lease.unsent, lease.unsent_first)) if lease.unsent_first else b"",
            bytes(buffer(head)),
            (terms.window_size, terms.window_bits) if terms else None,
        )

    @property
    def counts(self) -> Any:
        return self.lib.echod_door_counted(self.door)

    def guests(self) -> list[Any]:
        found, guest = [], self.lib.echod_door_first(self.door)
        while guest:
            found.append(guest)
            guest = guest.next
        return found

    def end(self) -> None:
        for number in range(len(self.listening)):
            self.lib.echod_door_close(self.door, number)
        self.lib.echod_door_turn_out(self.door, 1000)
        for guest in self.guests():
            self.lib.echod_door_recall(self.door, guest)
        self.collect()
        while self.lib.echod_door_reset_all(self.door, time.monotonic_ns()):
            self.collect()
        self.collect()
        assert (self.counts.visitors, self.counts.guests, self.counts.leavers) == (0, 0, 0)
        assert (self.lib.echod_door_held(self.door), self.lib.echod_door_backpressured(self.door)) == (0, 0)
        self.lib.echod_door_free(self.door)
        assert self.lib.echod_verdicts_held(self.verdicts) >= 0
        self.lib.echod_verdicts_clear(self.verdicts)
        assert self.lib.echod_verdicts_held(self.verdicts) == 0
        self.lib.echod_verdicts_free(self.verdicts)
        self.lib.echod_pump_free(self.pump)
        for each in (*self.listening, *self.sockets):
            each.close()


@pytest.fixture
def door(native: Native) -> Iterator[Doorkeeper]:
    made = Doorkeeper(native, b"x-forwarded-for")
    made.remember(HEAD, ANSWER)
    made.listen()
    yield made
    made.end()


def receive(client: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size and (piece := client.recv(size - len(octets))):
        octets += piece
    return octets


def pending(guest: Any) -> int:
    """Return how many bytes the peer's end has not taken."""
    found: int = struct.unpack("i", fcntl.ioctl(guest.lease.fd, termios.TIOCOUTQ, bytes(4)))[0]
    return found


def welcomed(door: Doorkeeper, octets: bytes = HEAD) -> socket.socket:
    """Return the client of a new guest, which has its answer."""
    before = door.counts.answered
    client = door.dial(octets)
    door.turns(lambda: door.counts.answered > before)
    assert receive(client, len(ANSWER)).startswith(b"HTTP/1.1 101 ")
    return client


def test_a_guest(door: Doorkeeper) -> None:
    """A head on which there is a verdict is answered as Python answers it, messages are echoed, and the end of it is
    noted."""
    client = door.dial(with_key(HEAD))
    door.turns(lambda: door.counts.guests)
    expected = answered(with_key(HEAD))
    assert receive(client, len(expected)) == expected
    client.sendall(client_frame(b"Hello", TEXT, KEY))
    (guest,) = door.guests()
    door.turns(lambda: guest.lease.messages)
    assert receive(client, 7) == server_frame(b"Hello", TEXT)
    client.close()
    door.turns(lambda: door.gone)
    assert door.gone == [Gone(code=0)]
    assert (door.counts.guests, door.counts.answered, door.arrivals) == (0, 1, [])


def test_frames_behind_the_head(door: Doorkeeper) -> None:
    """They are echoed behind the answer; also one that is not whole yet."""
    frame = client_frame(b"Hello", TEXT, KEY)
    client = door.dial(HEAD + frame + frame[:3])
    door.turns(lambda: door.counts.guests)
    assert receive(client, len(ANSWER) + 7) == ANSWER + server_frame(b"Hello", TEXT)
    client.sendall(frame[3:] + client_frame(b"x" * 70_000, BINARY, KEY))
    (guest,) = door.guests()
    door.turns(lambda: guest.lease.messages == 3)
    echo = server_frame(b"Hello", TEXT) + server_frame(b"x" * 70_000, BINARY)
    assert receive(client, len(echo)) == echo


def test_a_visitor_waits(door: Doorkeeper) -> None:
    """One that has sent nothing is kept until it does."""
    client = door.dial()
    door.turns(lambda: door.counts.visitors)
    door.take_turn()
    assert (door.counts.guests, door.arrivals) == (0, [])
    client.sendall(HEAD)
    door.turns(lambda: door.counts.guests)
    assert door.counts.visitors == 0
    assert receive(client, len(ANSWER)) == ANSWER


def test_what_a_visitor_takes(door: Doorkeeper) -> None:
    """Whoever connects and says nothing gets some hundred bytes until its deadline."""
    many = 100
    for _ in range(many):
        door.dial()
    before = allocated()
    door.turns(lambda: door.counts.visitors == many)
    assert (allocated() - before) / many < 128


STRANGE = [
    HEAD[:-1],
    HEAD[:1],
    handshake("/other"),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01",
    b"\r\n" + HEAD,
    HEAD.replace(b"==", b"=="[:1]),
]


@pytest.mark.parametrize("octets", STRANGE)
@pytest.mark.parametrize("is_late", [False, True])
def test_an_arrival(door: Doorkeeper, octets: bytes, is_late: bool) -> None:
    """Whoever sends something else first is for the owner, with all that was read."""
    client = door.dial(b"" if is_late else octets)
    if is_late:
        door.turns(lambda: door.counts.visitors)
        client.sendall(octets)
    door.turns(lambda: door.arrivals)
    (arrival,) = door.arrivals
    assert arrival.served is not None
    assert (arrival.endpoint, arrival.octets) == (0, octets)
    assert not os.get_blocking(arrival.served.fileno())
    assert not os.get_inheritable(arrival.served.fileno())
    client.sendall(b"more")
    arrival.served.settimeout(20)
    assert arrival.served.recv(100) == b"more"
    door.take_turn()
    assert (door.counts.visitors, door.counts.guests) == (0, 0)


@pytest.mark.parametrize("octets", [ODD, CLOSE[:-1], BAD_CLOSE, b"\x81\x05Hello", b"\xff"])
@pytest.mark.parametrize("is_behind", [False, True])
def test_a_guest_that_is_not_ordinary(door: Doorkeeper, octets: bytes, is_behind: bool) -> None:
    """What comes next is the owner's, with a head for which the verdict is the same."""
    frame = client_frame(b"Hello", TEXT, KEY)
    client = welcomed(door, with_key(HEAD) + (frame + octets if is_behind else b""))
    if not is_behind:
        client.sendall(frame + octets)
    door.turns(lambda: door.gone)
    (gone,) = door.gone
    assert (gone.why, gone.messages, gone.rest, gone.unsent) == ("NOT_ORDINARY", 1, octets, b"")
    assert gone.head == with_key(HEAD).replace(b"Key: ", b"Key:")
    assert gone.served is not None
    gone.served.sendall(b"from the owner")
    assert receive(client, 7 + 14) == server_frame(b"Hello", TEXT) + b"from the owner"


def test_a_guest_that_says_goodbye(door: Doorkeeper) -> None:
    """A Close frame gets its reply, and the socket is closed."""
    client = welcomed(door)
    client.sendall(client_frame(b"Hello", TEXT, KEY))
    (guest,) = door.guests()
    door.turns(lambda: guest.lease.messages)
    assert receive(client, 7) == server_frame(b"Hello", TEXT)
    door.turns(lambda: pending(guest) == 0)
    client.sendall(CLOSE)
    door.turns(lambda: door.gone)
    assert door.gone == [Gone(code=1000)]
    assert door.lib.echod_pump_sums(door.pump).text.sizes[3] == 1
    assert receive(client, 100) == b"\x88\x02\x03\xe8"


def test_a_guest_that_goes_on_behind_its_goodbye(door: Doorkeeper) -> None:
    """It is the owner's: if the socket were closed at once, what comes next would be answered with a reset, which costs
    some peers the reply."""
    client = welcomed(door)
    client.sendall(CLOSE + ODD)
    door.turns(lambda: door.gone)
    (gone,) = door.gone
    assert (gone.why, gone.code, gone.rest) == ("NOT_ORDINARY", 0, CLOSE + ODD)


def test_a_guest_that_says_goodbye_and_has_not_taken_its_answers(door: Doorkeeper) -> None:
    """It is the owner's, which has a deadline. A closed socket would have none."""
    client = door.keep(socket.socket())
    client.settimeout(20)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect(door.listening[0].getsockname())
    client.sendall(HEAD)
    door.turns(door.guests)
    assert receive(client, len(ANSWER)) == ANSWER
    (guest,) = door.guests()
    frame, number = client_frame(b"x" * 1000, BINARY, KEY), 0
    while pending(guest) < 10_000:
        client.sendall(frame)
        number += 1
        door.turns(lambda: guest.lease.messages == number)  # noqa: B023 - it is asked at once
    assert guest.lease.unsent_size == 0
    client.sendall(CLOSE)
    door.turns(lambda: door.gone)
    (gone,) = door.gone
    assert (gone.why, gone.code, gone.rest, gone.unsent) == ("NOT_ORDINARY", 0, CLOSE, b"")
    assert receive(client, 1004 * number) == server_frame(b"x" * 1000, BINARY) * number


def test_a_goodbye_within_a_message(door: Doorkeeper) -> None:
    """It is the owner's, as the message is."""
    client = welcomed(door)
    client.sendall(b"\x01\x81" + KEY + b"a" + CLOSE)
    door.turns(lambda: door.gone)
    (gone,) = door.gone
    assert (gone.why, gone.code, gone.rest.endswith(CLOSE)) == ("NOT_ORDINARY", 0, True)
    assert gone.served is not None


def test_a_kept_value(door: Doorkeeper) -> None:
    """The head of a guest has its own X-Forwarded-For."""
    head = handshake("/", "X-Forwarded-For: 192.0.2.1")
    door.remember(head, answered(head))
    welcomed(door, head.replace(b"0.2.1", b"0.2.77"))
    door.lib.echod_door_recall(door.door, door.guests()[0])
    door.collect()
    (gone,) = door.gone
    assert b"X-Forwarded-For: 192.0.2.77\r\n" in gone.head


def test_deflated_messages(native: Native) -> None:
    """A guest takes them on the terms of its verdict."""
    door = Doorkeeper(native)
    functions = zlib_functions.find()
    assert functions is not None
    fields: Any = native.ffi.typeof("echod_zlib").fields
    table = native.ffi.new("echod_zlib *", {name: native.ffi.cast(it.type, functions[name]) for name, it in fields})
    how = native.ffi.new("echod_deflate_settings *", {"level": 1, "mem_level": 4, "min_deflated": 64})
    assert native.lib.echod_pump_set_zlib(door.pump, table, how) == 0
    door.listen()
    answer = answered(DEFLATE)
    door.remember(DEFLATE, answer, (1 << 15, 0))
    client = door.dial(DEFLATE)
    door.turns(lambda: door.counts.guests)
    assert receive(client, len(answer)) == answer
    message = b"\xf2\x48\xcd\xc9\xc9\x07\x00"  # RFC 7692 section 7.2.3.1: Hello
    client.sendall(client_frame(message, 0x40 | TEXT, KEY))
    (guest,) = door.guests()
    door.turns(lambda: guest.lease.messages)
    assert receive(client, 9) == server_frame(message, 0x40 | TEXT)
    native.lib.echod_door_recall(door.door, guest)
    door.collect()
    assert door.gone[0].terms == (1 << 15, 0)
    door.end()


def test_visitors_that_leave(door: Doorkeeper) -> None:
    """A connection that ends before it has said something is counted, whether the door knew it or not."""
    client = door.dial()
    door.turns(lambda: door.counts.visitors)
    client.close()
    door.turns(lambda: door.counts.lost == 1)
    door.dial().close()
    door.turns(lambda: door.counts.lost == 2)
    client = door.dial()
    door.turns(lambda: door.counts.visitors)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    door.turns(lambda: door.counts.lost == 3)
    assert (door.counts.visitors, door.arrivals) == (0, [])


def test_visitors_that_say_nothing(door: Doorkeeper) -> None:
    """They are reset at their deadline, the oldest first."""
    first = door.dial()
    door.turns(lambda: door.counts.visitors == 1)
    between = time.monotonic_ns()
    second = door.dial()
    door.turns(lambda: door.counts.visitors == 2)
    door.lib.echod_door_expire(door.door, between)
    assert (door.counts.visitors, door.counts.timed_out) == (1, 1)
    with pytest.raises(ConnectionResetError):
        first.recv(1)
    door.lib.echod_door_expire(door.door, time.monotonic_ns())
    with pytest.raises(ConnectionResetError):
        second.recv(1)
    assert (door.counts.visitors, door.counts.timed_out, door.counts.lost) == (0, 2, 0)


def test_room(door: Doorkeeper) -> None:
    """Visitors and guests count together. Who comes when there is no room is for the owner, unread."""
    door.lib.echod_door_set_room(door.door, 2)
    welcomed(door)
    door.dial()
    door.turns(lambda: door.counts.visitors)
    door.dial(HEAD)
    door.turns(lambda: door.arrivals)
    assert door.arrivals[0].octets == b""
    assert (door.counts.visitors, door.counts.guests) == (1, 1)


def test_turned_out(door: Doorkeeper) -> None:
    """In a drain all visitors are for the owner."""
    for _ in range(3):
        door.dial()
    door.turns(lambda: door.counts.visitors == 3)
    door.lib.echod_door_turn_out(door.door, 1000)
    door.collect()
    assert [arrival.octets for arrival in door.arrivals] == [b""] * 3
    assert door.counts.visitors == 0


SECOND = 10**9


def receive_in_turns(door: Doorkeeper, client: socket.socket, size: int) -> bytes:
    """Receive an echo."""
    client.setblocking(False)
    octets = b""

    def has_come() -> bool:
        nonlocal octets
        with suppress(BlockingIOError):
            octets += client.recv(size - len(octets))
        return len(octets) == size

    door.turns(has_come)
    return octets


def settle(door: Doorkeeper) -> None:
    """Wait until the clients' kernels have confirmed all that was sent to guests."""
    fds = [guest.lease.fd for guest in door.guests()]
    door.turns(lambda: not any(any(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))) for fd in fds))


def test_pings(door: Doorkeeper) -> None:
    """A silent guest gets one, and what it sends is a sign of life. Others get none."""
    door.lib.echod_door_set_keepalive(door.door, 20 * SECOND, 0)
    clients = [welcomed(door) for _ in range(4)]
    guests, began = door.guests(), time.monotonic_ns()
    for guest in guests:
        guest.seen = began  # a busy machine has taken its time
    assert [guest.since <= later.since for guest, later in itertools.pairwise(guests)] == [True] * 3
    assert door.lib.echod_door_look(door.door, began + 19 * SECOND, 100) == 4
    clients[1].sendall(client_frame(b"x", TEXT, KEY))
    assert receive_in_turns(door, clients[1], 3) == server_frame(b"x", TEXT)
    settle(door)
    assert door.lib.echod_door_look(door.door, began + 20 * SECOND, 2) == 2
    assert door.lib.echod_door_look(door.door, began + 20 * SECOND, 2) == 2
    for place, client in enumerate(clients):
        client.setblocking(False)
        if place == 1:
            with pytest.raises(BlockingIOError):
                client.recv(1)
        else:
            assert client.recv(10) == PING_FRAME
    assert guests[1].seen == began + 20 * SECOND
    clients[0].sendall(b"\x8a\x80abcd")
    door.turns(lambda: guests[0].lease.reads == 2)
    assert door.lib.echod_door_look(door.door, began + 25 * SECOND, 100) == 4
    assert guests[0].seen == began + 25 * SECOND
    # Who has got a ping gets none at the next look. Without a timeout there is another after an interval.
    with pytest.raises(BlockingIOError):
        clients[2].recv(1)
    door.lib.echod_door_judge(door.door, began + 40 * SECOND)
    settle(door)
    assert door.lib.echod_door_look(door.door, began + 40 * SECOND, 100) == 4
    assert clients[2].recv(10) == PING_FRAME
    assert (door.counts.guests, door.gone) == (4, [])
    assert door.lib.echod_door_look(door.door, began, 0) == 0


def test_the_dead(door: Doorkeeper) -> None:
    """Who shows no sign of life for the timeout after a ping is reset."""
    door.lib.echod_door_set_keepalive(door.door, 20 * SECOND, 10 * SECOND)
    clients = [welcomed(door) for _ in range(3)]
    settle(door)
    guests, began = door.guests(), time.monotonic_ns()
    assert door.lib.echod_door_look(door.door, began + 20 * SECOND, 100) == 3
    clients[2].sendall(b"\x8a\x80abcd")
    door.turns(lambda: guests[2].lease.reads == 2)
    door.lib.echod_door_recall(door.door, guests[0])
    door.lib.echod_door_judge(door.door, began + 29 * SECOND)
    assert door.counts.guests == 2
    door.lib.echod_door_judge(door.door, began + 30 * SECOND)
    door.collect()
    assert [gone.code for gone in door.gone] == [door.lib.ECHOD_TIMED_OUT, 0]
    assert clients[1].recv(10) == PING_FRAME
    with pytest.raises(ConnectionResetError):
        clients[1].recv(1)
    assert door.guests() == [guests[2]]
    assert guests[2].seen == began + 30 * SECOND


def test_a_ping_behind_answers(door: Doorkeeper) -> None:
    """What a client takes is a sign of life, which the owner looks after: such a guest is recalled."""
    door.lib.echod_door_set_keepalive(door.door, 20 * SECOND, 10 * SECOND)
    client = welcomed(door)
    (guest,) = door.guests()
    client.setblocking(False)
    rest = frame = client_frame(b"x" * 60_000, BINARY, KEY)
    while not guest.lease.unsent_size:
        with suppress(BlockingIOError):
            rest = rest[client.send(rest) :] or frame
        door.take_turn()
    for later in (20, 40):  # the first one notes a sign of life
        assert door.lib.echod_door_look(door.door, time.monotonic_ns() + later * SECOND, 1) == 1
    door.collect()
    assert [gone.why for gone in door.gone] == ["RECALLED"]


def test_a_look_does_not_take_long(door: Doorkeeper) -> None:
    """It sends so many pings, or recalls so many guests, and the next one goes on behind it."""
    door.lib.echod_door_set_keepalive(door.door, SECOND, 0)
    clients = [welcomed(door) for _ in range(40)]
    for client in clients:
        client.setblocking(False)
    now = time.monotonic_ns() + SECOND
    # A socket that is shut down for writing takes no ping.
    for guest in door.guests():
        with socket.socket(fileno=os.dup(guest.lease.fd)) as made:
            made.shutdown(socket.SHUT_WR)
    looks = [door.lib.echod_door_look(door.door, now, 40) for _ in range(3)]
    assert looks == [30, 10, 0]
    door.collect()
    assert len(door.gone) == 40


GOING_AWAY = b"\x88\x02\x03\xe9"


def see_off(door: Doorkeeper, *clients: socket.socket) -> None:
    """Let all guests leave. These clients get the Close frame."""
    settle(door)
    assert not door.lib.echod_door_see_off(door.door, time.monotonic_ns(), GOING_AWAY, len(GOING_AWAY))
    door.collect()
    assert door.counts.guests == 0
    for client in clients:
        assert receive(client, len(GOING_AWAY)) == GOING_AWAY


def test_guests_that_are_seen_off(door: Doorkeeper) -> None:
    """Those of which nothing waits get a Close frame, and their sockets are closed when they reply. The others are for
    the owner, and so is who says anything else."""
    clients = [welcomed(door) for _ in range(5)]
    clients[1].sendall(client_frame(b"Hello", TEXT, KEY)[:-1])
    clients[2].sendall(b"\x01\x80" + KEY)
    door.turns(lambda: door.lib.echod_door_held(door.door) > 0)
    door.turns(lambda: all(guest.lease.reads == 2 for guest in door.guests()[1:3]))
    settle(door)
    clients[3].sendall(client_frame(b"not read", TEXT, KEY))
    fd = door.guests()[3].lease.fd
    with select.epoll() as polled:
        polled.register(fd, select.EPOLLIN)
        assert polled.poll(20)
    see_off(door, clients[0], clients[4])
    assert [gone.why for gone in door.gone] == ["RECALLED"] * 3
    assert (door.counts.leavers, door.lib.echod_door_held(door.door)) == (2, 0)
    listed = door.ffi.new("echod_listed[]", 5)
    assert door.lib.echod_door_list(door.door, 0, 5, listed) == 2
    assert listed[0].guest.left <= listed[1].guest.left
    door.gone.clear()
    clients[0].sendall(CLOSE)
    clients[4].sendall(client_frame(b"late", TEXT, KEY))
    door.turns(lambda: len(door.gone) == 2)
    door.gone.sort(key=lambda gone: gone.why)
    assert door.gone[0] == Gone(code=door.lib.ECHOD_LEFT)
    assert (door.gone[1].why, door.gone[1].rest) == ("NOT_ORDINARY", client_frame(b"late", TEXT, KEY))
    assert clients[0].recv(1) == b""
    assert door.counts.leavers == 0


@pytest.mark.parametrize("is_reset", [False, True])
def test_guests_that_do_not_reply(door: Doorkeeper, is_reset: bool) -> None:
    """They are gone when they close, or at their deadline."""
    clients = [welcomed(door) for _ in range(2)]
    see_off(door, *clients)
    now = time.monotonic_ns()
    assert not door.lib.echod_door_close_deadline(door.door, 1, now)
    if is_reset:
        clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    clients[0].close()
    door.turns(lambda: door.gone)
    assert door.gone == [Gone(code=door.lib.ECHOD_LEFT_LOST)]
    assert not door.lib.echod_door_close_deadline(door.door, now, now)
    door.collect()
    assert door.gone[1:] == [Gone(code=door.lib.ECHOD_LEFT_TIMED_OUT)]
    with pytest.raises(ConnectionResetError):
        clients[1].recv(1)


def test_many_are_seen_off_and_reset(door: Doorkeeper) -> None:
    """There is room for so many records, and the next call goes on."""
    clients = [welcomed(door) for _ in range(300)]
    see_off(door, *clients)
    for client in clients[:280]:
        client.sendall(CLOSE)
    door.turns(lambda: len(door.gone) == 280)
    assert {gone.code for gone in door.gone} == {door.lib.ECHOD_LEFT}
    visitor = door.dial()
    door.turns(lambda: door.counts.visitors)
    clients = [welcomed(door) for _ in range(300)]
    assert door.lib.echod_door_reset_all(door.door, time.monotonic_ns())
    door.collect()
    assert not door.lib.echod_door_reset_all(door.door, time.monotonic_ns())
    door.collect()
    codes = [gone.code for gone in door.gone[280:]]
    assert codes == [door.lib.ECHOD_TIMED_OUT] * 300 + [door.lib.ECHOD_LEFT_TIMED_OUT] * 20
    with pytest.raises(ConnectionResetError):
        visitor.recv(1)
    assert (door.counts.visitors, door.counts.timed_out) == (0, 1)


def test_guests_that_hold_something(door: Doorkeeper) -> None:
    """They are recalled, and the others stay."""
    clients = [welcomed(door) for _ in range(70)]
    assert not door.lib.echod_door_recall_holders(door.door)
    for client in clients[:69]:
        client.sendall(client_frame(b"Hello", TEXT, KEY)[:-1])
    door.turns(lambda: all(guest.lease.held for guest in door.guests()[:69]))
    assert door.lib.echod_door_held(door.door) == sum(guest.lease.held for guest in door.guests())
    times = 1
    while door.lib.echod_door_recall_holders(door.door):
        times += 1
        for guest in door.guests()[:3]:  # the next one goes on behind any that is gone
            door.lib.echod_door_recall(door.door, guest)
    door.collect()
    assert times == 3
    assert door.counts.guests == 1
    assert {gone.why for gone in door.gone} == {"RECALLED"}
    assert door.lib.echod_door_held(door.door) == 0


def test_a_turn_leaves_no_more_than_so_much_to_the_owner(door: Doorkeeper) -> None:
    """Each one takes the owner some time, so the turn ends, and the next one goes on."""
    most = 64
    clients = [welcomed(door) for _ in range(most + 30)]
    for client in clients:
        client.sendall(ODD)
    door.turns(lambda: False if len(door.gone) < len(clients) else door.gone)
    for _ in range(most + 30):
        door.dial(b"x")
    found = []
    while len(door.arrivals) < len(clients):
        before = len(door.arrivals)
        door.take_turn(budget=10**9)
        found.append(len(door.arrivals) - before)
    assert max(found) < most + ACCEPTS


def test_without_room_a_visitor_is_the_owners(door: Doorkeeper) -> None:
    visitor = door.dial()
    door.turns(lambda: door.counts.visitors)
    door.lib.echod_door_set_room(door.door, 0)
    visitor.sendall(HEAD)
    door.turns(lambda: door.arrivals)
    assert door.arrivals[0].octets == HEAD


def test_a_guest_that_becomes_the_owners_keeps_its_place(door: Doorkeeper) -> None:
    """There is no room for another in the turn in which it ends."""
    client = welcomed(door)
    door.lib.echod_door_set_room(door.door, 1)
    client.sendall(ODD)
    door.dial(HEAD)
    door.turns(lambda: door.gone and door.arrivals)
    assert (door.counts.answered, door.arrivals[0].octets) == (1, b"")


@pytest.mark.parametrize("size", [256, 257])
def test_the_size_of_a_kept_value(door: Doorkeeper, size: int) -> None:
    """A guest keeps no more of a head than a connection does."""
    head = handshake("/", "X-Forwarded-For: 192.0.2.1")
    door.remember(head, answered(head))
    door.dial(handshake("/", "X-Forwarded-For:" + "1" * size))
    door.turns(lambda: door.counts.guests or door.arrivals)
    assert door.counts.guests == (size == 256)


def test_guests_in_their_order(door: Doorkeeper) -> None:
    """They can be walked through in the order in which they came, whoever of them leaves."""
    for leaves in ((), (0,), (3,), (1, 2), (0, 3), (0, 1, 2, 3)):
        for _ in range(4):
            welcomed(door)
        guests = door.guests()
        assert len(guests) == door.counts.guests == 4
        for place in leaves:
            door.lib.echod_door_recall(door.door, guests[place])
        assert door.guests() == [guest for place, guest in enumerate(guests) if place not in leaves]
        for guest in door.guests():
            door.lib.echod_door_recall(door.door, guest)
        door.collect()
        assert not door.guests()


def test_many_at_once(door: Doorkeeper) -> None:
    """One event accepts some, so that others get their turn; a level-triggered set tells of the rest again."""
    clients = [door.dial(HEAD) for _ in range(3 * ACCEPTS)]
    door.take_turn(budget=0)
    # The octets of some may still be on their way within the kernel.
    assert door.counts.answered + door.counts.visitors == ACCEPTS
    door.turns(lambda: door.counts.answered == len(clients))
    for client in clients:
        assert receive(client, len(ANSWER)) == ANSWER
        client.close()
    door.turns(lambda: len(door.gone) == len(clients))


def test_ends_before_its_event_is_served(door: Doorkeeper) -> None:
    """Of those whose events a turn has fetched, some are gone before the next one serves them."""
    clients = [door.dial() for _ in range(4)]
    door.turns(lambda: door.counts.visitors == 4)
    guests_clients = [welcomed(door) for _ in range(4)]
    guests = door.guests()
    for client in (*clients, *guests_clients):
        client.sendall(HEAD if client in clients else ODD)
    door.take_turn(budget=0)  # fetches all, and serves one
    for guest in door.guests():
        door.lib.echod_door_recall(door.door, guest)
    door.lib.echod_door_turn_out(door.door, 1000)
    door.lib.echod_door_close(door.door, 0)
    door.collect()
    door.take_turn()
    assert len(guests) == 4
    assert (door.counts.visitors, door.counts.guests) == (0, 0)
    assert len(door.arrivals) + len(door.gone) == 8


def test_endpoints(door: Doorkeeper, tmp_path: Path) -> None:
    """A guest knows its endpoint; a closed one leaves those who wait to others."""
    path = tmp_path / "socket"
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    number = door.listen(made)
    client = door.keep(socket.socket(socket.AF_UNIX))
    client.connect(str(path))
    client.sendall(HEAD)
    door.turns(lambda: door.counts.guests)
    assert door.guests()[0].endpoint == number == 1
    door.lib.echod_door_close(door.door, 0)
    door.lib.echod_door_close(door.door, 7)
    waiting = door.dial(HEAD)
    door.take_turn()
    assert door.counts.guests == 1
    assert door.lib.echod_door_open(door.door, door.listening[0].fileno(), 0) == 0
    door.turns(lambda: door.counts.guests == 2)
    assert receive(waiting, len(ANSWER)) == ANSWER
    with (tmp_path / "file").open("w") as file:
        assert door.lib.echod_door_open(door.door, file.fileno(), 2) == -1  # no epoll on a file


def test_no_descriptor(door: Doorkeeper) -> None:
    """The owner is told, and the endpoint is closed until it opens it again."""
    import resource  # noqa: PLC0415

    waiting = door.dial(HEAD)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with select.epoll() as polled:
        polled.register(door.listening[0], select.EPOLLIN)
        assert polled.poll(20)
    most = len(os.listdir("/proc/self/fd")) - 1  # less the one that lists
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(free, most), hard))
    try:
        door.take_turn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (arrival,) = door.arrivals
    assert (arrival.served, arrival.endpoint, arrival.octets) == (None, 0, b"")
    door.take_turn()
    assert door.counts.guests == 0
    assert door.lib.echod_door_open(door.door, door.listening[0].fileno(), 0) == 0
    door.turns(lambda: door.counts.guests)
    assert receive(waiting, len(ANSWER)) == ANSWER


def test_a_server_gone(door: Doorkeeper) -> None:
    """A guest whose client resets the connection is over, as one that has ended."""
    client = welcomed(door, with_key(HEAD, OTHER_KEY))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    door.turns(lambda: door.gone)
    assert door.gone == [Gone(code=0)]


def test_no_delay_is_inherited(door: Doorkeeper) -> None:
    """Linux gives an accepted socket the TCP_NODELAY of its listening socket, so that the door need not ask for it."""
    door.listening[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    door.dial(b"x")
    door.turns(lambda: door.arrivals)
    served = door.arrivals[0].served
    assert served is not None
    assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


MANY = 1_100
"""More than any step takes at a time."""


@pytest.fixture
def crowded(native: Native) -> Iterator[Doorkeeper]:
    """Return a door that has room for many, in a process that has descriptors for both ends."""
    with open_files(3 * MANY):
        made = Doorkeeper(native)
        made.lib.echod_door_set_room(made.door, 2 * MANY)
        made.remember(HEAD, ANSWER)
        made.listen()
        yield made
        made.end()


def come(door: Doorkeeper, count: int, octets: bytes = HEAD) -> list[socket.socket]:
    """Return the clients of so many new guests, or visitors if there are no octets. All have taken their answers."""
    clients: list[socket.socket] = []

    def all_came() -> bool:
        return bool(door.counts.guests + door.counts.visitors == len(clients))

    while len(clients) < count:
        clients += [door.dial(octets) for _ in range(min(100, count - len(clients)))]
        door.turns(all_came)
    if octets:
        for client in clients:
            assert receive(client, len(ANSWER)) == ANSWER
        settle(door)
    return clients


def in_steps(step: Callable[[], int], counted: Callable[[], int]) -> list[int]:
    """Repeat a step until it has no more to do, and return how much each one has done."""
    done, is_more = [], 1
    while is_more:
        before = counted()
        is_more = step()
        done.append(counted() - before)
    return done


def told(door: Doorkeeper) -> int:
    """Take what a step has left, and return how many guests have gone."""
    door.collect()
    return len(door.gone)


def test_a_look_pings_no_more_than_so_many(crowded: Doorkeeper) -> None:
    """So the next step goes on, whatever it was asked for; and no more of the dead are reset at a time than there is
    room for."""
    door, lib = crowded.door, crowded.lib
    come(crowded, MANY)
    lib.echod_door_set_keepalive(door, SECOND, SECOND)
    now = time.monotonic_ns() + SECOND
    assert [lib.echod_door_look(door, now, MANY) for _ in range(3)] == [480, 480, MANY]
    later = now + SECOND
    assert in_steps(lambda: lib.echod_door_judge(door, later), lambda: told(crowded)) == [256] * 4 + [MANY - 4 * 256]
    assert {gone.code for gone in crowded.gone} == {lib.ECHOD_TIMED_OUT}


def test_no_more_than_so_many_are_seen_off(crowded: Doorkeeper) -> None:
    """And no more of those that do not reply are reset at a time than there is room for."""
    door, lib, counts = crowded.door, crowded.lib, crowded.counts
    clients = come(crowded, MANY)

    def see_off() -> int:
        return int(lib.echod_door_see_off(door, time.monotonic_ns(), GOING_AWAY, len(GOING_AWAY)))

    assert in_steps(see_off, lambda: counts.leavers) == [480, 480, MANY - 2 * 480]
    assert all(receive(client, len(GOING_AWAY)) == GOING_AWAY for client in clients)
    now = time.monotonic_ns()
    found = in_steps(lambda: lib.echod_door_close_deadline(door, now, now), lambda: told(crowded))
    assert found == [256] * 4 + [MANY - 4 * 256]
    assert {gone.code for gone in crowded.gone} == {lib.ECHOD_LEFT_TIMED_OUT}


def test_no_more_than_so_many_of_which_something_waits_are_seen_off(crowded: Doorkeeper) -> None:
    """Each becomes a connection, which takes as long as many Close frames."""
    clients = come(crowded, 100)
    for client in clients:
        client.sendall(client_frame(b"Hello", TEXT, KEY)[:-1])
    crowded.turns(lambda: all(guest.lease.held for guest in crowded.guests()))

    def see_off() -> int:
        return int(crowded.lib.echod_door_see_off(crowded.door, time.monotonic_ns(), GOING_AWAY, len(GOING_AWAY)))

    assert in_steps(see_off, lambda: told(crowded)) == [30, 30, 30, 10]


@pytest.mark.parametrize("is_end", [False, True])
def test_no_more_than_so_many_visitors_are_reset(crowded: Doorkeeper, is_end: bool) -> None:
    """Neither at their deadline, nor at the end of a drain."""
    door, lib, counts = crowded.door, crowded.lib, crowded.counts
    come(crowded, MANY, b"")

    def step() -> int:
        now = time.monotonic_ns()
        return int(lib.echod_door_reset_all(door, now) if is_end else lib.echod_door_expire(door, now))

    assert in_steps(step, lambda: counts.timed_out) == [1000, MANY - 1000]
    assert counts.visitors == 0
