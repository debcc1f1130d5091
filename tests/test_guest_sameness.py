"""Whole lives of connections, from the first octet of the head to the end of TCP: with guests, without them and without
the lane a client sees the same octets and the same end, and the same is counted."""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from echod.echo import EchoProtocol
from echod.lane.native import Native
from echod.settings import Compression, Settings
from echod.websocket.factory import EchoFactory
from echod.websocket.phase import OPEN
from tests.controls import CONTROLS, PLACES
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame, close_payload, handshake
from tests.loop import Loop, close, needed_native
from tests.websocket.test_hosting import Client, House

MESSAGE = client_frame(TEXT, "Hellö".encode())
LARGE = client_frame(BINARY, bytes(range(256)) * 300)
FRAGMENTED = client_frame(TEXT, b"He", fin=False) + client_frame(CONTINUATION, b"llo")
GOODBYE = client_frame(CLOSE, close_payload(1000, "bye"))
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def deflated(text: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    octets = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return client_frame(0x40 | TEXT, octets.removesuffix(b"\0\0\xff\xff"))


PLAIN, BROWSER = handshake(), handshake("/chat?a=b", OFFER, "Sec-WebSocket-Protocol: one, two", "Cookie: a")

WORDS = {
    "nothing": b"",
    "messages": MESSAGE * 3,
    "large": LARGE + MESSAGE,
    "fragmented": FRAGMENTED * 2,
    "ping": MESSAGE + client_frame(PING, b"?") + MESSAGE,
    "pong": client_frame(PONG, b"unasked") + MESSAGE,
    "ping-within": client_frame(TEXT, b"a", fin=False) + client_frame(PING, b"") + client_frame(CONTINUATION, b"b"),
    "deflated": deflated(b"Hello" * 50) + MESSAGE,
    "goodbye": MESSAGE + GOODBYE,
    "goodbye-without-code": client_frame(CLOSE, b""),
    "goodbye-and-more": GOODBYE + MESSAGE,
    "goodbye-within": client_frame(TEXT, b"a", fin=False) + GOODBYE,
    "goodbye-1014": client_frame(CLOSE, close_payload(1014, "")),
    "goodbye-4000": client_frame(CLOSE, close_payload(4000, "é")),
    "bad-code": MESSAGE + client_frame(CLOSE, close_payload(999, "")),
    "bad-reason": client_frame(CLOSE, b"\x03\xe8\xff"),
    "bad-close": client_frame(CLOSE, b"\x03"),
    "bad-text": MESSAGE + client_frame(TEXT, b"\xff"),
    "bad-opcode": b"\x83\x80abcd",
    "unmasked": MESSAGE + b"\x81\x05Hello",
    "too-large": client_frame(BINARY, bytes(10))[:1] + b"\xff" + (1 << 40).to_bytes(8, "big") + b"abcd",
    "half": MESSAGE + MESSAGE[:5],
}
HEADS = {
    "plain": PLAIN,
    "browser": BROWSER,
    "odd": handshake("/", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"),
    "refused": PLAIN.replace(b"Version: 13", b"Version: 12"),
    "folded": PLAIN.replace(b"Upgrade: websocket", b"Upgrade: websocket\r\n folded"),
    "control": BROWSER.replace(b"Cookie: a", b"Cookie: \x01"),
    "page": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01",
}


@contextmanager
def opened(native: Native | None, with_door: bool) -> Iterator[House]:
    """Make a factory that has answered each head twice, the second time by its door if it has one."""
    with Loop() as loop:
        settings = Settings(ping_interval=0, compression=Compression.MIRROR)
        factory = EchoFactory(EchoProtocol, settings, loop, 100, native)
        house = House(loop, factory, None, has_door=with_door)
        if with_door:
            assert house.hosting.open(house.port)
        for head in [*HEADS.values(), *HEADS.values()]:
            live(house, [head])
        assert (factory.hosting is not None and house.hosting._door._counts.answered > 1) == with_door
        yield house
        house.port.stopListening()
        if house.factory.hosting is not None:
            house.hosting.drain()
        loop.turn()
        close(house)


def ping(house: House) -> None:
    """Let keepalive ping the one connection, whoever has it."""
    if house.factory.hosting is not None:
        door = house.hosting._door
        door.set_keepalive(1e-9, 0)
        for _ in range(2):  # the first look may note a sign of life
            door.look(1)
    for connection in list(house.factory.live):
        if connection.phase is OPEN:
            connection.ping()


def live(house: House, pieces: list[bytes], pinged_before: int | None = None) -> tuple[Any, ...]:
    """Live a life, and return what its client saw and what was counted. Before the piece of that number keepalive pings
    it."""
    factory = house.factory
    before = counts(factory)
    client: Client = house.dial()
    for place, piece in enumerate(pieces):
        if place == pinged_before:
            ping(house)
        with suppress(OSError):
            client.send(piece)
        for _ in range(3):
            house.loop.turn()
            client.take()
    client.end()
    octets = client.receive_all()
    client.socket.close()
    house.links.remove(client)
    house.loop.until(lambda: not factory.count)
    after = counts(factory)
    octets = re.sub(rb"\r\nDate: [^\r]+", b"", octets, count=1)  # the second may change between two lives
    return octets, client.was_reset, {name: after[name] - before.get(name, 0) for name in after}


def counts(factory: EchoFactory) -> dict[Any, Any]:
    """Return all numbers that only grow, by a name."""
    found: dict[Any, Any] = {"durations": sum(factory.counts.durations.places)}
    found |= factory.counts.outcomes | factory.counts.closes | factory.counts.refusals
    for received, sent in factory.traffic().values():
        for direction, sums in (("received", received), ("sent", sent)):
            for kind, of_type in sums.by_type():
                found[direction, kind] = found.get((direction, kind), 0) + of_type.messages
                found[direction, kind, "octets"] = found.get((direction, kind, "octets"), 0) + of_type.octets
    return {name: number for name, number in found.items() if number}


Lives = Callable[..., None]


@pytest.fixture(scope="module")
def same() -> Iterator[Lives]:
    """Return a function that lives a life with guests, without them and without the lane, and compares the three."""
    native = needed_native()
    with opened(native, True) as guests, opened(native, False) as leases, opened(None, False) as bare:

        def same(pieces: list[bytes], pinged_before: int | None = None) -> None:
            expected = live(bare, pieces, pinged_before)
            assert live(leases, pieces, pinged_before) == expected
            assert live(guests, pieces, pinged_before) == expected

        yield same


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("words", WORDS)
def test_at_once_and_in_two(same: Lives, head: str, words: str) -> None:
    """The head with all that follows in one piece, and each for itself."""
    same([HEADS[head] + WORDS[words]])
    same([HEADS[head], WORDS[words]])


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("seed", range(3))
def test_cut_anywhere(same: Lives, words: str, seed: int) -> None:
    """Any octets in any pieces."""
    octets, choice = BROWSER + WORDS[words], random.Random(seed)
    cuts = sorted({0, len(octets), *(choice.randrange(len(octets)) for _ in range(seed + 1))})
    same([octets[start:end] for start, end in itertools.pairwise(cuts)])


def test_a_life_of_pieces(same: Lives) -> None:
    """Octet by octet behind the head."""
    octets = MESSAGE + client_frame(PING, b"?") + FRAGMENTED + deflated(b"Hello") + GOODBYE
    same([BROWSER, *(octets[place : place + 1] for place in range(len(octets)))])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_frame_in_each_place(same: Lives, name: str, place: str) -> None:
    """In one read with the head, in a read of its own, and cut, with a ping of the daemon's before each cut."""
    before, behind = PLACES[place]
    control = CONTROLS[name]
    same([BROWSER + before + control + behind])
    same([BROWSER, before, control, behind], pinged_before=2)
    middle = len(control) // 2
    for number, cuts in enumerate([(1, 2), (2, 6), (middle, len(control) - 1)], 1):
        pieces = [control[start:end] for start, end in itertools.pairwise(sorted({0, *cuts, len(control)}))]
        same([BROWSER + before, *pieces, behind], pinged_before=number)


@pytest.mark.parametrize("name", ["longest ping", "longest pong", "close", "close with a reason"])
def test_a_control_frame_cut_at_each_octet(same: Lives, name: str) -> None:
    control = CONTROLS[name]
    for place in range(1, len(control)):
        same([PLAIN + control[:place], control[place:]], pinged_before=1)


@pytest.mark.parametrize(
    "code", [0, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1014, 1015, 2999, 3000, 4999, 5000, 65535]
)
def test_each_kind_of_close_code(same: Lives, code: int) -> None:
    same([PLAIN, MESSAGE + client_frame(CLOSE, close_payload(code, "bye"))])


def test_many_control_frames_in_one_read(same: Lives) -> None:
    many = client_frame(PING, b"1") * 300 + client_frame(PONG, b"2") * 300 + MESSAGE + client_frame(PING, bytes(125))
    within = client_frame(TEXT, b"a", fin=False) + many.replace(MESSAGE, b"") + client_frame(CONTINUATION, b"b")
    same([BROWSER + many + within + GOODBYE + many])
    same([BROWSER, many, within, GOODBYE], pinged_before=2)
