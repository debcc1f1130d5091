"""The pump over TLS, with a fake OpenSSL: the tests can read its records, and its functions fail when a test wants it.

tests/lane/test_tls_lane.py uses the real OpenSSL.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.lane.native.oracle import BINARY, TEXT
from tests.lane.native.test_pump import ODD, Ended, Leased, Pump, echo, noise

if TYPE_CHECKING:
    from echod.lane.native import Native

WANT_READ, FAULT = 2, 1
DATA, OTHER_KEYS, CLOSE_NOTIFY = b"D", b"K", b"C"
RECORD = 16_384


def record(kind: bytes, octets: bytes = b"") -> bytes:
    """Return a record: its kind, its size, and its bytes, disguised."""
    return kind + len(octets).to_bytes(2, "big") + bytes(octets.translate(TURNED))


TURNED = bytes(octet ^ 0x5A for octet in range(256))


def sealed(octets: bytes, most: int = RECORD) -> bytes:
    """Return the bytes in as many records as it takes."""
    return b"".join(record(DATA, octets[start : start + most]) for start in range(0, len(octets), most))


def opened(octets: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the payload of these records, the kinds of the others, and what is left."""
    found, others = b"", b""
    while len(octets) >= 3 and len(octets) >= (size := 3 + int.from_bytes(octets[1:3], "big")):
        if octets[:1] == DATA:
            found += octets[3:size].translate(TURNED)
        else:
            others += octets[:1]
        octets = octets[size:]
    return found, others, octets


class Session:
    """An SSL object and its BIOs."""

    def __init__(self) -> None:
        self.incoming, self.outgoing, self.pending = b"", b"", b""
        self.is_over = False
        self.writes_left = self.puts_left = 10**9
        self.memory: Any = None
        self.on_look: Callable[[], None] = lambda: None
        """Called before the session tells what there is to send."""


class OpenSSL:
    """The functions of the fake, as the pump calls them."""

    def __init__(self, native: Native) -> None:
        self.ffi = native.ffi
        self.sessions: dict[int, Session] = {}
        self.error = 0
        self.cleared = 0
        table: Any = self.ffi.new("echod_openssl *")
        table.SSL_ERROR_WANT_READ = WANT_READ
        # A callback lives only as long as its Python object, so this list keeps the objects.
        self._functions = []
        for name, field in self.ffi.typeof("echod_openssl").fields:
            if hasattr(self, name):
                self._functions.append(self.ffi.callback(field.type, getattr(self, name)))
                setattr(table, name, self._functions[-1])
        self.table = table

    def parts(self) -> tuple[Session, list[Any]]:
        """Return a new session, and the addresses of its SSL and its two BIOs."""
        number = 8 * (len(self.sessions) + 1)
        self.sessions[number] = Session()
        return self.sessions[number], [self.ffi.cast("void *", number + part) for part in range(3)]

    def session(self, part: Any) -> Session:
        """Return the session that an SSL or a BIO belongs to."""
        return self.sessions[int(self.ffi.cast("uintptr_t", part)) & ~7]

    def _advance(self, it: Session) -> int:
        while not it.pending:
            size = 3 + int.from_bytes(it.incoming[1:3], "big")
            if it.is_over or len(it.incoming) < max(3, size):
                self.error = FAULT if it.is_over else WANT_READ
                return -1
            kind, octets, it.incoming = it.incoming[:1], it.incoming[3:size], it.incoming[size:]
            if kind == DATA:
                it.pending = octets.translate(TURNED)
            elif kind == OTHER_KEYS:
                it.outgoing += record(OTHER_KEYS)
            else:
                it.is_over = True
        return len(it.pending)

    def SSL_peek(self, ssl: Any, octets: Any, size: int) -> int:
        """Copy payload, and leave it in the session."""
        it = self.session(ssl)
        n = min(self._advance(it), size)
        if n > 0:
            self.ffi.memmove(octets, it.pending, n)
        return n

    def SSL_read(self, ssl: Any, octets: Any, size: int) -> int:
        """Take payload, of one record at most."""
        it = self.session(ssl)
        n = self.SSL_peek(ssl, octets, size)
        it.pending = it.pending[max(n, 0) :]
        return n

    def SSL_write(self, ssl: Any, octets: Any, size: int) -> int:
        """Seal the bytes in one record."""
        it = self.session(ssl)
        assert 0 < size <= RECORD
        it.writes_left -= 1
        if it.writes_left < 0:
            self.error = WANT_READ
            return -1
        it.outgoing += record(DATA, bytes(self.ffi.buffer(octets, size)))
        return size

    def SSL_get_error(self, ssl: Any, result: int) -> int:  # noqa: ARG002
        """Return why the last call failed."""
        return self.error

    def BIO_read(self, bio: Any, octets: Any, size: int) -> int:
        """Take bytes from the beginning of the BIO."""
        it = self.session(bio)
        taken, it.outgoing = it.outgoing[:size], it.outgoing[size:]
        self.ffi.memmove(octets, taken, len(taken))
        return len(taken)

    def BIO_write(self, bio: Any, octets: Any, size: int) -> int:
        """Put bytes at the end of the BIO."""
        it = self.session(bio)
        it.puts_left -= 1
        if it.puts_left < 0:
            return -1
        it.incoming += bytes(self.ffi.buffer(octets, size))
        return size

    def BIO_get_mem_data(self, bio: Any, octets: Any) -> int:
        """Return the number of bytes in the BIO, and point to them."""
        it = self.session(bio)
        is_incoming = int(self.ffi.cast("uintptr_t", bio)) & 7 == 1
        if not is_incoming and it.outgoing:
            it.on_look()
        held = it.incoming if is_incoming else it.outgoing
        it.memory = self.ffi.new("char[]", held)
        octets[0] = it.memory
        return len(held)

    def ERR_clear_error(self) -> None:
        """Count the calls."""
        self.cleared += 1


class Secure(Leased):
    """A lease with a TLS session."""

    def __init__(self, pump: SecurePump, slot: int, small: bool) -> None:
        self.session, self.parts = pump.openssl.parts()
        super().__init__(pump, slot, small)

    def lend(self, slot: int) -> Any:
        """Lease the socket and its session."""
        return self.pump.lib.echod_pump_lend_tls(self.pump.pump, self.served.fileno(), slot, *self.parts)


class SecurePump(Pump):
    """A pump whose leases have TLS sessions."""

    def __init__(self, native: Native) -> None:
        super().__init__(native)
        self.openssl = OpenSSL(native)
        self.lib.echod_pump_set_openssl(self.pump, self.openssl.table)

    def lend(self, small: bool = False) -> Secure:
        """Lease one end of a new socket pair."""
        leased = Secure(self, len(self.leases), small)
        self.leases.append(leased)
        return leased


@pytest.fixture
def pump(native: Native) -> Iterator[SecurePump]:
    """A new pump for each test."""
    made = SecurePump(native)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def leased(pump: SecurePump) -> Secure:
    """A lease of this pump."""
    return pump.lend()


def converse(
    pump: SecurePump, leased: Secure, octets: bytes, is_done: Callable[[bytes], object], received: bytes = b""
) -> bytes:
    """Send and receive by turns, until `is_done` or the end of the lease; return all that was received."""
    for _ in range(10_000):
        if octets:
            with suppress(BlockingIOError):
                octets = octets[leased.client.send(octets) :]
        pump.turn()
        received += leased.take()
        if leased.ended is not None or (not octets and is_done(received)):
            return received
    return pytest.fail("the conversation did not end")


@pytest.mark.parametrize("most", [1, 7, RECORD])
@pytest.mark.parametrize("size", [0, 5, 200, 5_000, 70_000, 300_000])
def test_echo(pump: SecurePump, leased: Secure, size: int, most: int) -> None:
    """A message may come in any records. The answers are in records of the largest size."""
    frame, answer = echo(noise(size % 1000 if most < RECORD else size))
    received = converse(
        pump, leased, sealed(frame * 2, most), lambda received: len(opened(received)[0]) >= 2 * len(answer)
    )
    assert opened(received) == (answer * 2, b"", b"")
    assert pump.held == 0
    assert leased.lease.messages == 2
    assert pump.openssl.cleared == 0


def test_what_the_session_has_to_say_by_itself_is_sent(pump: SecurePump, leased: Secure) -> None:
    """A record without payload, such as new keys, may need an answer."""
    leased.send(record(OTHER_KEYS))
    assert pump.turn() == []
    assert leased.take() == record(OTHER_KEYS)
    frame, answer = echo(b"x")
    leased.send(record(OTHER_KEYS) + sealed(frame))
    assert pump.turn() == []
    assert leased.take() == record(OTHER_KEYS) + sealed(answer)


def test_half_a_record_is_held_in_the_session(pump: SecurePump, leased: Secure) -> None:
    """The half record is still in the session when the lease has ended."""
    octets = sealed(echo(noise(100))[0])
    leased.send(octets[:50])
    assert pump.turn() == []
    assert 50 * 4 // 3 <= pump.held < 80, "what a memory BIO takes for 50"
    assert pump.recall(leased) == Ended("RECALLED", b"", b"")
    assert leased.session.incoming == octets[:50]


@pytest.mark.parametrize("begun", [b"", echo(noise(100))[0][:-1], echo(noise(50_000))[0][:20_000]])
def test_a_close_notify_is_the_owners(pump: SecurePump, leased: Secure, begun: bytes) -> None:
    """The owner gets all that was opened before it, answered or not, and the rest in the session. OpenSSL's error is
    cleared, so no other lease finds it."""
    frame, answer = echo(b"x", TEXT)
    leased.send(sealed(begun) + record(CLOSE_NOTIFY) + sealed(frame))
    assert pump.turn() == [leased]
    assert leased.ended == Ended("NOT_ORDINARY", begun, b"")
    assert leased.session.incoming == sealed(frame)
    assert pump.openssl.cleared == 1
    other = pump.lend()
    other.send(sealed(frame))
    assert pump.turn() == []
    assert opened(other.take())[0] == answer


def test_records_behind_an_odd_frame_are_left_in_the_session(pump: SecurePump, leased: Secure) -> None:
    """Everything is given back: opened records as plain bytes, the others in the session."""
    frame, answer = echo(b"x")
    octets = sealed(frame) + sealed(ODD) + sealed(frame) * 1_000
    leased.send(octets)
    assert pump.turn() == [leased]
    assert leased.ended
    assert opened(leased.take())[0] == answer
    behind, _, rest = opened(leased.session.incoming)
    assert rest == b""
    assert leased.ended.rest + leased.session.pending + behind == ODD + frame * 1_000


@pytest.mark.parametrize("size", [10, 40_000, 200_000])
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_a_session_that_can_not_be_written_to(pump: SecurePump, leased: Secure, size: int, writes: int) -> None:
    """In the middle of a renegotiation the owner has to write the answer."""
    frame, answer = echo(noise(size))
    leased.session.writes_left = writes
    received = converse(pump, leased, sealed(frame), lambda received: len(opened(received)[0]) == len(answer))
    unsent = b""
    if -(-len(answer) // RECORD) > writes:
        assert leased.ended
        assert leased.ended.why in {"NOT_ORDINARY", "CLOSED"}
        unsent = leased.ended.unsent
    assert opened(received + leased.session.outgoing)[0] + unsent == answer


@pytest.mark.parametrize("puts", [0, 1, 3])
@pytest.mark.parametrize("behind", [b"", record(CLOSE_NOTIFY), sealed(ODD)])
def test_without_memory_the_connection_is_lost(pump: SecurePump, leased: Secure, puts: int, behind: bytes) -> None:
    """Bytes that the session does not take are lost."""
    leased.session.puts_left = puts
    leased.send(sealed(echo(noise(300))[0]) + behind + sealed(noise(60_000)))
    pump.turn()
    assert leased.ended
    assert leased.ended.why in ({"NO_MEMORY"} if puts == 0 else {"NO_MEMORY", "NOT_ORDINARY"})
    other = pump.lend()
    frame, answer = echo(b"x")
    other.send(sealed(frame))
    pump.turn()
    assert opened(other.take())[0] == answer, "what was left is nobody else's"


def grown(pump: SecurePump) -> list[int]:
    """Return the slots of the leases whose sessions the last turn found grown."""
    found, lease = [], pump.lib.echod_pump_grown(pump.pump)
    while lease:
        found.append(lease.slot)
        lease = lease.next_grown
    return found


def test_whose_buffers_have_grown_is_told_once(pump: SecurePump) -> None:
    """A session grows by the bytes that are received, or sealed, at a time."""
    leases = [pump.lend() for _ in range(3)]
    for leased, size in zip(leases, (3_000, 6_000, 60_000), strict=True):
        leased.send(sealed(echo(noise(size))[0]))
    pump.turn()
    assert sorted(grown(pump)) == [1, 2]
    assert pump.held == 0, "nothing is in them"
    for leased in leases:
        leased.take()
        leased.send(sealed(echo(noise(5_000))[0]))
    pump.turn()
    assert grown(pump) == [0]
    pump.turn()
    assert grown(pump) == []


def test_what_a_buffer_has_grown_to_counts_while_anything_is_in_it(pump: SecurePump) -> None:
    """The whole BIO is held: it does not shrink when bytes leave it."""
    leased = stuffed(pump, 60_000, 1)
    most = leased.lease.sealed_size
    while leased.lease.sealed_size > 30_000:
        leased.client.recv(5_000)
        pump.turn()
    assert 0 < leased.lease.sealed_size < most
    assert pump.held >= most * 4 // 3
    converse(pump, leased, b"", lambda _: not leased.lease.sealed_size)
    assert pump.held == 0


def stuffed(pump: SecurePump, size: int, count: int) -> Secure:
    """Return a lease whose client has sent `count` messages, and takes no answers."""
    leased = pump.lend(small=True)
    octets = sealed(echo(noise(size))[0] * count)
    for _ in range(100):
        with suppress(BlockingIOError):
            octets = octets[leased.client.send(octets) :] if octets else b""
        pump.turn()
    assert not octets
    return leased


@pytest.mark.parametrize("size", [100, 60_000, 400_000])
def test_a_client_that_does_not_take_its_answers(pump: SecurePump, size: int) -> None:
    """The first answers wait in the session, and the rest in the lease. Records behind them are opened in the end
    without another event."""
    count = max(1, 60_000 // size)
    leased = stuffed(pump, size, count)
    assert leased.ended is None
    assert leased.lease.sealed_size == len(leased.session.outgoing) > 0
    assert pump.held >= leased.lease.sealed_size + leased.lease.unsent_size
    answers = echo(noise(size))[1] * count
    assert opened(converse(pump, leased, b"", lambda received: len(opened(received)[0]) >= len(answers)))[0] == answers
    pump.turn()
    assert pump.held == leased.lease.sealed_size == 0


@pytest.mark.parametrize("size", [100, 60_000, 400_000])
def test_unsent_answers_go_back_in_order(pump: SecurePump, size: int) -> None:
    """The records in the session go first, then the rest."""
    count = max(1, 60_000 // size)
    leased = stuffed(pump, size, count)
    ended = pump.recall(leased)
    found, _, rest = opened(leased.take() + leased.session.outgoing)
    assert rest == b""
    behind = opened(leased.session.incoming)[0]
    answer, frame = echo(noise(size))[1], echo(noise(size))[0]
    answers = found + ended.unsent
    assert answers == answer * (len(answers) // len(answer))
    assert ended.rest + leased.session.pending + behind == frame * (count - len(answers) // len(answer))


@pytest.mark.parametrize("look", range(1, 10))
def test_a_client_that_takes_its_answers_meanwhile(pump: SecurePump, look: int) -> None:
    """The client may take its answers at any moment while the pump decides whether the lease has to wait."""
    leased = pump.lend(small=True)
    frames = [echo(noise(size)) for size in (20_000, 30_000)]
    answers = b"".join(answer for _, answer in frames)
    looks = itertools.count(1)
    received = b""

    def take() -> None:
        nonlocal received
        if next(looks) == look:
            received = leased.take()

    stream = b"".join(frame for frame, _ in frames)
    leased.send(sealed(stream[:10_000]))
    pump.turn()
    leased.session.on_look = take
    leased.send(sealed(stream[10_000:]))
    pump.turn()
    leased.session.on_look = lambda: None
    received = converse(pump, leased, b"", lambda received: len(opened(received)[0]) >= len(answers), received)
    assert leased.ended is None
    assert opened(received)[0] == answers


@pytest.mark.parametrize("odd", [sealed(ODD), record(CLOSE_NOTIFY)])
def test_what_is_odd_is_seen_behind_answers_that_wait(pump: SecurePump, odd: bytes) -> None:
    """The lease ends, and no byte of an answer is lost."""
    leased = pump.lend(small=True)
    leased.send(sealed(echo(noise(40_000))[0]) + odd)
    for _ in range(10):
        pump.turn()
    assert leased.ended
    assert leased.ended.why == "NOT_ORDINARY"
    assert opened(leased.take() + leased.session.outgoing)[0] + leased.ended.unsent == echo(noise(40_000))[1]


def test_tight_and_blocked(pump: SecurePump) -> None:
    """While the pump is tight, a lease ends if its client does not take its answers."""
    pump.set_tight(True)
    leased = stuffed(pump, 1000, 60)
    assert leased.ended
    assert leased.ended.why == "BLOCKED"
    pump.set_tight(False)
    leased = stuffed(pump, 400_000, 1)
    pump.set_tight(True)
    converse(pump, leased, b"", lambda _: False)
    assert leased.ended
    assert leased.ended.why == "BLOCKED"


def test_a_peer_that_has_gone(pump: SecurePump, leased: Secure) -> None:
    """The peer may close the connection, also while answers wait."""
    leased.client.close()
    assert pump.turn() == [leased]
    assert leased.ended == Ended("CLOSED", b"", b"")
    other = stuffed(pump, 400_000, 1)
    other.client.close()
    pump.turn()
    assert other.ended
    assert other.ended.why == "CLOSED"


def test_a_session_that_has_something_to_send_is_not_taken(pump: SecurePump, leased: Secure) -> None:
    """A session that has something to send is not leased."""
    pump.recall(leased)
    leased.session.outgoing = b"left"
    assert leased.lend(0) == pump.native.ffi.NULL
    leased.session.outgoing = b""
    assert pump.lib.echod_pump_lend_tls(pump.pump, -1, 0, *leased.parts) == pump.native.ffi.NULL


@pytest.mark.parametrize("seed", range(20))
def test_of_any_kind_cut_anywhere(pump: SecurePump, seed: int) -> None:
    """The same bytes come back in records of any size, to a client that reads now and then."""
    choice = random.Random(seed)
    leased = pump.lend(small=choice.random() < 0.5)
    frames = [echo(noise(choice.choice([0, 5, 100, 4_090, 5_000, 40_000, 150_000])), BINARY) for _ in range(12)]
    octets, left = b"".join(frame for frame, _ in frames), b""
    expected, received = b"".join(answer for _, answer in frames), b""
    for _ in range(100_000):
        if not octets and not left and len(opened(received)[0]) >= len(expected):
            break
        if octets and choice.random() < 0.7:
            size = choice.choice([1, 10, 500, RECORD])
            left += record(DATA, octets[:size]) + (record(OTHER_KEYS) if choice.random() < 0.1 else b"")
            octets = octets[size:]
        if left:
            try:
                left = left[leased.client.send(left[: choice.choice([1, 5, 3000, 10**6])]) :]
            except BlockingIOError:
                """The socket's buffer is full."""
        pump.turn(choice.choice([0, 10**9]))
        if choice.random() < 0.3:
            received += leased.take()
    assert leased.ended is None
    assert opened(received)[0] == expected
