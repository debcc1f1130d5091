"""The pump alone, over pairs of sockets: what it serves, why a lease ends, what it gives back, and what it holds."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import socket
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lane.native import oracle
from tests.lane.native.codec import summed
from tests.lane.native.oracle import BINARY, TEXT, client_frame, fragment, server_frame

if TYPE_CHECKING:
    from echod.lane.native import Native

KEY = b"\x37\xfa\x21\x3d"
LIMIT = 1 << 20
CONTINUATION = 0
PING, PONG = (client_frame(b"x", opcode, KEY) for opcode in (9, 10))
ODD = b"\x8b\x81" + KEY + b"x"
"""A control frame of a reserved opcode, which is Autobahn's to judge."""

FRAGMENTS = 16
READ = 65_536 + 14
"""Bytes of one read: a frame with a payload of 64 KiB, and its header."""

KEPT = 4096
"""A larger frame that comes in parts is collected in a buffer of its own size."""


class Ended(NamedTuple):
    """What a lease left at its end."""

    why: str
    rest: bytes
    unsent: bytes
    fragments: int = 0


class Leased:
    """A socket that is leased to a pump, and its other end, which is the client's."""

    def __init__(self, pump: Pump, slot: int, small: bool) -> None:
        self.client, self.served = socket.socketpair()
        if small:
            self.served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.client.setblocking(False)
        self.pump = pump
        self.ended: Ended | None = None
        self.lease: Any = self.lend(slot)
        assert self.lease != pump.native.ffi.NULL

    def lend(self, slot: int) -> Any:
        """Lease the socket."""
        return self.pump.lib.echod_pump_lend(self.pump.pump, self.served.fileno(), slot)

    def send(self, octets: bytes) -> None:
        """Send, with as many turns of the pump as it takes. Receive nothing."""
        while octets:
            try:
                octets = octets[self.client.send(octets) :]
            except BlockingIOError:
                self.pump.turn()

    def take(self) -> bytes:
        """Receive what is there."""
        octets = b""
        while True:
            try:
                piece = self.client.recv(1 << 20)
            except BlockingIOError:
                return octets
            if not piece:
                return octets
            octets += piece

    def large_rest(self) -> bytes:
        """Return what the client sent of the large frame that the lease leaves."""
        lib, ffi = self.pump.lib, self.pump.native.ffi
        assert self.lease.rest_size == 0
        large: Any = ffi.addressof(self.lease, "large")
        payload = self.lease.large_octets + lib.ECHOD_LARGE_ROOM
        header: Any = ffi.new("uint8_t[14]")
        size, done = lib.echod_large_client_header(large, header), large.done
        lib.echod_large_restore(large, payload)
        return bytes(ffi.buffer(header, size)) + bytes(ffi.buffer(payload, done))

    def note_end(self) -> None:
        """Keep what is left, and release the lease."""
        lib, lease, buffer = self.pump.lib, self.lease, self.pump.native.ffi.buffer
        rest = (
            self.large_rest()
            if lease.large_octets
            else bytes(buffer(lease.rest, lease.rest_size))
            if lease.rest_size
            else b""
        )
        pieces = (lease.unsent, lease.unsent_first), (lease.later, lease.unsent_size - lease.unsent_first)
        unsent = b"".join(bytes(buffer(start, size)) for start, size in pieces if size)
        assert lease.held == 0
        self.ended = Ended(self.pump.reasons[lease.why], rest, unsent, lease.fragments)
        lib.echod_lease_free(lease)
        self.lease = None


class Pump:
    """A pump and its leases."""

    def __init__(self, native: Native, limit: int = LIMIT, max_fragments: int = FRAGMENTS) -> None:
        self.native = native
        self.lib = lib = native.lib
        names = ("RECALLED", "NOT_ORDINARY", "BLOCKED", "CLOSED", "NO_MEMORY")
        self.reasons = {getattr(lib, f"ECHOD_END_{name}"): name for name in names}
        self.pump = lib.echod_pump_new(limit, max_fragments)
        assert self.pump != native.ffi.NULL
        self.leases: list[Leased] = []

    def lend(self, small: bool = False) -> Leased:
        """Lease one end of a new pair. With `small`, its send buffer is soon full."""
        leased = Leased(self, len(self.leases), small)
        self.leases.append(leased)
        return leased

    def turn(self, budget: int = 10**9) -> list[Leased]:
        """Take one turn; return the leases that ended in it."""
        ended = []
        lease: Any = self.lib.echod_pump_turn(self.pump, budget)
        while lease:
            following = lease.next
            ended.append(self.leases[lease.slot])
            assert ended[-1].lease == lease
            ended[-1].note_end()
            lease = following
        return ended

    def served(self, leased: Leased, size: int) -> bytes:
        """Take turns until the client has so many bytes; return them."""
        received = b""
        while len(received) < size:
            assert self.turn() == []
            received += leased.take()
        return received

    def recall(self, leased: Leased) -> Ended:
        """End a lease."""
        self.lib.echod_pump_recall(self.pump, leased.lease)
        leased.note_end()
        assert leased.ended is not None
        return leased.ended

    def set_tight(self, is_tight: bool) -> None:
        """Make the pump tight, or no longer tight."""
        self.lib.echod_pump_set_tight(self.pump, is_tight)

    @property
    def spare(self) -> int:
        """The bytes of the spare buffers."""
        return self.lib.echod_pump_spare(self.pump)

    @property
    def held(self) -> int:
        """The bytes that all leases hold."""
        octets = self.lib.echod_pump_held(self.pump)
        assert octets == sum(leased.lease.held for leased in self.leases if leased.lease is not None)
        return octets

    def close(self) -> None:
        """Release everything. Nothing may be held then."""
        for leased in self.leases:
            if leased.lease is not None:
                self.recall(leased)
            leased.client.close()
            leased.served.close()
        assert self.held == 0
        self.lib.echod_pump_free(self.pump)


@contextmanager
def open_pump(native: Native, limit: int = LIMIT, max_fragments: int = FRAGMENTS) -> Iterator[Pump]:
    """A pump that is closed at the end."""
    pump = Pump(native, limit, max_fragments)
    try:
        yield pump
    finally:
        pump.close()


@pytest.fixture
def pump(native: Native) -> Iterator[Pump]:
    """A pump of its own for each test."""
    with open_pump(native) as made:
        yield made


@pytest.fixture
def leased(pump: Pump) -> Leased:
    """A lease of this pump."""
    return pump.lend()


def noise(size: int) -> bytes:
    """Random bytes."""
    return random.Random(size).randbytes(size)


def echo(payload: bytes, opcode: int = BINARY) -> tuple[bytes, bytes]:
    """A frame and its echo."""
    return client_frame(payload, opcode, KEY), server_frame(payload, opcode)


def serve_in_pieces(pump: Pump, leased: Leased, octets: bytes, places: list[int]) -> tuple[bytes, bytes]:
    """Send bytes, cut at these places, of which the first is 0 and the last is the end. Return the answers, and the
    bytes that the client did not send because the lease had ended."""
    received, behind = b"", b""
    for start, stop in itertools.pairwise(places):
        if leased.ended is None:
            leased.send(octets[start:stop])
            pump.turn()
        else:
            behind += octets[start:stop]
        received += leased.take()
    return received, behind


def check_rest(leased: Leased, given_back: bytes, rest: bytes, behind: bytes = b"") -> None:
    """Check that all bytes that were not echoed are given back, are unread, or were not even sent. Only the bytes
    behind a fault in a large text may be missing."""
    leased.served.setblocking(False)
    unread = b""
    try:
        unread = leased.served.recv(1 << 20)
    except BlockingIOError:
        """The pump had received everything."""
    if given_back + unread + behind != rest:
        found = oracle.header(given_back, LIMIT)
        assert isinstance(found, oracle.Header)
        assert (found.opcode, found.size + found.length > KEPT) == (TEXT, True)
        assert not oracle.begins_text(oracle.mask(given_back[found.size :], found.key)), "the byte at fault is there"
        assert rest.startswith(given_back)


# Serving.


def test_nothing_to_do(pump: Pump, leased: Leased) -> None:
    """A turn without a ready socket ends at once."""
    assert pump.turn() == []
    assert leased.lease.reads == 0


def test_the_sums(pump: Pump, leased: Leased) -> None:
    """A lease counts messages, bytes and reads. The pump sums them up by type and size, for all leases so far."""
    for payload, opcode in (
        (b"text", TEXT),
        (noise(100), BINARY),
        (b"", TEXT),
        (b"a" * 70_000, TEXT),
        (noise(80_000), BINARY),
    ):
        frame, answer = echo(payload, opcode)
        leased.send(frame)
        pump.turn()
        assert leased.take() == answer
    lease = leased.lease
    assert (lease.messages, lease.octets) == (5, 150_104)
    assert lease.reads >= 5
    assert pump.held == 0
    pump.recall(leased)
    sums = pump.lib.echod_pump_sums(pump.pump)
    assert summed(sums.text) == ({2: 1, 63: 1, 17: 1}, 70_004)
    assert summed(sums.binary) == ({7: 1, 17: 1}, 80_100)


def test_readable_while_a_socket_is_ready(pump: Pump, leased: Leased) -> None:
    """The pump's own descriptor can be watched. It is not readable when everything is served."""
    import select  # noqa: PLC0415

    poll = select.poll()
    poll.register(pump.lib.echod_pump_fd(pump.pump), select.POLLIN)
    assert poll.poll(0) == []
    leased.send(echo(b"x")[0])
    assert poll.poll(1000)
    pump.turn()
    assert poll.poll(0) == []


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 126, KEPT - 8, KEPT - 7, KEPT, 65_535, 65_536, 70_000, 300_000])
def test_cut_anywhere(pump: Pump, leased: Leased, size: int, opcode: int) -> None:
    """The part of a frame that has come is held, with its whole buffer. The answer comes with the last byte."""
    payload = ("aé€😀" * size).encode()[: size // 10 * 10].ljust(size, b"x")
    frame, answer = echo(payload, opcode)
    before, _ = echo(b"before")
    for place in {1, 2, 3, 5, 6, 7, 8, 13, 14, 15, 100, len(frame) // 2, len(frame) - 1}:
        if place < len(frame):
            leased.send(before + frame[:place])
            pump.turn()
            assert leased.take() == echo(b"before")[1]
            # What malloc gives beyond what was asked for counts, too: 24 bytes at least, 16 more if nothing else fits
            # behind them, and a page at most.
            assert place - 14 <= pump.held <= (place + 40 if len(frame) <= KEPT else len(frame) + 10 + 4096)
            leased.send(frame[place:] + before)
            assert pump.served(leased, len(answer) + 8) == answer + echo(b"before")[1]
            assert pump.held == 0


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.one_of(st.text(max_size=150).map(str.encode), st.integers(4000, 5000).map(noise)), st.booleans()),
        max_size=10,
    ),
    st.one_of(
        st.sampled_from([b"", ODD, PING, PING[:1], PONG, PING + PONG[:-1], echo(b"\xff", TEXT)[0]]),
        st.binary(max_size=30),
    ),
    st.data(),
)
def test_any_messages_cut_anywhere(
    native: Native, messages: list[tuple[bytes, bool]], end: bytes, data: st.DataObject
) -> None:
    """Messages are echoed, and the rest is given back as it came, wherever the stream is cut. Random bytes may begin a
    fragmented message."""
    octets = (
        b"".join(client_frame(payload, BINARY if is_binary else TEXT, KEY) for payload, is_binary in messages) + end
    )
    right = oracle.serve(octets, LIMIT, FRAGMENTS)
    places = sorted({0, len(octets), *data.draw(st.lists(st.integers(0, len(octets)), max_size=10))})
    with open_pump(native) as pump:
        leased = pump.lend()
        received, behind = serve_in_pieces(pump, leased, octets, places)
        assert received == right.output
        if leased.ended is None:
            assert not right.is_odd
            assert pump.recall(leased) == Ended("RECALLED", right.left, b"", right.fragments)
        else:
            assert right.is_odd
            assert leased.ended == Ended("NOT_ORDINARY", leased.ended.rest, b"", right.fragments)
            check_rest(leased, leased.ended.rest, right.left, behind)


# Control frames.


def ping(pump: Pump, leased: Leased) -> bool:
    """Send a ping of the owner's; whether the lease goes on."""
    ended: Any = pump.lib.echod_pump_ping(pump.pump, leased.lease)
    if not ended:
        return True
    assert (ended, ended.next) == (leased.lease, pump.native.ffi.NULL)
    leased.note_end()
    return False


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125])
def test_control_frames_cut_anywhere(pump: Pump, leased: Leased, size: int) -> None:
    """A ping has its pong with its last octet, and a pong has nothing. What is not whole is held."""
    frame, answer = client_frame(noise(size), 9, KEY), server_frame(noise(size), 10)
    pong = client_frame(noise(size), 10, KEY)
    for place in range(1, len(frame)):
        for control, right in (frame, answer), (pong, b""):
            leased.send(echo(b"before")[0] + control[:place])
            pump.turn()
            assert leased.take() == echo(b"before")[1]
            assert place <= pump.held <= place + 40  # as above: what malloc gives beyond what was asked for
            leased.send(control[place:] + echo(b"behind")[0])
            pump.turn()
            assert leased.take() == right + echo(b"behind")[1]
            assert pump.held == 0
    assert leased.lease.messages == 4 * (len(frame) - 1)


def test_many_control_frames_in_one_read(pump: Pump, leased: Leased) -> None:
    """Thousands of them, with messages between, are answered in order by a turn that ends in time."""
    octets = PING * 5_000 + echo(b"between")[0] + (PING + PONG) * 2_000 + echo(b"behind")[0]
    answer = server_frame(b"x", 10)
    right = answer * 5_000 + echo(b"between")[1] + answer * 2_000 + echo(b"behind")[1]
    used = time.process_time()
    leased.send(octets)
    assert pump.served(leased, len(right)) == right
    assert time.process_time() - used < 0.05


@pytest.mark.parametrize("begun", [b"", client_frame(b"cut", TEXT, KEY)[:-1], fragment(b"cut", TEXT, KEY), PING[:-1]])
def test_the_owners_ping(pump: Pump, leased: Leased, begun: bytes) -> None:
    """It goes out at once, whatever has come of the client's next frame, and its pong is taken."""
    leased.send(begun)
    pump.turn()
    assert ping(pump, leased)
    assert leased.take() == b"\x89\x00"
    assert leased.lease.reads == bool(begun)
    if not begun:
        leased.send(client_frame(b"", 10, KEY))
        assert pump.turn() == []
        assert (leased.take(), leased.lease.reads, pump.held) == (b"", 1, 0)


def test_the_owners_ping_behind_answers_that_wait(pump: Pump) -> None:
    """It stands between two frames. The first of two tells the kernel's buffer to be full again."""
    leased = pump.lend(small=True)
    frame, answer = echo(noise(1000))
    number = fill(pump, leased, frame)
    unsent = leased.lease.unsent_size
    assert ping(pump, leased)
    assert ping(pump, leased)
    assert leased.lease.unsent_size == unsent + 4
    assert pump.held > unsent
    right = answer * number + b"\x89\x00" * 2
    assert pump.served(leased, len(right)) == right
    assert pump.held == 0


def test_the_owners_ping_when_nothing_waits_and_the_kernel_is_full(pump: Pump) -> None:
    """It waits, as an answer does. While the pump is tight it ends the lease."""
    for is_tight in False, True:
        leased = pump.lend(small=True)
        leased.served.setblocking(False)
        filling = b""
        while True:
            try:
                filling += noise(5000)[: leased.served.send(noise(5000))]
            except BlockingIOError:
                break
        pump.set_tight(is_tight)
        assert ping(pump, leased) != is_tight
        if leased.ended is not None:
            assert leased.ended == Ended("BLOCKED", b"", b"\x89\x00")
            continue
        assert leased.lease.unsent_size == 2
        assert pump.served(leased, len(filling) + 2) == filling + b"\x89\x00"
        frame, answer = echo(b"as before")
        leased.send(frame)
        assert pump.served(leased, len(answer)) == answer


# The end of a lease.


def test_recalled(pump: Pump, leased: Leased) -> None:
    """A recalled lease gives back the beginning of a frame, small or large, as the client sent it."""
    assert pump.recall(leased) == Ended("RECALLED", b"", b"")
    for size in (100, 100_000):
        for opcode in (TEXT, BINARY):
            other = pump.lend()
            frame, _ = echo(b"x" * size, opcode)
            other.send(frame[:-1])
            pump.turn()
            assert pump.held > 0
            assert pump.recall(other) == Ended("RECALLED", frame[:-1], b"")
            assert pump.held == 0


@pytest.mark.parametrize(
    "rest",
    [
        ODD,
        b"\x88",
        b"\x89\x01x",
        b"\x89\xfe",
        b"\x8a\xff",
        b"\x09",
        b"\xc9",
        client_frame(b"\xff", TEXT, KEY),
        client_frame(b"a" * 100_000 + b"\xff", TEXT, KEY),
        client_frame(b"a\xff" + b"a" * 70_000, TEXT, KEY),
        client_frame(b"ab\xed\xa0\x80", TEXT, KEY)[:-1],
        oracle.client_header(LIMIT + 1, BINARY, KEY),
        b"\x82\xfe\x00\x05" + KEY,
        b"\x41\x81" + KEY + b"a",
        b"\x00\x81" + KEY + b"a",
        b"\x81\x01a",
    ],
    ids=lambda rest: repr(rest[:12]),
)
def test_not_ordinary(pump: Pump, leased: Leased, rest: bytes) -> None:
    """The frames before it are echoed, and the rest is given back as it came."""
    frame, answer = echo(b"before")
    leased.send(frame + rest)
    while leased.ended is None:
        assert pump.turn() in ([], [leased])
    assert (leased.ended.why, leased.ended.unsent) == ("NOT_ORDINARY", b"")
    assert leased.take() == answer
    check_rest(leased, leased.ended.rest, rest)


@pytest.mark.parametrize(
    "begun", [b"", b"\x81", client_frame(b"x" * 100, TEXT, KEY)[:-1], client_frame(noise(9000), BINARY, KEY)[:-1]]
)
def test_closed(pump: Pump, leased: Leased, begun: bytes) -> None:
    """The owner gets the end of file, and the beginning of a frame before it."""
    leased.send(echo(b"x")[0] + begun)
    pump.turn()
    leased.client.shutdown(socket.SHUT_WR)
    assert pump.turn() == [leased]
    assert leased.ended == Ended("CLOSED", begun, b"")
    assert leased.take() == echo(b"x")[1]
    assert leased.served.recv(1) == b""


def test_closed_by_an_error(pump: Pump) -> None:
    """The client resets a TCP socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=10)
        served, _ = server.accept()
    leased = pump.lend()
    leased.client.close()
    leased.served.close()
    assert pump.turn() == [], "a descriptor that was closed is out of the set"
    pump.recall(leased)
    leased.client, leased.served, leased.ended = client, served, None
    leased.lease = pump.lib.echod_pump_lend(pump.pump, served.fileno(), 0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert pump.turn() == [leased]
    assert leased.ended == Ended("CLOSED", b"", b"")


def test_no_lease(pump: Pump, leased: Leased) -> None:
    """There is no lease for a descriptor that epoll does not take, or already has."""
    null = pump.native.ffi.NULL
    assert pump.lib.echod_pump_lend(pump.pump, leased.served.fileno(), 0) == null
    with open(os.devnull) as file:
        assert pump.lib.echod_pump_lend(pump.pump, file.fileno(), 0) == null
    assert pump.lib.echod_pump_lend(pump.pump, 10**6, 0) == null


def test_no_pump(native: Native) -> None:
    """Without free descriptors there is no pump, and errno says why."""
    import resource  # noqa: PLC0415

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert native.lib.echod_pump_new(1, 1) == native.ffi.NULL
        assert native.ffi.errno
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Who does not take its answers.


def fill(pump: Pump, leased: Leased, frame: bytes) -> int:
    """Send frame after frame until answers are unsent; return the number of frames."""
    number = 0
    while leased.ended is None and not leased.lease.unsent_size:
        leased.send(frame)
        number += 1
        while pump.turn() == [] and leased.lease.reads and not leased.lease.unsent_size and pump.held:
            """A large frame takes more than one read, and one a turn may be all."""
    return number


def test_what_the_peer_has_not_taken(pump: Pump, native: Native) -> None:
    """Answers that wait count, and so do those that only the kernel has."""
    leased = pump.lend()
    frame, answer = echo(noise(1000))
    leased.send(frame)
    while not leased.lease.messages:
        pump.turn()
    assert leased.lease.unsent_size == 0
    assert pump.lib.echod_lease_pending(leased.lease) >= len(answer)
    assert pump.served(leased, len(answer)) == answer
    assert pump.lib.echod_lease_pending(leased.lease) == 0
    unsent = pump.lend(small=True)
    fill(pump, unsent, frame)
    assert pump.lib.echod_lease_pending(unsent.lease) > unsent.lease.unsent_size
    assert pump.lib.echod_lease_pending(native.ffi.new("echod_lease *", {"fd": -1})) == 1, "the kernel does not tell"


@pytest.mark.parametrize("size", [10, 1000, 30_000, 500_000])
def test_unsent_answers_are_sent_in_the_end(pump: Pump, size: int) -> None:
    """Unsent answers are sent in order, however little the kernel takes. Until then nothing is read."""
    leased = pump.lend(small=True)
    frame, answer = echo(noise(size))
    number = fill(pump, leased, frame)
    assert pump.held >= leased.lease.unsent_size > 0
    reads = leased.lease.reads
    leased.client.send(frame[:5])
    assert pump.turn() == []
    assert leased.lease.reads == reads
    received = b""
    while len(received) < len(answer) * number:
        received += leased.take()
        assert pump.turn() == []
    assert received == answer * number
    leased.send(frame[5:])
    while len(received) < len(answer) * (number + 1):
        assert pump.turn() == []
        received += leased.take()
    assert received == answer * (number + 1)
    assert pump.held == 0


@pytest.mark.parametrize("in_frames", [False, True])
def test_a_buffer_counts_until_its_last_octet_is_sent(pump: Pump, in_frames: bool) -> None:
    """The account keeps the whole buffer until then."""
    size = 500_000
    leased = pump.lend(small=True)
    frame, answer = echo(noise(size))
    if in_frames:
        half = size // 2
        frame = fragment(noise(size)[:half], BINARY, KEY) + client_frame(noise(size)[half:], CONTINUATION, KEY)
    fill(pump, leased, frame)
    held = pump.held
    assert held >= size
    received = b""
    while len(received) < len(answer):
        received += leased.take()
        pump.turn()
        assert pump.held == (held if leased.lease.unsent_size else 0)


def test_a_buffer_that_was_in_use_counts_from_the_begin(pump: Pump, leased: Leased) -> None:
    """If its pages take memory already, all of it counts as soon as a header claims it."""
    frame, answer = echo(noise(300_000))
    leased.send(frame)
    assert pump.served(leased, len(answer)) == answer
    assert pump.held == 0
    assert pump.spare >= 300_000
    leased.send(frame[:14])
    pump.turn()
    assert pump.held >= 300_000
    assert pump.spare == 0


def test_a_new_buffer_counts_with_what_was_written_to(native: Native) -> None:
    """A header alone makes it take no memory. malloc asks the kernel for each buffer of more than 32 MiB."""
    with open_pump(native, 64 << 20) as pump:
        leased = pump.lend()
        leased.send(b"\x82\xff" + (40 << 20).to_bytes(8, "big") + KEY)
        pump.turn()
        before = pump.held
        assert before <= 3 * 4096  # two pages, and what a sanitizer's allocator has in front
        leased.send(bytes(1 << 20))
        pump.turn()
        assert pump.held == before + (1 << 20)


def test_answers_behind_a_large_one_are_not_copied_with_it(native: Native) -> None:
    """A client that reads nothing sends fragmented messages behind the end of a large one."""
    size, count = 16 << 20, 14
    large, small = noise(size), noise(4200)
    with open_pump(native, size) as pump:
        leased = pump.lend(small=True)
        leased.send(fragment(large[:-100], BINARY, KEY))
        pump.turn()
        behind = fragment(small[:100], BINARY, KEY) + client_frame(small[100:], CONTINUATION, KEY)
        leased.send(client_frame(large[-100:], CONTINUATION, KEY) + behind * count)
        used = time.process_time()
        pump.turn()
        used = time.process_time() - used
        assert (leased.lease.messages, leased.lease.reads > 256) == (1 + count, True)
        assert used < 0.03, "to copy the large one takes 3 ms, and was done for each behind it"
        answers = server_frame(large, BINARY) + server_frame(small, BINARY) * count
        assert pump.served(leased, len(answers)) == answers
        assert pump.held == 0


@pytest.mark.parametrize("size", [1000, 500_000])
def test_recalled_with_unsent_answers(pump: Pump, size: int) -> None:
    """The unsent answers come first, then the beginning of a frame."""
    leased = pump.lend(small=True)
    frame, answer = echo(noise(size))
    number = fill(pump, leased, frame)
    received = leased.take()
    pump.turn()
    why, rest, unsent, _ = pump.recall(leased)
    assert (why, rest) == ("RECALLED", b"")
    assert received + leased.take() + unsent == answer * number
    assert pump.held == 0


def test_recalled_with_unsent_answers_and_a_message_begun(pump: Pump) -> None:
    """A read may end within a large frame while its answers wait."""
    leased = pump.lend(small=True)
    frame, answer = echo(noise(1000))
    large, _ = echo(noise(100_000))
    fill(pump, leased, frame)
    while leased.lease.unsent_size:
        leased.take()
        pump.turn()
    octets = frame * 50 + large[:10_000]
    leased.send(octets)
    while not leased.lease.unsent_size:
        pump.turn()
    why, rest, unsent, _ = pump.recall(leased)
    received = leased.take()
    assert (why, rest) == ("RECALLED", large[:10_000])
    assert (received + unsent).endswith(answer * 50)


@pytest.mark.parametrize("begun", [b"", ODD, client_frame(noise(2000), BINARY, KEY)[:-1]])
def test_the_end_with_unsent_answers(pump: Pump, begun: bytes) -> None:
    """If the peer is gone before it has taken them, they go to the owner."""
    leased = pump.lend(small=True)
    frame, answer = echo(noise(1000))
    leased.send(frame * 60 + begun)
    pump.turn()
    received = leased.take()
    if leased.ended is None:
        assert begun != ODD
        leased.client.close()
        assert pump.turn() == [leased]
    assert leased.ended is not None
    assert leased.ended.why == ("NOT_ORDINARY" if begun == ODD else "CLOSED")
    assert leased.ended.rest == begun
    assert (
        received + leased.ended.unsent == answer * 60
        or leased.ended.unsent == (answer * 60)[-len(leased.ended.unsent) :]
    )


# Buffers that are kept.


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_buffer_of_a_large_message_is_kept_for_the_next(pump: Pump, leased: Leased, opcode: int) -> None:
    """One buffer serves all messages that follow each other, and the answers stay right."""
    spares = set()
    for size in (300_000, 300_000, 200_000, 160_000):
        frame, answer = echo(b"%x" % size * (size // 5), opcode)
        leased.send(frame)
        assert pump.served(leased, len(answer)) == answer
        spares.add(pump.spare)
    assert len(spares) == 1
    assert 300_000 < spares.pop() < 310_000
    assert pump.held == 0
    pump.lib.echod_pump_trim(pump.pump)
    assert pump.spare == 0


def test_a_buffer_of_twice_the_size_is_not_taken(pump: Pump, leased: Leased) -> None:
    """Otherwise a few bytes of a message could hold a large buffer."""
    kept = []
    for size in (1_000_000, 400_000):
        frame, answer = echo(noise(size))
        leased.send(frame)
        pump.served(leased, len(answer))
        kept.append(pump.spare)
    assert kept[1] - kept[0] >= 400_000


def test_small_buffers_are_not_kept(pump: Pump, leased: Leased) -> None:
    """malloc does not give small buffers back to the kernel, either."""
    frame, answer = echo(noise(100_000))
    leased.send(frame)
    pump.served(leased, len(answer))
    assert pump.spare == 0


def test_only_so_many_bytes_are_kept(native: Native) -> None:
    """After 16 messages of 1 MiB the pool has 8 MiB at most."""
    with open_pump(native, 2 << 20) as pump:
        frame, answer = echo(noise(1 << 20))
        leases = [pump.lend() for _ in range(16)]
        for leased in leases:
            leased.send(frame[:-1])
            while leased.lease.held < (1 << 20) - 1:
                assert pump.turn() == []
        for leased in leases:
            leased.send(frame[-1:])
            assert pump.served(leased, len(answer)) == answer
        assert (7 << 20) <= pump.spare <= (8 << 20)


def test_nothing_is_kept_when_it_is_tight(pump: Pump, leased: Leased) -> None:
    """Spare buffers are released, and so is a buffer whose message ends."""
    frame, answer = echo(noise(300_000))
    leased.send(frame)
    pump.served(leased, len(answer))
    assert pump.spare
    leased.send(frame[:-1])
    while leased.lease.held < 300_000 - 1:
        pump.turn()
    pump.set_tight(True)
    assert pump.spare == 0
    leased.send(frame[-1:])
    received = b""
    while leased.ended is None and len(received) < len(answer):
        pump.turn()
        received += leased.take()
    assert received + (leased.ended.unsent if leased.ended else b"") == answer
    assert pump.spare == 0


# Tight.


def test_tight(pump: Pump, leased: Leased) -> None:
    """A tight pump takes no large frame and keeps small ones. It can become wide again."""
    pump.set_tight(True)
    small, answer = echo(noise(2000))
    leased.send(small[:-1])
    assert pump.turn() == []
    leased.send(small[-1:])
    pump.turn()
    assert leased.take() == answer
    large, _ = echo(noise(60_000))
    leased.send(large[:-1])
    assert pump.turn() == [leased]
    assert leased.ended == Ended("NOT_ORDINARY", large[:4096], b""), "in small reads, so that little is given back"
    pump.set_tight(False)
    other = pump.lend()
    other.send(large[:-1])
    assert pump.turn() == []


@pytest.mark.parametrize("is_late", [False, True])
def test_tight_and_blocked(pump: Pump, is_late: bool) -> None:
    """A client that does not take its answers loses its lease, at the next read or the next write."""
    leased = pump.lend(small=True)
    frame, answer = echo(noise(1000))
    pump.set_tight(not is_late)
    leased.send(frame * 60)
    pump.turn()
    received = b""
    if is_late:
        assert leased.ended is None
        pump.set_tight(True)
        received = leased.client.recv(6000)
        while leased.ended is None and leased.lease.unsent_size:
            pump.turn()
            if leased.ended is None:
                received += leased.client.recv(1000)
    assert leased.ended is not None
    assert leased.ended.why == "BLOCKED"
    echoed = received + leased.take() + leased.ended.unsent
    whole = len(echoed) // len(answer)
    assert echoed == answer * whole
    # What has not been read is the owner's to read.
    assert whole == 60 if is_late else leased.ended.rest == frame[: len(leased.ended.rest)]
    assert pump.held == 0


@pytest.mark.parametrize(
    ("behind", "is_odd"),
    [(fragment(b"fragment", BINARY, KEY), False), (ODD, True), (PING, False), (PONG[:1], False)],
)
def test_what_is_behind_a_frame_while_answers_wait(pump: Pump, behind: bytes, is_odd: bool) -> None:
    """A gathered message and a control frame can wait, but what the owner has to judge can not."""
    leased = pump.lend(small=True)
    whole_read, answer = echo(noise(READ - 14))
    small, small_answer = echo(b"x")
    leased.client.sendall(whole_read + small + behind)
    assert (pump.turn() == [leased]) == is_odd
    if leased.ended:
        assert leased.ended.rest == small + behind
    else:
        answers = answer + small_answer + (server_frame(b"x", 10) if behind == PING else b"")
        assert pump.served(leased, len(answers)) == answers


# Turns.


def test_each_has_its_turn(pump: Pump) -> None:
    """A turn of no time serves one socket once. No socket is served twice before each was served once.

    300 sockets are more than the pump asks the kernel about at a time. With their peers they stay under a shell's usual
    limit of 1,024 descriptors.
    """
    leases = [pump.lend() for _ in range(300)]
    frame, _ = echo(b"x" * 60_000)
    for leased in leases[:20]:
        leased.send(frame * 3)
    for leased in leases[20:]:
        leased.send(echo(b"x")[0])
    for served in range(1, 301):
        pump.turn(0)
        assert sum(leased.lease.reads for leased in leases) == served
    assert {leased.lease.reads for leased in leases} == {1}


def test_a_turn_ends_in_time(pump: Pump) -> None:
    """Work that does not fit into a turn is left for the next one."""
    leases = [pump.lend() for _ in range(200)]
    frame, answer = echo(b"x" * 60_000)
    for leased in leases:
        leased.send(frame)
    pump.turn(1)
    assert sum(leased.lease.reads for leased in leases) == 1
    pump.turn()
    assert [leased.lease.reads for leased in leases] == [1] * 200
    assert all(leased.take() == answer for leased in leases)


def unread(leased: Leased) -> int:
    """Return the number of bytes that the kernel has for the pump."""
    return int(struct.unpack("i", fcntl.ioctl(leased.served, termios.FIONREAD, bytes(4)))[0])


def test_one_read_at_a_time(pump: Pump, leased: Leased) -> None:
    """However much a client sends, one turn receives once from it, and a bounded amount."""
    frame, answer = echo(noise(1_000_000))
    reads = 0
    while frame:
        try:
            frame = frame[leased.client.send(frame) :]
        except BlockingIOError:
            """The socket's buffer is full."""
        before = unread(leased)
        pump.turn(0)
        reads += 1
        assert leased.lease.reads == reads
        assert before - unread(leased) <= (256 * 1024 if reads > 1 else READ)
    assert pump.served(leased, len(answer)) == answer


def test_a_frame_of_64_kib_takes_one_read(pump: Pump, leased: Leased) -> None:
    """The header makes the frame larger than 64 KiB."""
    frame, answer = echo(noise(65_536))
    leased.client.sendall(frame)
    pump.turn(0)
    assert (leased.take(), leased.lease.reads, pump.held) == (answer, 1, 0)


def test_a_large_answer_leaves_no_header_for_a_send_of_its_own(pump: Pump) -> None:
    """While 128 sockets are ready, each sends 64 KiB at a time; the last piece of an answer is larger by its header."""
    leases = [pump.lend() for _ in range(128)]
    frame, answer = echo(noise(2 * 65_536))
    for leased in leases:
        leased.client.sendall(frame)
    received, left = [b""] * len(leases), set()
    for _ in range(8 * len(leases)):
        assert pump.turn(0) == []
        left |= {leased.lease.unsent_size for leased in leases}
        received = [octets + leased.take() for octets, leased in zip(received, leases, strict=True)]
    assert received == [answer] * len(leases)
    assert left == {0, 65_536 + 10}


def test_recalled_after_its_event_was_fetched(pump: Pump) -> None:
    """The event of a recalled lease is not served, even if another lease has its memory."""
    leases = [pump.lend() for _ in range(10)]
    for leased in leases:
        leased.send(echo(b"x")[0])
    pump.turn(0)
    left = [leased for leased in leases if not leased.lease.reads]
    assert len(left) == 9
    for leased in left[:4]:
        assert pump.recall(leased).why == "RECALLED"
    others = [pump.lend() for _ in range(4)]
    assert pump.turn() == []
    assert [leased.lease.reads for leased in left[4:]] == [1] * 5
    assert [leased.lease.reads for leased in others] == [0] * 4


def test_many_end_in_one_turn(pump: Pump) -> None:
    """Each lease that ended is in the list once, and no other lease is."""
    leases = [pump.lend() for _ in range(30)]
    for number, leased in enumerate(leases):
        leased.send(ODD if number % 3 else echo(b"x")[0])
    ended = pump.turn()
    assert sorted(leases.index(leased) for leased in ended) == [number for number in range(30) if number % 3]
    assert {leased.ended for leased in ended} == {Ended("NOT_ORDINARY", ODD, b"")}
    assert pump.turn() == []


def test_what_is_held_is_counted_and_given_back(pump: Pump) -> None:
    """The sum of the accounts is right whatever the leases do."""
    leases = [pump.lend(small=True) for _ in range(20)]
    frame = echo(noise(3000))[0]
    choice = random.Random(1)
    for _ in range(300):
        leased = choice.choice([leased for leased in leases if leased.ended is None])
        what = choice.random()
        if what < 0.5:
            place = choice.randrange(len(frame))
            leased.send(frame[:place])
            pump.turn(0)
            leased.send(frame[place:])
        elif what < 0.8:
            leased.take()
        elif what < 0.83:
            leased.client.shutdown(socket.SHUT_WR)
        elif what < 0.86:
            pump.recall(leased)
        pump.turn(choice.choice([0, 10**9]))
        assert pump.held >= 0
        while sum(leased.ended is None for leased in leases) < 10:
            leases.append(pump.lend(small=True))
