"""Deflated messages in the pump, mirrored and deflated anew, beside Python's zlib: windows, blocks of all kinds,
faults, limits."""

from __future__ import annotations

import itertools
import random
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echod.lane.native import zlib_functions
from tests.empty_blocks import empty_blocks
from tests.lane.native import oracle
from tests.lane.native.codec import summed
from tests.lane.native.oracle import BINARY, DEFLATED, TEXT, client_frame, fragment, server_frame
from tests.lane.native.test_gather import MIXED, in_frames
from tests.lane.native.test_pump import FRAGMENTS, KEY, LIMIT, ODD, PING, Ended, Leased, Pump, echo, noise
from tests.lane.native.test_tls import Secure, SecurePump, opened, sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from echod.lane.native import Native

LEVEL, MEMORY, SHORT = 1, 4, 64
TAIL = b"\x00\x00\xff\xff"
MIRRORED, ANEW = 1 << 20, 64 << 10
"""The largest inflated message, if the answer is what came, and if it is deflated anew."""

MOST_BLOCKS = 1_000
"""The most blocks of a message."""


@dataclass(frozen=True)
class Terms:
    """The terms on which a lease takes deflated messages."""

    window_size: int = 0
    window_bits: int = 0

    @property
    def most(self) -> int:
        """The most bytes of an inflated message."""
        return ANEW if self.window_bits else MIRRORED

    def wire_limit(self, limit: int) -> int:
        """The most bytes of a message as it comes."""
        limit = min(limit, self.most)
        return limit + limit // 16 + 1024


WORDS = [random.Random(n).randbytes(random.Random(n).randrange(3, 12)).hex().encode() for n in range(300)]


def prose(size: int, seed: int = 0) -> bytes:
    """Return text that can be deflated, some of it not ASCII."""
    choice = random.Random(seed)
    words = [choice.choice(WORDS) for _ in range(size // 6 + 1)]
    return b" ".join([*words, MIXED])[-size:].decode(errors="ignore").encode().rjust(size, b".") if size else b""


def deflate(
    payload: bytes, compressor: Any = None, bits: int = 15, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH
) -> bytes:
    """Deflate a message as in RFC 7692 section 7.2.1."""
    compressor = compressor or zlib.compressobj(level, zlib.DEFLATED, -bits)
    octets: bytes = compressor.compress(payload) + compressor.flush(flush)
    return octets.removesuffix(TAIL)


def inflate(octets: bytes, window: bytes, limit: int) -> bytes | None:
    """Return the message, or None if it is malformed, not whole, too long, or has a last block."""
    inflater = zlib.decompressobj(-15, zdict=window)
    try:
        payload = inflater.decompress(octets, limit + 1)
        if inflater.eof or inflater.unconsumed_tail or len(payload) > limit:
            return None
        rest = inflater.decompress(TAIL + b"\x01\x00\x00\xff\xff", limit + 1)
    except zlib.error:
        return None
    return payload if inflater.eof and not rest and not inflater.unused_data else None


@dataclass
class Oracle:
    """What becomes of a lease's deflated messages."""

    terms: Terms
    window: bytes = b""
    limit: int = LIMIT
    inflated: list[bytes] = field(default_factory=list)

    def answer(self, octets: bytes, opcode: int) -> bytes | None:
        """Return the answer to a message."""
        payload = inflate(octets, self.window, min(self.limit, self.terms.most))
        if payload is None or (opcode == TEXT and not oracle.is_text(payload)):
            return None
        self.inflated.append(payload)
        self.window = (self.window + payload)[-self.terms.window_size :] if self.terms.window_size else b""
        if not self.terms.window_bits:
            return server_frame(octets, opcode | DEFLATED)
        if len(payload) < SHORT:
            return server_frame(payload, opcode)
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -self.terms.window_bits, MEMORY)
        return server_frame(deflate(payload, compressor), opcode | DEFLATED)

    def serve(self, octets: bytes) -> oracle.Served:
        """Return what becomes of a stream."""
        return oracle.serve(octets, self.limit, FRAGMENTS, self.answer, self.terms.wire_limit(self.limit))


class Deflating:
    """A pump that knows zlib, of either kind."""

    native: Native
    pump: Any
    leases: list[Any]
    lend: Callable[..., Any]

    def set_zlib(self, level: int = LEVEL, short: int = SHORT, **changed: Any) -> int:
        """Set the functions of zlib, some of them perhaps changed."""
        ffi = self.native.ffi
        addresses = zlib_functions.find()
        assert addresses is not None
        fields = ffi.typeof("echod_zlib").fields
        table: Any = ffi.new("echod_zlib *", {name: ffi.cast(of.type, addresses[name]) for name, of in fields})
        self.callbacks = [ffi.callback(dict(fields)[name].type, function) for name, function in changed.items()]
        for name, callback in zip(changed, self.callbacks, strict=True):
            setattr(table, name, callback)
        how = ffi.new("echod_deflate_settings *", {"level": level, "mem_level": MEMORY, "min_deflated": short})
        return self.native.lib.echod_pump_set_zlib(self.pump, table, how)

    def take(self, leased: Leased, terms: Terms, window: bytes = b"") -> int:
        """Let a lease take deflated messages."""
        ffi = self.native.ffi
        native = ffi.new("echod_terms *", {"window_size": terms.window_size, "window_bits": terms.window_bits})
        return self.native.lib.echod_pump_take_deflated(
            self.pump, leased.lease, native, ffi.from_buffer(window), len(window)
        )

    def lend_deflated(self, terms: Terms, window: bytes = b"", small: bool = False) -> Any:
        """Lease one that takes deflated messages."""
        leased = self.lend(small)
        assert self.take(leased, terms, window) == 0
        return leased


class DeflatePump(Pump, Deflating):
    """A pump that knows zlib, over plain sockets."""


class Client(Secure):
    """A lease whose client seals and opens by itself."""

    came = b""

    def send(self, octets: bytes) -> None:
        """Send bytes in records."""
        super().send(sealed(octets))

    def take(self) -> bytes:
        """Return the payload of the whole records."""
        found, _, self.came = opened(self.came + super().take())
        return found


class SecureDeflatePump(SecurePump, Deflating):
    """A pump that knows zlib, over TLS."""

    def lend(self, small: bool = False) -> Client:
        """Lease one end of a new socket pair."""
        self.leases.append(client := Client(self, len(self.leases), small))
        return client


@pytest.fixture
def pump(native: Native) -> Iterator[DeflatePump]:
    """A new pump for each test."""
    made = DeflatePump(native)
    try:
        assert made.set_zlib() == 0
        yield made
    finally:
        made.close()


@pytest.fixture(params=[DeflatePump, SecureDeflatePump], ids=["plain", "tls"])
def either(native: Native, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A new pump of each kind in turn."""
    made = request.param(native)
    try:
        assert made.set_zlib() == 0
        yield made
    finally:
        made.close()


def window_of(pump: DeflatePump, leased: Leased) -> bytes:
    """End the lease, and return the window that it gives back."""
    lease = leased.lease
    pump.lib.echod_pump_recall(pump.pump, lease)
    octets = bytes(pump.native.ffi.buffer(lease.window, lease.window_size)) if lease.window_size else b""
    leased.note_end()
    return octets


def frame_of(octets: bytes, opcode: int) -> bytes:
    """A deflated message in one frame."""
    return client_frame(octets, opcode | DEFLATED, KEY)


def deliver(pump: Any, leased: Any, octets: bytes) -> tuple[bytes, bytes]:
    """Send until all is sent, or the lease has ended. Return what was received, and what was not sent."""
    received = b""
    while octets and leased.ended is None:
        with suppress(BlockingIOError):
            octets = octets[leased.client.send(octets) :]
        pump.turn()
        received += leased.take()
    return received, octets


def conclude(pump: Any, leased: Any, right: oracle.Served, received: bytes, behind: bytes = b"") -> None:
    """Compare what is received and what is given back with what is right. `behind` was not even sent."""
    assert received == right.output
    if leased.ended is None:
        pump.recall(leased)
    leased.served.setblocking(False)
    try:
        unread = leased.served.recv(1 << 22)
    except BlockingIOError:
        unread = b""
    assert leased.ended.rest + unread + behind == right.left
    assert (leased.ended.fragments, leased.ended.unsent) == (right.fragments, b"")


MIRROR, MIRROR_ON = Terms(), Terms(1 << 15)
TERMS = [MIRROR, MIRROR_ON, Terms(0, 12), Terms(1 << 15, 12), Terms(1 << 9, 9), Terms(1 << 12, 15)]


@pytest.mark.parametrize("terms", TERMS, ids=str)
@pytest.mark.parametrize("size", [0, 1, 60, 63, 64, 65, 1_000, 30_000, 65_535, 65_536, 70_000, ANEW])
def test_one_message(either: Any, terms: Terms, size: int) -> None:
    """A message comes in one frame, in several, and byte by byte if it is short. It counts with its inflated size."""
    leased = either.lend_deflated(terms)
    right = Oracle(terms)
    bits = terms.window_size.bit_length() - 1 if terms.window_size else 15
    times = 0
    for opcode, payload in ((TEXT, prose(size)), (BINARY, noise(size))):
        octets = deflate(payload, bits=bits)
        if size > terms.most:
            continue
        answer = right.answer(octets, opcode)
        assert answer is not None
        whole = frame_of(octets, opcode)
        half = len(whole) // 2
        for pieces in (
            [whole],
            [whole[:half], whole[half:]],
            in_frames(octets, opcode | DEFLATED, len(octets) // 3, len(octets) // 2),
        ):
            for piece in pieces:
                leased.send(piece)
            assert either.served(leased, len(answer)) == answer
            assert either.held == 0
            times += 1
        if size < 100:
            for octet in whole:
                leased.send(bytes([octet]))
                assert either.turn() == []
            assert leased.take() == answer
            times += 1
    assert (leased.lease.messages, leased.lease.octets) == (times, times * size)
    sums = either.lib.echod_pump_sums(either.pump)
    assert sum(summed(sums.text)[0].values()) + sum(summed(sums.binary)[0].values()) == times


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("is_anew", [False, True])
def test_many_messages_that_refer_to_those_before(either: Any, bits: int, is_anew: bool) -> None:
    """The window wraps many times, and the next lease goes on with it."""
    terms = Terms(1 << bits, bits if is_anew else 0)
    right = Oracle(terms)
    compressor, inflater = zlib.compressobj(9, zlib.DEFLATED, -bits), zlib.decompressobj(-bits)
    choice = random.Random(bits)
    leased, largest = either.lend_deflated(terms), min(66_000, terms.most)
    for number in range(150):
        payload = prose(choice.choice([0, 1, 10, 100, 500, 1000, 3000, 5000, 20_000, largest]), choice.randrange(5))
        opcode = choice.choice([TEXT, BINARY])
        octets = deflate(payload, compressor)
        answer = right.answer(octets, opcode)
        assert answer is not None
        frames = in_frames(octets, opcode | DEFLATED, len(octets) // 3) if number % 3 else [frame_of(octets, opcode)]
        for frame in frames:
            leased.send(frame)
        assert either.served(leased, len(answer)) == answer
        if not is_anew:
            assert inflater.decompress(octets + TAIL) == payload
        if number % 20 == 7:
            window = window_of(either, leased)
            assert window == right.window
            leased.client.close()
            leased = either.lend_deflated(terms, window)
    assert window_of(either, leased) == right.window


def test_a_longer_window_than_may_be_is_cut(pump: DeflatePump) -> None:
    """The end of a window counts, and terms without a window ignore it."""
    assert window_of(pump, pump.lend_deflated(Terms(1 << 9), noise(5_000))) == noise(5_000)[-512:]
    assert window_of(pump, pump.lend_deflated(MIRROR, noise(5_000))) == b""
    leased = pump.lend_deflated(MIRROR)
    leased.send(frame_of(deflate(b"x"), TEXT))
    pump.turn()
    assert window_of(pump, leased) == b""


def stored(payload: bytes, is_last: bool = False) -> bytes:
    """Return a stored block at the beginning of a byte."""
    return (
        bytes([is_last]) + len(payload).to_bytes(2, "little") + (len(payload) ^ 0xFFFF).to_bytes(2, "little") + payload
    )


def in_steps(*parts: bytes) -> bytes:
    """Return the output of one compressor, flushed behind each part."""
    compressor = zlib.compressobj(wbits=-15)
    return b"".join(compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in parts).removesuffix(
        TAIL
    )


FIXED = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_FIXED)
BLOCKS = {
    "nothing": b"",
    "an empty one": b"\x00",
    "two empty ones": b"\x00\x00\x00\xff\xff\x00",
    "an empty fixed one": b"\x02\x00",
    "stored": stored(b"Hello") + b"\x00",
    "stored, two": stored(b"Hello") + stored(b"there") + b"\x00",
    "stored, without an end": stored(b"Hello"),
    "fixed": deflate(prose(500), FIXED),
    "dynamic": deflate(prose(5_000), level=9),
    "flushed fully": deflate(prose(5_000), flush=zlib.Z_FULL_FLUSH),
    "flushed within": in_steps(b"one", b"two"),
    "a last one": stored(b"Hello", True),
    "a last one and an empty one": stored(b"Hello", True) + b"\x00",
    "last ones": stored(b"Hello", True) + stored(b"there", True) + b"\x00",
    "a last fixed one": deflate(prose(500), zlib.compressobj(wbits=-15), flush=zlib.Z_FINISH) + b"\x00",
    "a last one, empty": b"\x01\x00\x00\xff\xff",
    "of the fourth kind": b"\x06\x00",
    "of a wrong length": b"\x00\x05\x00\xfb\xff" + b"Hello" + b"\x00",
    "too far back": in_steps(b"abc" * 99, b"abc" * 99)[len(in_steps(b"abc" * 99)) + 4 :],
    "with its tail": deflate(b"Hello") + TAIL,
    "with half of its tail": deflate(b"Hello") + TAIL[:2],
    "octets behind": deflate(b"Hello") + b"\xff\xff\xff",
    "cut UTF-8": deflate(b"ab\xe2\x82"),
    "no UTF-8": deflate(b"a" * 70_000 + b"\xff" + b"a" * 70_000),
    "UTF-8 across pieces": deflate(b"a" * 65_535 + "€".encode() + b"a" * 10),
    "a surrogate": deflate(b"\xed\xa0\x80"),
}


@pytest.mark.parametrize("terms", TERMS, ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(pump: DeflatePump, terms: Terms, name: str) -> None:
    """A message as compressors write it is taken. Any other is left as it came, and the window as it was."""
    octets = BLOCKS[name]
    before = frame_of(deflate(b"before" * 20), TEXT)
    for opcode in (TEXT, BINARY):
        for pieces in (
            [frame_of(octets, opcode)],
            in_frames(octets, opcode | DEFLATED, len(octets) // 2, len(octets) // 2),
        ):
            right = Oracle(terms)
            served = right.serve(before + b"".join(pieces))
            leased = pump.lend_deflated(terms)
            leased.send(before + pieces[0])
            received = b""
            for piece in [*pieces[1:], b""]:
                pump.turn()
                received += leased.take()
                if leased.ended is None:
                    leased.send(piece)
                else:
                    leased.ended = leased.ended._replace(rest=leased.ended.rest + piece)
            if leased.ended is None:
                assert not served.is_odd
                assert window_of(pump, leased) == right.window
            conclude(pump, leased, served, received)


@pytest.mark.parametrize("payload", [b"Hello", prose(300), noise(50)], ids=["fixed", "dynamic", "stored"])
def test_cut_short_at_every_place_and_every_octet_wrong(pump: DeflatePump, payload: bytes) -> None:
    """The right result is that of Python's zlib."""
    octets = deflate(payload)
    wrong = [
        octets[:place] + bytes([octets[place] ^ bit]) + octets[place + 1 :]
        for place in range(len(octets))
        for bit in (1, 0x10, 0x80)
    ]
    for tried in [*(octets[:place] for place in range(len(octets))), *wrong]:
        for terms in (MIRROR_ON, Terms(0, 12)):
            right = Oracle(terms)
            served = right.serve(frame_of(tried, BINARY))
            leased = pump.lend_deflated(terms)
            leased.send(frame_of(tried, BINARY))
            pump.turn()
            received = leased.take()
            if leased.ended is None:
                assert window_of(pump, leased) == right.window
            conclude(pump, leased, served, received)
            leased.client.close()
            leased.served.close()


# Limits.


@pytest.mark.parametrize("limit", [1_000, 65_535, 65_536, 65_537, 100_000, ANEW, MIRRORED, 2 << 20])
@pytest.mark.parametrize("terms", [MIRROR, Terms(0, 12)], ids=["mirror", "anew"])
def test_just_the_limit_and_one_octet_more(native: Native, limit: int, terms: Terms) -> None:
    """The limits hold for a message inflated, and as it comes."""
    most = min(limit, terms.most)
    pump = DeflatePump(native, limit)
    try:
        assert pump.set_zlib() == 0
        for payload in (bytes(most), noise(most)):
            octets = deflate(payload)
            right = Oracle(terms, limit=limit)
            leased = pump.lend_deflated(terms)
            served = right.serve(frame_of(octets, BINARY))
            assert served.is_odd == (len(octets) > terms.wire_limit(limit))
            received, behind = deliver(pump, leased, frame_of(octets, BINARY))
            while len(received) < len(served.output):
                assert pump.turn() == []
                received += leased.take()
            conclude(pump, leased, served, received, behind)
            more = frame_of(deflate(payload + b"x"), BINARY)
            leased = pump.lend_deflated(terms)
            received, behind = deliver(pump, leased, more)
            assert leased.ended is not None
            conclude(pump, leased, oracle.Served(b"", more, 0, True), received, behind)
    finally:
        pump.close()


def counting_pump(native: Native) -> tuple[DeflatePump, list[int]]:
    """Make a pump, and a list that grows with each call of `inflate`."""
    asked: list[int] = []
    addresses = zlib_functions.find()
    assert addresses is not None
    inflate_: Any = native.ffi.cast("int(*)(void *, int)", addresses["inflate"])

    def counted(stream: Any, flush: int) -> int:
        asked.append(flush)
        return int(inflate_(stream, flush))

    counting = DeflatePump(native)
    assert counting.set_zlib(inflate=counted) == 0
    return counting, asked


@pytest.mark.parametrize("terms", [MIRROR, Terms(0, 12)], ids=["mirror", "anew"])
def test_the_end_of_a_usual_message_takes_no_call_of_its_own(native: Native, terms: Terms) -> None:
    """The header of the empty block at the end is in any place of the last bytes."""
    counting, asked = counting_pump(native)
    lasts = set()
    try:
        leased = counting.lend_deflated(terms)
        for size in range(200, 400):
            octets = deflate(prose(size))
            lasts.add((octets[-1] == 0, octets[-1].bit_length()))
            leased.send(frame_of(octets, TEXT))
            assert counting.turn() == []
            assert leased.take()
            assert len(asked) == 1
            asked.clear()
        assert len(lasts) > 4
        leased.send(frame_of(stored(b"Hello") + stored(b"there") + b"\0", TEXT))
        assert counting.turn() == []
        assert len(asked) == 2
    finally:
        counting.close()


def test_a_bomb_is_inflated_no_further_than_the_limit(native: Native) -> None:
    """100 MiB in 100 KiB: left, before much of it is inflated."""
    compressor = zlib.compressobj(9, wbits=-15)
    octets = (
        b"".join(compressor.compress(bytes(1 << 20)) for _ in range(100)) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    )
    counting, asked = counting_pump(native)
    try:
        for terms, pieces in ((MIRROR, 17), (Terms(0, 12), 3)):
            leased = counting.lend_deflated(terms)
            frame = frame_of(octets, BINARY)
            received, behind = deliver(counting, leased, frame)
            assert leased.ended is not None
            conclude(counting, leased, oracle.Served(b"", frame, 0, True), received, behind)
            assert len(asked) <= pieces, "of 64 KiB"
            asked.clear()
    finally:
        counting.close()


# Time.

SHARE_ONLY = 0
"""Nanoseconds of a turn that serves one lease, for one share."""


@pytest.mark.parametrize("payload", [bytes(60_000), b""], ids=["much", "nothing"])
@pytest.mark.parametrize("terms", [MIRROR_ON, Terms(1 << 15, 12)], ids=["mirror", "anew"])
def test_what_a_read_has_no_time_for_is_put_off(either: Any, terms: Terms, payload: bytes) -> None:
    """The lease goes on with the rest in later turns, and others are served in between."""
    leased, other = either.lend_deflated(terms, noise(1 << 15)), either.lend()
    octets, right = deflate(payload, level=9), Oracle(terms, noise(1 << 15))
    frame, number = frame_of(octets, BINARY), 4_000 if not payload else 200
    answers = b"".join(right.answer(octets, BINARY) or b"" for _ in range(number))
    leased.send(frame * number)
    assert either.turn(SHARE_ONLY) == []
    received = leased.take()
    assert answers.startswith(received)
    assert len(received) < len(answers) // 2
    assert either.held > 0
    other.send(echo(b"x")[0])
    for _ in range(2):
        assert either.turn(SHARE_ONLY) == []
    assert other.take() == echo(b"x")[1]
    received += leased.take()
    assert len(received) < len(answers)
    assert received + either.served(leased, len(answers) - len(received)) == answers
    assert (leased.lease.messages, either.held) == (number, 0)
    assert window_of(either, leased) == right.window


def test_what_is_put_off_is_given_back_with_the_lease(pump: DeflatePump) -> None:
    """A put-off rest is given back as it came if the lease is recalled, or memory is short."""
    frame = frame_of(deflate(bytes(60_000), level=9), BINARY)
    answer = Oracle(MIRROR).answer(deflate(bytes(60_000), level=9), BINARY)
    assert answer is not None
    for is_tight in (False, True):
        leased = pump.lend_deflated(MIRROR)
        pump.set_tight(is_tight)
        leased.send(frame * 50)
        for _ in range(50):
            if leased.ended is not None or (leased.lease.held and not is_tight):
                break
            pump.turn(SHARE_ONLY)
        received = leased.take()
        number = len(received) // len(answer)
        assert number < 50
        conclude(pump, leased, oracle.Served(answer * number, frame * (50 - number), 0, True), received)


@pytest.mark.parametrize("terms", [MIRROR, Terms(0, 12)], ids=["mirror", "anew"])
def test_a_large_message_of_too_many_blocks_is_autobahns(native: Native, terms: Terms) -> None:
    """Blocks are counted: otherwise 1 MiB of empty blocks would take as long as 20 MiB of text."""
    counting, asked = counting_pump(native)
    try:
        for octets in (
            empty_blocks(60_000),
            b"\0\0\0\xff\xff" * 12_000,
            deflate(bytes(60_000), zlib.compressobj(6, memLevel=1, wbits=-15)) * 90,
        ):
            leased = counting.lend_deflated(terms)
            frame = frame_of(octets + b"\0", BINARY)
            received, behind = deliver(counting, leased, frame)
            conclude(counting, leased, oracle.Served(b"", frame, 0, True), received, behind)
            assert len(asked) <= MOST_BLOCKS + 1
            asked.clear()
    finally:
        counting.close()


@pytest.mark.parametrize("number", [MOST_BLOCKS - 10, MOST_BLOCKS + 10])
def test_about_as_many_blocks_as_may_be(pump: DeflatePump, number: int) -> None:
    """Each flush of a compressor makes an empty block."""
    octets = in_steps(*(random.Random(place).randbytes(40) for place in range(number // 2)))
    leased, frame = pump.lend_deflated(MIRROR), frame_of(octets, BINARY)
    leased.send(frame)
    assert (pump.turn() == [leased]) == (number > MOST_BLOCKS)
    assert leased.take() == (b"" if number > MOST_BLOCKS else server_frame(octets, BINARY | DEFLATED))


def test_a_plain_answer_of_several_pieces_is_autobahns(pump: DeflatePump, native: Native) -> None:
    """Such an answer would have to be put together first. Nobody sets the least deflated size so high."""
    high = DeflatePump(native)
    try:
        assert high.set_zlib(short=100_000) == 0
        leased = high.lend_deflated(Terms(0, 12))
        leased.send(frame_of(deflate(bytes(60_000)), BINARY))
        assert high.served(leased, 60_004) == server_frame(bytes(60_000), BINARY)
        leased.send(frame_of(deflate(bytes(90_000)), BINARY))
        assert high.turn() == [leased]
    finally:
        high.close()
    assert pump.held == 0


# Among others.


@st.composite
def streams(draw: st.DrawFn, bits: int) -> bytes:
    """Draw plain, deflated, fragmented and control frames, most of them right."""
    compressor = zlib.compressobj(draw(st.sampled_from([1, 6, 0])), zlib.DEFLATED, -bits) if bits else None
    octets = b""
    for _ in range(draw(st.integers(0, 8))):
        payload = draw(
            st.one_of(st.text(max_size=80).map(str.encode), st.binary(max_size=40), st.integers(0, 9000).map(prose))
        )
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        if draw(st.integers(0, 3)):
            payload, opcode = deflate(payload, compressor), opcode | DEFLATED
        if not draw(st.integers(0, 15)):
            payload = draw(st.sampled_from([payload[:-1], payload + b"\x07", b"\x01" + payload, payload + TAIL]))
        places = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3))) if draw(st.booleans()) else []
        frames = in_frames(payload, opcode, *places)
        if not draw(st.integers(0, 7)):
            frames.insert(
                draw(st.integers(0, len(frames))),
                draw(st.sampled_from([ODD, PING, fragment(b"", TEXT, KEY), b"\xc0\x80" + KEY])),
            )
        octets += b"".join(frames)
    return octets


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(terms=st.sampled_from(TERMS), data=st.data())
def test_any_stream_cut_anywhere(native: Native, terms: Terms, data: st.DataObject) -> None:
    """The result is that of the oracle."""
    octets = data.draw(streams(terms.window_size.bit_length() - 1 if terms.window_size else 0))
    right = Oracle(terms, limit=20_000)
    served = right.serve(octets)
    places = sorted({0, len(octets), *data.draw(st.lists(st.integers(0, len(octets)), max_size=8))})
    pump = DeflatePump(native, 20_000)
    try:
        assert pump.set_zlib() == 0
        leased = pump.lend_deflated(terms)
        received = b""
        for start, stop in itertools.pairwise(places):
            if leased.ended is None:
                leased.send(octets[start:stop])
                pump.turn()
                received += leased.take()
            else:
                leased.ended = leased.ended._replace(rest=leased.ended.rest + octets[start:stop])
        if leased.ended is None:
            assert not served.is_odd
            assert window_of(pump, leased) == right.window
        else:
            assert served.is_odd
        conclude(pump, leased, served, received)
    finally:
        pump.close()


def test_deflated_messages_without_terms_are_autobahns(pump: DeflatePump) -> None:
    """Without terms, a deflated message ends the lease."""
    leased = pump.lend()
    leased.send(echo(b"x")[0] + frame_of(deflate(b"Hello"), TEXT))
    assert pump.turn() == [leased]
    assert leased.ended == Ended("NOT_ORDINARY", frame_of(deflate(b"Hello"), TEXT), b"")
    assert leased.take() == echo(b"x")[1]


@pytest.mark.parametrize("terms", TERMS, ids=str)
def test_clients_that_do_not_read(either: Any, terms: Terms) -> None:
    """All answers come in order, and nothing is read meanwhile."""
    leased = either.lend_deflated(terms, small=True)
    right = Oracle(terms)
    octets = [deflate(noise(size)) for size in (10, 3_000, 9_000, 200)]
    stream = b"".join(
        [echo(b"plain")[0], *(frame_of(part, BINARY) for part in octets), *in_frames(octets[1], BINARY | DEFLATED, 5)]
    )
    answers = echo(b"plain")[1] + b"".join(right.answer(part, BINARY) or b"" for part in [*octets, octets[1]])
    number = 0
    # Until answers wait, or messages that a turn had no time for: those wait, too, while the socket takes nothing.
    while not leased.lease.held:
        leased.send(stream)
        number += 1
        for _ in range(3):
            assert either.turn() == []
    received = b""
    while len(received) < number * len(answers):
        received += leased.take()
        assert either.turn() == []
    assert received == number * answers
    assert either.held == 0


def test_tight(pump: DeflatePump) -> None:
    """Small messages are still served."""
    pump.set_tight(True)
    leased = pump.lend_deflated(MIRROR_ON)
    octets = deflate(prose(5_000))
    leased.send(frame_of(octets, TEXT))
    assert pump.turn() == []
    assert leased.take() == server_frame(octets, TEXT | DEFLATED)
    large = frame_of(deflate(noise(20_000)), BINARY)
    leased.send(large)
    while leased.ended is None:
        pump.turn()
    leased.served.setblocking(False)
    assert leased.ended.rest + leased.served.recv(1 << 20) == large


# What may fail.


def test_a_zlib_that_is_none(native: Native) -> None:
    """Setting a wrong zlib fails. Terms whose compressor can't be made fail, too."""
    pump = DeflatePump(native)
    try:
        assert pump.set_zlib(inflateInit2_=lambda *_: -6) == -1
        assert pump.set_zlib(deflateInit2_=lambda *_: -4) == 0
        assert pump.take(pump.lend(), MIRROR) == 0
        assert pump.take(pump.lend(), Terms(0, 12)) == -1
        for terms in (Terms(1 << 16), Terms(0, 16), Terms(0, -1)):
            assert pump.take(pump.lend(), terms) == -1
    finally:
        pump.close()


@pytest.mark.parametrize("name", ["inflateReset", "inflateSetDictionary", "deflateReset", "inflate", "deflate"])
def test_a_stream_that_fails(native: Native, name: str) -> None:
    """The message is given back as it came."""
    pump = DeflatePump(native)
    try:
        assert pump.set_zlib(LEVEL, SHORT, **{name: lambda *_: -2}) == 0
        leased = pump.lend_deflated(Terms(1 << 12, 12), b"window")
        frame = frame_of(deflate(bytes(100)), BINARY)
        leased.send(frame)
        assert pump.turn() == [leased]
        assert leased.ended == Ended("NOT_ORDINARY", frame, b"")
    finally:
        pump.close()
