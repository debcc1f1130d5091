"""permessage-deflate at work: how deflated messages are inflated, and how their echoes are deflated.

The other end is plain zlib with one compressor and one inflater for the whole connection, as RFC 7692 section 7.2 has
it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from autobahn.exception import PayloadCorruptError, PayloadExceededError
from hypothesis import given
from hypothesis import strategies as st

from echod.core.account import Account
from echod.core.turns import STEP
from echod.http.extensions import Terms
from echod.settings import Compression, Settings
from echod.websocket.compression import TAIL, Deflate
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, client_frame, handshake
from tests.http.terms import terms
from tests.steps import finish

NAME = "permessage-deflate"
SETTINGS = Settings()
MIRROR, DEFLATE = Compression.MIRROR, Compression.DEFLATE


# One end of the extension.


class Client:
    """The other end. It keeps what it has received and what it may refer to."""

    def __init__(self, agreed: Terms = terms(), level: int = 6) -> None:  # noqa: B008  # frozen
        self._terms = agreed
        self._level = level
        self._deflate, self._inflate = self._compressor(), zlib.decompressobj(-15)

    def _compressor(self) -> Any:
        return zlib.compressobj(self._level, zlib.DEFLATED, -self._terms.client_window_bits)

    def deflate(self, payload: bytes) -> bytes:
        if not self._terms.client_keeps_context:
            self._deflate = self._compressor()
        octets: bytes = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        assert octets.endswith(TAIL)
        return octets[:-4]

    def inflate(self, octets: bytes) -> bytes:
        if not self._terms.server_keeps_context:
            self._inflate = zlib.decompressobj(-15)
        payload: bytes = self._inflate.decompress(octets + TAIL)
        assert not self._inflate.unused_data
        return payload


def inflate(end: Deflate, *pieces: bytes, limit: int = 2**24) -> bytes:
    end.start_decompress_message()
    inflated = b""
    for piece in pieces:
        inflated += end.decompress_message_data(piece, limit - len(inflated))
    end.end_decompress_message()
    return inflated


def answer_of(end: Deflate, payload: bytes) -> bytes:
    return bytes(finish(end.answer(payload)))


def messages(seed: int, count: int = 60) -> Iterator[bytes]:
    """Messages that refer to each other, with sizes on both sides of each limit."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(1, 40)) for _ in range(200)]
    for _ in range(count):
        size = chance.choice([0, 1, 63, 64, 500, 4096, 5000, chance.randrange(100_000)])
        yield b"".join(chance.choices(words, k=size // 20 + 1))[:size]


ALL_TERMS = [
    terms(client_bits, server_bits, client_keeps, server_keeps, can_mirror)
    for client_bits in (9, 12, 15)
    for server_bits in (9, 12)
    for client_keeps in (False, True)
    for server_keeps in (False, True)
    for can_mirror in (False, True)
    if not can_mirror or server_keeps or not client_keeps
]


@pytest.mark.parametrize("agreed", ALL_TERMS, ids=str)
def test_both_ends_understand_each_other(agreed: Terms) -> None:
    client, end = Client(agreed), Deflate(agreed, SETTINGS, Account())
    for payload in messages(1):
        octets = client.deflate(payload)
        cut = random.Random(len(payload)).randrange(len(octets) + 1)
        assert inflate(end, octets[:cut], octets[cut:]) == payload
        answer = answer_of(end, payload)
        assert (answer == octets) >= agreed.can_mirror
        assert client.inflate(answer) == payload
        assert len(end.window) <= (2**agreed.client_window_bits if agreed.client_keeps_context else 0)
        assert not end.account.deflated


@pytest.mark.parametrize("agreed", [terms(), terms(12, 9, client_keeps=False)], ids=str)
def test_what_is_deflated_anew_among_mirrored_messages_confuses_nobody(agreed: Terms) -> None:
    client, end, chance = Client(agreed), Deflate(agreed, SETTINGS, Account()), random.Random(2)
    for payload in messages(2):
        octets = client.deflate(payload)
        assert inflate(end, octets) == payload
        is_anew = chance.random() < 0.3
        if is_anew:
            end._came = None  # as after a block that is marked as the last
        answer = answer_of(end, payload)
        assert client.inflate(answer) == payload
        if not is_anew:
            assert answer == octets


def test_a_compressor_is_kept_where_it_is_of_use_alone() -> None:
    text = b"a text that comes again " * 10
    for agreed, is_kept in (
        (terms(can_mirror=False), True),
        (terms(server_keeps=False, can_mirror=False), False),
        (terms(), False),
    ):
        end = Deflate(agreed, SETTINGS, Account())
        first, second = answer_of(end, text), answer_of(end, text)
        assert (len(second) < len(first)) == is_kept
        assert (end._compressor is not None) == is_kept


@pytest.mark.parametrize("size", [0, 1, STEP, STEP + 1, 5 * STEP])
def test_what_is_deflated_in_steps_is_what_is_deflated_in_one_go(size: int) -> None:
    payload = (b"".join(messages(3)) * 100)[:size]
    assert len(payload) == size
    for level in (1, 6):
        settings = Settings(deflate_level=level)
        whole = zlib.compressobj(level, zlib.DEFLATED, -12, settings.deflate_memory_level)
        end = Deflate(terms(can_mirror=False), settings, Account())
        for _ in range(2):
            expected = whole.compress(payload) + whole.flush(zlib.Z_SYNC_FLUSH)
            assert answer_of(end, payload) + TAIL == expected
    steps = end.answer(payload)
    count = 0
    for octets in steps:
        count += 1
        assert (octets, end.account.deflated > 0) == (b"", True)
    assert (count, end.account.deflated) == (max(0, -(-size // STEP) - 1), 0)


def final(payload: bytes, window: bytes = b"") -> bytes:
    """Blocks, the last of which is marked as the last (BFINAL)."""
    deflate = zlib.compressobj(wbits=-15, zdict=window) if window else zlib.compressobj(wbits=-15)
    return deflate.compress(payload) + deflate.flush()


HELLO = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"
"""The example of section 7.2.3.4."""


@pytest.mark.parametrize(
    ("octets", "payload"),
    [
        (HELLO, b"Hello"),
        # Without the empty block behind it, which a sender owes: nothing is missing for all that.
        (HELLO[:-1], b"Hello"),
        (b"\x03\x00", b""),
        (b"\x03\x00\x00", b""),
        (final(b"a" * 100) + final(b"b" * 100) + Client().deflate(b"c" * 100), b"a" * 100 + b"b" * 100 + b"c" * 100),
        (final(b"abc" * 100) + final(b"abc" * 100, b"abc" * 100) + b"\0", b"abc" * 200),
        (b"\x03\x00" * 1000 + Client().deflate(b"x"), b"x"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 2000])
def test_blocks_that_are_marked_as_the_last(octets: bytes, payload: bytes, step: int) -> None:
    client = Client()
    end = Deflate(terms(), SETTINGS, Account())
    # In between, what refers to earlier messages goes on as if nothing had been.
    before, after = b"what comes before " * 20, b"what comes after, and before " * 20
    first = client.deflate(before)
    assert inflate(end, first) == before
    assert client.inflate(answer_of(end, before)) == before
    assert inflate(end, *(octets[start : start + step] for start in range(0, len(octets), step))) == payload
    answer = answer_of(end, payload)
    assert answer != octets
    assert client.inflate(answer) == payload
    assert end.window == (before + payload)[-(2**15) :]
    # A sender whose stream ends with a last block begins the next one with nothing (section 7.2.3.4), and so does this
    # compressor.
    fresh = Client()
    assert inflate(end, fresh.deflate(after)) == after


def test_what_a_block_behind_a_last_one_refers_to_is_found() -> None:
    window = random.Random(3).randbytes(2**15)
    end = Deflate(terms(), SETTINGS, Account())
    assert inflate(end, Client(level=0).deflate(window)) == window
    assert inflate(end, final(b"x") + final(window[1:], window[1:] + b"x")) == b"x" + window[1:]


def blocks(*payloads: bytes) -> list[bytes]:
    """Each block is flushed, so that a message may end after any of them."""
    deflate = zlib.compressobj(wbits=-15)
    return [deflate.compress(payload) + deflate.flush(zlib.Z_FULL_FLUSH) for payload in payloads]


FLUSHED = blocks(b"a" * 50, b"bcd" * 50, b"e" * 50)


@pytest.mark.parametrize(
    ("octets", "whole"),
    [
        (Client().deflate(b"some text, and some more text"), set()),
        (b"".join(FLUSHED), {len(FLUSHED[0]) - 4, len(FLUSHED[0] + FLUSHED[1]) - 4, len(b"".join(FLUSHED)) - 4}),
        # One octet of 0 is the whole of an empty message (section 7.2.3.6).
        (Client(level=0).deflate(b"stored"), {1}),
    ],
    ids=["fixed codes", "flushed", "stored"],
)
def test_a_message_that_ends_too_early_is_corrupt(octets: bytes, whole: set[int]) -> None:
    found = set()
    for length in range(len(octets)):
        try:
            inflate(Deflate(terms(), SETTINGS, Account()), octets[:length])
            found.add(length)
        except PayloadCorruptError:
            pass
    assert found == whole


@pytest.mark.parametrize(
    "octets",
    [
        b"",  # no block at all; an empty message is one octet (section 7.2.3.6)
        b"\xff\xff\xff",
        b"\x00\x05\x00\xfa\xffHel",
        b"\x00\x05\x00\xfa\xfeHello\x00",
        b"\x00\x04\x00\xfb\xff",  # what the receiver adds would be its payload
        Client().deflate(b"text")[:-1],
        Client().deflate(b"text") + b"\x05",
    ],
)
def test_what_is_not_deflate_is_corrupt(octets: bytes) -> None:
    end = Deflate(terms(), SETTINGS, Account())
    assert inflate(end, Client().deflate(b"a window")) == b"a window"
    with pytest.raises(PayloadCorruptError):
        inflate(end, octets)
    assert end.window == b"a window"


@given(st.binary(max_size=60))
def test_any_octets_are_either_corrupt_or_the_same_however_they_are_cut(octets: bytes) -> None:
    found = []
    for step in (1, 100):
        try:
            found.append(
                inflate(
                    Deflate(terms(), SETTINGS, Account()),
                    *(octets[start : start + step] for start in range(0, len(octets), step)),
                )
            )
        except PayloadCorruptError:
            found.append(b"corrupt")
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "octets", [Client().deflate(bytes(1001)), b"".join(final(bytes(100)) for _ in range(11)) + b"\0"]
)
def test_no_more_is_inflated_than_may_be(octets: bytes) -> None:
    with pytest.raises(PayloadExceededError):
        inflate(Deflate(terms(), SETTINGS, Account()), octets, limit=1000)
    assert len(inflate(Deflate(terms(), SETTINGS, Account()), octets, limit=1100)) > 1000


def test_what_is_referred_to_within_one_message_may_be_further_away_than_what_is_kept() -> None:
    """If a client breaks its promise about its window, echod still inflates as much as it can."""
    block = random.Random(4).randbytes(20_000)
    client, end = Client(), Deflate(terms(9), SETTINGS, Account())
    assert inflate(end, client.deflate(block + block)) == block * 2
    assert end.window == block[-512:]
    with pytest.raises(PayloadCorruptError):
        inflate(end, client.deflate(block))


# A connection.


def header(offer: str = "") -> str:
    return f"Sec-WebSocket-Extensions: {NAME}{offer}"


def opened(target: str = "/", offer: str = "", **settings: Any) -> Peer:
    peer = Peer(make_factory(**settings))
    peer.open(target, header(offer))
    return peer


def test_the_answer_names_what_was_agreed_on() -> None:
    for offer, answer in (("permessage-bzip2, " + NAME, NAME), ("permessage-bzip2", None)):
        lines = Peer(make_factory()).open("/", f"Sec-WebSocket-Extensions: {offer}").decode().split("\r\n")
        found = [
            value for name, _, value in (line.partition(": ") for line in lines) if name == "Sec-WebSocket-Extensions"
        ]
        assert found == ([] if answer is None else [answer])


def test_a_mirrored_answer_has_the_octets_that_came_in_one_frame() -> None:
    client, peer = Client(), opened()
    for payload in (b"", b"x", b"a text " * 100, b"a text " * 101):
        octets = client.deflate(payload)
        assert peer.frames(client_frame(TEXT, octets, rsv=4)) == [Frame(TEXT, octets, rsv=4)]
        assert client.inflate(octets) == payload
        octets = client.deflate(payload)
        parts = [octets[:1], b"", octets[1:]]
        found = peer.frames(
            client_frame(BINARY, parts[0], rsv=4, fin=False) + client_frame(CONTINUATION, parts[1], fin=False)
        )
        found += peer.frames(client_frame(PING, b"between") + client_frame(CONTINUATION, parts[2]))
        assert found == [Frame(PONG, b"between"), Frame(BINARY, octets, rsv=4)]
        assert client.inflate(octets) == payload
        # In no history.
        assert peer.frames(client_frame(TEXT, payload)) == [Frame(TEXT, payload)]


def test_what_can_not_be_mirrored_is_deflated_anew_among_what_is() -> None:
    client, peer = Client(), opened()
    octets = client.deflate(b"first")
    assert peer.frames(client_frame(TEXT, octets, rsv=4)) == [Frame(TEXT, octets, rsv=4)]
    assert client.inflate(octets) == b"first"
    (answer,) = peer.frames(client_frame(TEXT, HELLO, rsv=4))
    assert (answer.rsv, answer.payload != HELLO, client.inflate(answer.payload)) == (4, True, b"Hello")


def test_what_is_held_of_a_message_counts_as_it_came_and_inflated() -> None:
    client, peer = Client(level=0), opened()
    octets = client.deflate(b"abc" * 100)
    peer.send(client_frame(TEXT, octets, rsv=4)[:-50])
    held = peer.protocol.count()
    assert held > 400
    assert peer.frames(client_frame(TEXT, octets, rsv=4)[-50:]) == [Frame(TEXT, octets, rsv=4)]
    assert peer.protocol.count() == 0


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        ({"compression": DEFLATE}, "/"),
        ({}, "/?compression=deflate"),
        ({}, "/json"),
        ({}, "/?delay=0.0&ping=1m"),
        ({}, "/?fragment=100000"),
    ],
)
def test_where_each_answer_is_deflated(settings: dict[str, Any], target: str) -> None:
    client, peer = Client(level=0), opened(target, **settings)
    assert peer.protocol.terms is not None
    assert not peer.protocol.terms.can_mirror
    for payload, rsv in ((b"1" * 64, 4), (b"1" * 63, 0), (b"1" * 64, 4)):
        (answer,) = peer.frames(client_frame(TEXT, client.deflate(payload), rsv=4))
        assert answer.rsv == rsv
        assert (client.inflate(answer.payload) if rsv else answer.payload) == payload
        assert len(answer.payload) < 64


@pytest.mark.parametrize(
    ("setting", "target", "mode"),
    [
        ("mirror", "/", "mirror"),
        ("mirror", "/?compression=mirror", "mirror"),
        ("mirror", "/?compression=deflate", "deflate"),
        ("mirror", "/?compression=off", "off"),
        ("deflate", "/", "deflate"),
        ("deflate", "/?compression=mirror", "mirror"),
        ("deflate", "/?compression=off", "off"),
        ("off", "/", "off"),
        ("off", "/?compression=mirror", "off"),
        ("off", "/?compression=deflate", "off"),
    ],
)
def test_a_url_chooses_for_its_connection_where_the_operator_takes_any(setting: str, target: str, mode: str) -> None:
    peer = opened(target, compression=Compression(setting))
    assert mode == ("off" if peer.protocol.terms is None else peer.protocol.terms.name)
    peer = opened(target, compression=Compression(setting), has_faults=False)
    assert setting == ("off" if peer.protocol.terms is None else peer.protocol.terms.name)


def test_a_late_handshake_is_answered_on_the_urls_terms() -> None:
    factory = make_factory()
    peer = Peer(factory)
    assert peer.send(handshake("/?handshake-delay=1s&compression=off", header())) == b""
    factory.clock.advance(1)
    assert b"Extensions" not in peer.take()


@pytest.mark.parametrize("octets", [b"", b"\xff\xff", Client().deflate(b"text" * 100)[:-3]])
def test_a_bad_message_closes_with_1007(octets: bytes) -> None:
    peer = opened()
    (close,) = peer.frames(client_frame(BINARY, octets, rsv=4))
    assert (close.opcode, close.payload) == (CLOSE, (1007).to_bytes(2, "big") + b"invalid deflated message")


@pytest.mark.parametrize("size", [1001, 5000])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_message_that_is_too_long_when_inflated_is_forgotten(size: int, is_whole: bool) -> None:
    peer = opened(max_message_size=1000)
    (close,) = peer.frames(client_frame(BINARY, Client().deflate(bytes(size)), rsv=4, fin=is_whole))
    assert (close.opcode, close.payload[:2]) == (CLOSE, (1009).to_bytes(2, "big"))
    assert peer.protocol.count() == 0
