"""Deflated messages in the pump: first the pump by itself, then whole connections."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from echod.core.deadlines import TICK
from echod.http.extensions import Terms
from echod.lane.ended import Ended
from echod.lane.leases import Deflating, Lane
from echod.lane.native import Native, zlib_functions
from echod.run.report import describe_lane
from echod.settings import Compression
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_payload,
    deflated_octets,
    server_frame,
    split,
)
from tests.lane.links import (
    KEY,
    FakeBorrower,
    count_calls,
    counted,
    echoed,
    has_taken_all,
    is_leased,
    lane_of,
    leased,
    noise,
)
from tests.loop import Bed, Loop, bed
from tests.tls import Certificate

NO_CONTEXT = f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover"


def terms(can_mirror: bool = True, keeps: bool = True, server_window_bits: int = 12) -> Terms:
    return Terms(15, server_window_bits, keeps, can_mirror, can_mirror)


def deflating(**changed: int) -> Deflating:
    functions = zlib_functions.find()
    assert functions is not None
    return Deflating(functions | changed, 1, 4, 64)


@contextmanager
def deflating_lane(native: Native, how: Deflating | None) -> Iterator[tuple[Lane, Loop, socket.socket, socket.socket]]:
    with Loop() as loop:
        client, served = socket.socketpair()
        lane = Lane(native, 2**20, loop, lambda _: None, max_fragments=8, deflating=how)
        try:
            client.settimeout(10)
            yield lane, loop, client, served
        finally:
            lane.stop()
            client.close()
            served.close()


# The pump by itself.


@pytest.mark.parametrize("can_mirror", [True, False])
def test_deflated_messages_in_the_pump(native: Native, can_mirror: bool) -> None:
    compressor, said = zlib.compressobj(wbits=-15), b""
    with deflating_lane(native, deflating()) as (lane, loop, client, served):
        assert lane.takes_deflate
        borrower = FakeBorrower()
        for number in range(20):
            # Each lease goes on with the window of the lease before.
            window = borrower.ended[-1].window if borrower.ended else b""
            assert window == said[-(2**15) :]
            assert lane.lend(borrower, served.fileno(), None, terms(can_mirror), window)
            payload = b"%d to be said again " % number * 200
            octets = deflated_octets(payload, compressor)
            client.sendall(client_frame(TEXT, octets, rsv=4) + client_frame(CLOSE))
            loop.until(lambda: len(borrower.ended) > number)  # noqa: B023  # it is called before the next
            ended = borrower.ended[-1]
            assert ended.rest == client_frame(CLOSE)
            ((opcode, answer),) = [(frame.opcode, frame.payload) for frame in split(client.recv(65536))[0]]
            assert (opcode, answer == octets) == (TEXT, can_mirror)
            if not can_mirror:
                assert zlib.decompressobj(-12).decompress(answer) == payload
            said += payload
        assert borrower.messages == 20


def test_deflated_messages_that_stand_each_by_itself_leave_no_window(native: Native) -> None:
    with deflating_lane(native, deflating()) as (lane, loop, client, served):
        borrower = FakeBorrower()
        assert lane.lend(borrower, served.fileno(), None, terms(keeps=False))
        client.sendall(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
        loop.until(lambda: borrower.lease.messages)
        assert client.recv(10) == b"\xc2\x03\x4a\x04\x00"
        lane.recall(borrower)
        assert borrower.ended == [Ended(b"", b"", False, False, is_recalled=True)]


def test_a_lease_on_terms_that_zlib_does_not_take(native: Native) -> None:
    with deflating_lane(native, deflating()) as (lane, _, __, served):
        borrower = FakeBorrower()
        assert not lane.lend(borrower, served.fileno(), None, terms(can_mirror=False, server_window_bits=16))
        assert borrower.lease is None
        assert lane.lend(borrower, served.fileno(), None, terms(can_mirror=False))


def test_a_lane_without_zlib_or_with_one_that_is_none(native: Native) -> None:
    with deflating_lane(native, None) as (lane, *_):
        assert not lane.takes_deflate
    refuse: Any = native.ffi.callback("int(void *, int, const char *, int)", lambda *_: -6)
    with deflating_lane(native, deflating(inflateInit2_=int(native.ffi.cast("uintptr_t", refuse)))) as (lane, *_):
        assert not lane.takes_deflate


# Connections.


@pytest.mark.parametrize(
    ("target", "header", "answer"),
    [
        ("/", DEFLATE, server_frame(BINARY, b"\x4a\x04\x00", rsv=4)),
        ("/", NO_CONTEXT, server_frame(BINARY, b"\x4a\x04\x00", rsv=4)),
        ("/?compression=deflate", NO_CONTEXT, server_frame(BINARY, b"a")),
    ],
)
def test_deflated_messages_are_the_pumps(lane_bed: Bed, target: str, header: str, answer: bytes) -> None:
    link = lane_bed.link(header, target=target)
    calls = count_calls(lane_bed.factory)
    for _ in range(3):
        link.send(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
        assert link.receive(len(answer)) == answer
    assert calls == []
    assert counted(lane_bed.factory, "pump") == (0, 0, 3, 3)


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_client_that_compresses_well_stays_in_the_lease(
    lane_bed: Bed, certificate: Certificate, is_tls: bool
) -> None:
    """One read inflates to 30 MiB. The part for which there is no time waits within the lease."""
    link = leased(lane_bed.secure_link(certificate, DEFLATE)) if is_tls else lane_bed.link(DEFLATE)
    lease, already = link.protocol.lease, link.protocol.lease.messages
    octets = zlib.compressobj(9, wbits=-12)
    frame = client_frame(TEXT, deflated_octets(bytes(50_000), octets), rsv=4, mask=KEY)
    link.send(frame * 624)
    size = 624 * (len(frame) - len(KEY))
    assert len(link.receive(size)) == size
    lane_bed.loop.until(lambda: lease.held == 0)
    assert (link.protocol.lease, lease.messages - already) == (lease, 624)


def test_the_lease_comes_back_when_what_took_long_is_done(lane_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echod.core.turns.SHARE", 0)
    link = lane_bed.link(NO_CONTEXT, target="/?compression=deflate")
    payload = noise(500_000)
    compressor, expected = zlib.compressobj(wbits=-15), zlib.compressobj(1, zlib.DEFLATED, -12, 4)
    octets = deflated_octets(payload, compressor)
    answer = server_frame(BINARY, deflated_octets(payload, expected), rsv=4)
    for _ in range(2):
        link.send(client_frame(BINARY, octets, rsv=4) + client_frame(PING, b"behind"))
        assert link.receive(len(answer) + 8) == answer + server_frame(PONG, b"behind")
        lane_bed.loop.until(lambda: link.protocol.lease is not None)
        echoed(link, TEXT, b"by the pump")
    assert counted(lane_bed.factory, "pump")[:2] == (2, 22)
    assert link.protocol.count() == 0


def test_the_window_goes_from_hand_to_hand(lane_bed: Bed) -> None:
    link = lane_bed.link(f"{DEFLATE}; client_max_window_bits")
    compressor, inflater, said = zlib.compressobj(wbits=-12), zlib.decompressobj(-15), b""
    for number in range(20):
        text = (f"message {number}, which refers to those before; " * 30).encode()
        octets = deflated_octets(text, compressor)
        assert is_leased(link)
        assert link.protocol.extension.window == b"", "the lease has it"
        if number % 3 == 1:  # Autobahn gets the message, from its first frame or from its second
            link.protocol.take_back()
            link.send(client_frame(TEXT, octets[:10], fin=False, rsv=4))
            link.send(client_frame(CONTINUATION, octets[10:]))
        elif number % 3 == 2:
            link.send(client_frame(TEXT, octets[:10], fin=False, rsv=4) + client_frame(PING, b"1"))
            assert link.receive(3) == server_frame(PONG, b"1")
            link.protocol.take_back()
            assert link.protocol.extension.window == said[-4096:]
            link.send(client_frame(CONTINUATION, octets[10:]))
        else:
            link.send(client_frame(TEXT, octets, rsv=4))
        right = server_frame(TEXT, octets, rsv=4)
        assert link.receive(len(right)) == right
        assert inflater.decompress(octets + b"\0\0\xff\xff") == text
        said += text


@pytest.mark.parametrize("is_faulty", [False, True])
@pytest.mark.parametrize("is_own", [False, True])
def test_a_ping_within_a_deflated_message_ends_the_lease(lane_bed: Bed, is_own: bool, is_faulty: bool) -> None:
    """Autobahn may have found a fault by then, and nothing is sent behind it."""
    link = lane_bed.link(DEFLATE)
    octets = b"\xff\xff\xff\xff" if is_faulty else b"\x4a\x04\x00"
    link.send(client_frame(BINARY, octets[:-1], fin=False, rsv=4))
    link.loop.until(lambda: has_taken_all(link))
    last_seen = link.protocol.last_seen
    link.loop.pump([TICK] * 10)
    if is_own:
        link.protocol.ping()
        assert link.protocol.last_seen == last_seen
    else:
        link.send(client_frame(PING))
    if is_faulty:
        expected = server_frame(CLOSE, close_payload(1007, "invalid deflated message"))
        assert link.receive(len(expected)) == expected
        return
    assert link.receive(2) == server_frame(PING if is_own else PONG)
    assert not is_leased(link)
    link.send(client_frame(CONTINUATION, octets[-1:]))
    assert link.receive(5) == server_frame(BINARY, octets, rsv=4)
    assert is_leased(link)


def test_a_lease_that_is_not_given_leaves_the_window(lane_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    link = lane_bed.link(DEFLATE)
    lane = lane_bed.factory.lane
    assert lane is not None
    link.send(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
    assert link.receive(5) == server_frame(BINARY, b"\x4a\x04\x00", rsv=4)
    monkeypatch.setattr(lane, "lend", lambda *_: False)
    lane.recall(link.protocol)
    link.protocol.take_turn()
    assert not is_leased(link)
    assert link.protocol.extension.window == b"a"


def test_without_zlibs_functions_deflated_messages_are_autobahns(
    native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zlib_functions, "find", lambda: None)
    with bed(native) as made:
        assert describe_lane(native, made.factory) == (
            f"pump and codec ({native.isa}), permessage-deflate by Autobahn (no libz.so.1: apt-get install zlib1g)"
        )
        link = made.link(DEFLATE)
        assert not is_leased(link)
        link.send(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
        assert link.receive(5) == server_frame(BINARY, b"\x4a\x04\x00", rsv=4)
        assert is_leased(made.link())


def test_no_streams_are_made_where_there_is_no_compression_or_no_zlib_to_be_had(
    native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bed(native, compression=Compression.OFF) as made:
        assert not lane_of(made).takes_deflate
    with bed(native) as made:
        assert lane_of(made).takes_deflate
    monkeypatch.setattr(zlib_functions, "find", lambda: None)
    with bed(native) as made:
        assert not lane_of(made).takes_deflate
