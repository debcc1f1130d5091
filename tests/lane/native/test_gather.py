"""Fragmented messages in the pump: they are put together and echoed as one, and a lease may end in the middle."""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lane.native import oracle
from tests.lane.native.codec import summed
from tests.lane.native.oracle import BINARY, TEXT, client_frame, fragment, server_frame
from tests.lane.native.test_pump import (
    FRAGMENTS,
    KEPT,
    KEY,
    LIMIT,
    ODD,
    PING,
    PONG,
    Ended,
    Leased,
    Pump,
    echo,
    fill,
    leased,
    noise,
    open_pump,
    pump,
    serve_in_pieces,
)

if TYPE_CHECKING:
    from echod.lane.native import Native

__all__ = ["leased", "pump"]  # fixtures

MIXED = "aé€😀".encode()
OTHER_KEY = b"\x81\x82\x83\x84"


def in_frames(payload: bytes, opcode: int, *places: int) -> list[bytes]:
    """Return a message in frames, cut at these places of its payload."""
    edges = [0, *places, len(payload)]
    parts = [payload[start:end] for start, end in itertools.pairwise(edges)]
    keys = itertools.cycle([KEY, OTHER_KEY])
    frames = [fragment(part, 0 if place else opcode, next(keys)) for place, part in enumerate(parts)]
    last = frames[-1]
    return [*frames[:-1], bytes([last[0] | 0x80]) + last[1:]]


def fragments_of(leased: Leased) -> int:
    """Return how many frames the first one that was given back stands for."""
    assert leased.ended is not None
    return leased.ended.fragments


# Put together.


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 4_096, 65_535, 65_536, 200_000])
def test_echoed_as_one(pump: Pump, leased: Leased, size: int, opcode: int) -> None:
    """The answer is one frame, and counts as one message. The lease goes on."""
    payload = (MIXED * (size // 10 + 1))[:size] if size % 10 in {0, 1, 3, 6} else b"x" * size
    answer = server_frame(payload, opcode)
    for places in ([], [0], [size], [size // 2], [size // 3, size // 3, size // 2], [size] * (FRAGMENTS - 1)):
        frames = in_frames(payload, opcode, *places)
        leased.send(b"".join(frames))
        assert pump.served(leased, len(answer)) == answer
        for frame in frames:
            leased.send(frame)
            assert pump.turn() == []
        assert pump.served(leased, len(answer)) == answer
        assert pump.held == 0
    assert (leased.lease.messages, leased.lease.octets) == (12, 12 * size)
    sums = pump.lib.echod_pump_sums(pump.pump)
    of_type, other = (sums.text, sums.binary) if opcode == TEXT else (sums.binary, sums.text)
    assert summed(of_type) == ({oracle.place(size): 12}, 12 * size)
    assert summed(other) == ({}, 0)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_cut_anywhere(pump: Pump, leased: Leased, opcode: int) -> None:
    """Sent byte by byte, and in two parts. The part that has come is held, without the headers of whole frames."""
    octets = b"".join(in_frames(MIXED * 20, opcode, 1, 2, 5, 5, 150))
    answer = server_frame(MIXED * 20, opcode)
    for place in range(1, len(octets)):
        leased.send(octets[:place])
        assert pump.turn() == []
        assert place - 6 * 5 <= pump.held <= 2 * place + 500
        leased.send(octets[place:])
        assert pump.turn() == []
        assert (leased.take(), pump.held) == (answer, 0)
    for octet in octets:
        leased.send(bytes([octet]))
        assert pump.turn() == []
    assert leased.take() == answer


def test_among_others_in_one_read(pump: Pump, leased: Leased) -> None:
    """The answers come in the order of the messages."""
    frame, answer = echo(b"ordinary")
    octets = b"".join(
        [
            frame,
            frame,
            *in_frames(MIXED * 9, TEXT, 31),
            frame,
            *in_frames(b"", BINARY, 0),
            *in_frames(noise(500), BINARY, 9),
        ]
    )
    leased.send((octets + frame) * 3 + frame[:-1])
    assert pump.turn() == []
    right = [
        answer,
        answer,
        server_frame(MIXED * 9, TEXT),
        answer,
        server_frame(b"", BINARY),
        server_frame(noise(500), BINARY),
        answer,
    ]
    assert leased.take() == b"".join(right) * 3
    assert pump.recall(leased) == Ended("RECALLED", frame[:-1], b"")


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Ordinary ones, fragmented messages, and what is neither."""
    payload = draw(
        st.one_of(
            st.text(max_size=60).map(str.encode), st.binary(max_size=60), st.just(noise(4_200)), st.just(MIXED * 500)
        )
    )
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    places = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=5)))
    odd = st.one_of(
        st.sampled_from([ODD, PING, PONG, PING + PONG]),
        st.just(client_frame(b"", 0, KEY)),
        st.just(fragment(b"a", TEXT, KEY)),
        st.binary(max_size=20),
    )
    parts = in_frames(payload, opcode, *places)
    if not draw(st.integers(0, 3)):
        parts.insert(draw(st.integers(0, len(parts))), draw(odd))
    return b"".join(parts)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(frames(), max_size=6).map(b"".join),
    st.sampled_from([LIMIT, 5_000, 50]),
    st.sampled_from([FRAGMENTS, 3, 1]),
    st.data(),
)
def test_any_frames_cut_anywhere(native: Native, octets: bytes, limit: int, most: int, data: st.DataObject) -> None:
    """The echo, the rest and the number of frames are as the oracle says, wherever the stream is cut."""
    right = oracle.serve(octets, limit, most)
    places = sorted({0, len(octets), *data.draw(st.lists(st.integers(0, len(octets)), max_size=10))})
    with open_pump(native, limit, most) as pump:
        leased = pump.lend()
        received, behind = serve_in_pieces(pump, leased, octets, places)
        assert received == right.output
        if leased.ended is None:
            assert not right.is_odd
            assert pump.recall(leased) == Ended("RECALLED", right.left, b"", right.fragments)
            return
        assert right.is_odd
        assert leased.ended == Ended("NOT_ORDINARY", leased.ended.rest, b"", right.fragments)
        assert right.left.startswith(leased.ended.rest)
        if leased.ended.rest + behind != right.left:
            found = oracle.header(leased.ended.rest, limit)
            assert isinstance(found, oracle.Header), "a large text's fault"
            assert found.size + found.length > KEPT


# Handed over.


def test_control_frames_between_two(pump: Pump, leased: Leased) -> None:
    """A ping is answered before the message, however it is cut; what is not whole of it is handed over behind the
    message's frames."""
    octets = fragment(b"one ", TEXT, KEY) + PING + PONG + fragment(b"two", 0, KEY) + PING
    last = client_frame(b" three", 0, KEY)
    pong, message = server_frame(b"x", 10), server_frame(b"one two three", TEXT)
    for place in range(len(octets)):
        leased.send(octets[:place])
        assert pump.turn() == []
        leased.send(octets[place:])
        assert pump.turn() == []
        assert leased.take() == pong * 2
        leased.send(last)
        assert pump.turn() == []
        assert leased.take() == message
        assert pump.held == 0
        other = pump.lend()
        other.send(octets[:place])
        assert pump.turn() == []
        right = oracle.serve(octets[:place], LIMIT, FRAGMENTS)
        assert other.take() == right.output
        assert pump.recall(other) == Ended("RECALLED", right.left, b"", right.fragments)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_handed_over_anywhere(pump: Pump, opcode: int) -> None:
    """The whole frames become one unmasked frame, and the current one is given back as it came."""
    parts = in_frames(MIXED * 20, opcode, 1, 2, 5, 150)
    octets = b"".join(parts)
    for place in range(len(octets)):
        right = oracle.serve(octets[:place], LIMIT, FRAGMENTS)
        other = pump.lend()
        other.send(octets[:place])
        assert pump.turn() == []
        assert pump.recall(other) == Ended("RECALLED", right.left, b"", right.fragments)
        assert pump.held == 0


@pytest.mark.parametrize(
    ("odd", "behind"),
    [
        (ODD, b"more"),
        (client_frame(b"x", TEXT, KEY), b""),
        (fragment(b"x", TEXT, KEY), b"more"),
        (b"\x40\x81" + KEY + b"x", b"more"),
        (b"\x00\x01x", b"more"),
        (b"\x80\xfe\x00\x05" + KEY, b"more"),
        (b"\x80\xff\x80\x00\x00\x00\x00\x00\x00\x00", b""),
        (oracle.client_header(LIMIT, 0, KEY), b"more"),
        (client_frame(b"abc\xff", 0, KEY), b"more"),
        (client_frame(b"\xe2\x82", 0, KEY), b"more"),
        (fragment(b"\xed\xa0", 0, KEY)[:-1] + b"\x5a", b""),
    ],
    ids=lambda octets: repr(octets)[:40],
)
def test_what_is_odd_is_left(pump: Pump, leased: Leased, odd: bytes, behind: bytes) -> None:
    """A wrong control frame, and a frame that does not continue the message as it should, are given back as they
    came."""
    leased.send(echo(b"before")[0] + fragment(b"one ", TEXT, KEY) + fragment(b"two", 0, KEY) + odd + behind)
    assert pump.turn() == [leased]
    assert leased.take() == echo(b"before")[1]
    assert leased.ended == Ended("NOT_ORDINARY", fragment(b"one two", TEXT, bytes(4)) + odd + behind, b"", 2)


def test_the_limits(native: Native) -> None:
    """A message may reach both limits exactly. A byte or a frame more is left to Autobahn."""
    with open_pump(native, 1000, 4) as pump:
        leased = pump.lend()
        leased.send(b"".join(in_frames(noise(1000), BINARY, 300, 300, 999)))
        assert pump.turn() == []
        assert leased.take() == server_frame(noise(1000), BINARY)
        octets = fragment(bytes(999), BINARY, KEY) + client_frame(bytes(2), 0, KEY)
        leased.send(octets)
        assert pump.turn() == [leased]
        assert leased.ended == Ended("NOT_ORDINARY", fragment(bytes(999), BINARY, bytes(4)) + octets[-8:], b"", 1)
        other = pump.lend()
        five = in_frames(b"12345", BINARY, 1, 2, 3, 4)
        other.send(b"".join(five))
        assert pump.turn() == [other]
        assert other.ended == Ended("NOT_ORDINARY", fragment(b"1234", BINARY, bytes(4)) + five[-1], b"", 4)


def test_closed_in_the_middle(pump: Pump, leased: Leased) -> None:
    """The owner gets the end of file, and the beginning of the message before it."""
    leased.send(fragment(b"one", TEXT, KEY) + fragment(b"two", 0, KEY)[:-1])
    assert pump.turn() == []
    leased.client.shutdown(socket.SHUT_WR)
    assert pump.turn() == [leased]
    assert leased.ended == Ended("CLOSED", fragment(b"one", TEXT, bytes(4)) + fragment(b"two", 0, KEY)[:-1], b"", 1)


# Clients that don't read, and little room.


@pytest.mark.parametrize("size", [100, 3_000, 30_000, 400_000])
def test_unsent_answers_are_sent_in_the_end(pump: Pump, size: int) -> None:
    """Answers are sent in order, also if several answers to one read have to wait."""
    leased = pump.lend(small=True)
    octets = b"".join([*in_frames(noise(size), BINARY, size // 2), echo(b"between")[0], *in_frames(b"short", TEXT, 2)])
    answer = server_frame(noise(size), BINARY) + echo(b"between")[1] + server_frame(b"short", TEXT)
    number = fill(pump, leased, octets)
    assert pump.held >= leased.lease.unsent_size > 0
    received = b""
    while len(received) < len(answer) * number:
        received += leased.take()
        assert pump.turn() == []
    assert received == answer * number
    assert pump.held == 0


def test_recalled_with_unsent_answers_and_a_message_begun(pump: Pump) -> None:
    """The answers go first."""
    leased = pump.lend(small=True)
    octets = b"".join(in_frames(noise(3_000), BINARY, 100)) * 10
    begun = fragment(b"one", TEXT, KEY) + fragment(b"two", 0, KEY)[:-1]
    leased.send(octets + begun)
    while not leased.lease.unsent_size:
        assert pump.turn() == []
    ended = pump.recall(leased)
    assert leased.take() + ended.unsent == server_frame(noise(3_000), BINARY) * 10
    assert ended == Ended("RECALLED", fragment(b"one", TEXT, bytes(4)) + begun[-8:], ended.unsent, 1)


@pytest.mark.parametrize("following", [ODD, PING, b""])
def test_blocked_between_two_frames(pump: Pump, following: bytes) -> None:
    """The next frame goes to the owner if it is odd, even while the peer does not take its answers."""
    leased = pump.lend(small=True)
    first = b"".join(in_frames(noise(3_000), BINARY, 100)) * 10 + fragment(b"one", TEXT, KEY)
    leased.send(first)
    while not leased.lease.unsent_size:
        assert pump.turn() == []
    leased.send(following or fragment(b"two", 0, KEY))
    # It is looked at when its lease has been served; the peer takes a little, so that it is.
    received = b""
    while leased.ended is None and len(received) < 30_000:
        received += leased.client.recv(2_000)
        pump.turn()
    assert (leased.ended is not None) == (following == ODD)
    if leased.ended is not None:
        assert leased.ended.rest == fragment(b"one", TEXT, bytes(4)) + ODD
        assert fragments_of(leased) == 1


def test_tight(pump: Pump) -> None:
    """A tight pump serves small messages. A larger one ends the lease, and its whole frames become one."""
    leased, other = pump.lend(), pump.lend()
    other.send(fragment(noise(30_000), BINARY, KEY))
    while pump.held < 30_000:
        assert pump.turn() == []
    pump.set_tight(True)
    leased.send(b"".join(in_frames(noise(2_000), BINARY, 500, 1_000)))
    assert pump.turn() == []
    assert leased.take() == server_frame(noise(2_000), BINARY)
    octets = fragment(noise(3_000), BINARY, KEY) + fragment(noise(9_000), 0, KEY)
    leased.send(octets)
    while leased.ended is None:
        pump.turn()
    leased.served.setblocking(False)
    unread = leased.served.recv(1 << 20)
    assert leased.ended.rest + unread == fragment(noise(3_000), BINARY, bytes(4)) + octets[3_008:]
    assert fragments_of(leased) == 1
    # What had begun before may fill the buffer that it has, and no more.
    while other.ended is None:
        other.send(fragment(bytes(4_000), 0, KEY))
        pump.turn()
    assert len(other.ended.rest) < 100_000


def test_a_large_message_in_fragments_takes_the_buffer_of_another(pump: Pump, leased: Leased) -> None:
    """The buffer of a gathered message goes to the pool, like that of a large frame."""
    payload = noise(900_000)
    answer = server_frame(payload, BINARY)
    spares = set()
    for _ in range(4):
        leased.send(b"".join(in_frames(payload, BINARY, 100_000, 500_000)))
        assert pump.served(leased, len(answer)) == answer
        assert pump.held == 0
        spares.add(pump.spare)
    assert len(spares) <= 2
    assert 900_000 <= max(spares) <= 8 << 20
