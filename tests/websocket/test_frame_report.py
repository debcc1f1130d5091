"""`/frames`: what a client sends is told frame by frame, in JSON, and the last frame before the Close frame."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.fakes import Peer, assert_freed_at_once, make_factory
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
    handshake,
)

MASK = "12345678"


@pytest.fixture
def peer(clock: Clock) -> Peer:
    peer = Peer(make_factory(clock))
    peer.open("/frames")
    return peer


def told(peer: Peer, octets: bytes) -> list[dict[str, Any]]:
    """Send bytes, and return what is told of them, without the times."""
    found = [json.loads(frame.payload) for frame in peer.frames(octets) if frame.opcode == TEXT]
    for one in found:
        assert one.pop("ms") >= 0
    return found


def of(opcode: int, name: str, payload: bytes, did: str, **more: Any) -> dict[str, Any]:
    """Return what is told of a frame."""
    usual = {"fin": True, "rsv": [], "mask": MASK, "length": len(payload), "length_bits": 7, "came": len(payload)}
    return {"opcode": opcode, "type": name, **usual, "payload": payload.hex(), "did": did, **more}


def test_each_frame_is_told_of_and_nothing_is_echoed(peer: Peer) -> None:
    octets = b"".join(
        [
            client_frame(TEXT, b"tea"),
            client_frame(BINARY, b"a", fin=False),
            client_frame(PING, b"x"),
            client_frame(PONG),
            client_frame(CONTINUATION, b"b", fin=False),
            client_frame(CONTINUATION, b"c"),
        ]
    )
    expected = [
        of(1, "text", b"tea", "is a whole message"),
        of(2, "binary", b"a", "begins a message", fin=False),
        of(9, "ping", b"x", "is answered with a pong"),
        of(10, "pong", b"", "nothing"),
        of(0, "continuation", b"b", "continues the message", fin=False),
        of(0, "continuation", b"c", "ends the message"),
    ]
    assert told(peer, octets) == expected
    found = []
    for octet in octets:
        found += told(peer, bytes([octet]))
    assert found == expected


@pytest.mark.parametrize(("size", "bits"), [(125, 7), (126, 16), (65535, 16), (65536, 64)])
def test_a_payload_is_cut_and_the_form_of_its_length_is_told(peer: Peer, size: int, bits: int) -> None:
    (one,) = told(peer, client_frame(BINARY, bytes(size)))
    assert (one["length"], one["length_bits"], one["came"]) == (size, bits, size)
    assert one["payload"] == bytes(min(size, 256)).hex()


def test_time_is_told_in_milliseconds(peer: Peer, clock: Clock) -> None:
    clock.advance(1.5)
    assert json.loads(peer.frames(client_frame(TEXT))[0].payload)["ms"] == 1500


FAILS = "fails the connection: "

ENDS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "close": (
        client_frame(CLOSE, close_payload(1002, "bye")),
        of(8, "close", b"\x03\xeabye", "begins the close, and is answered"),
    ),
    "unmasked": (
        b"\x81\x03tea",
        of(1, "text", b"tea", f"{FAILS}1002 unmasked client-to-server frame", mask=None),
    ),
    "a length": (
        b"\x81\xfe\x00\x01" + bytes(4) + b"a",
        of(1, "text", b"a", f"{FAILS}1002 invalid data frame length (not using minimal length encoding)")
        | {"length_bits": 16, "mask": "00000000"},
    ),
    "a bit": (
        client_frame(TEXT, b"a", rsv=2) + client_frame(TEXT, b"b"),
        of(1, "text", b"a", f"{FAILS}1002 RSV = 2 and no extension negotiated", rsv=[2]),
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_frame_is_told_of_before_the_close(peer: Peer, end: str) -> None:
    octets, expected = ENDS[end]
    first, last = peer.frames(octets)
    one = json.loads(first.payload)
    del one["ms"]
    assert one == expected
    assert last.opcode == CLOSE
    assert int.from_bytes(last.payload[:2]) == 1002


def test_a_frame_that_is_too_long_is_told_of_before_it_comes(peer: Peer) -> None:
    first, last = peer.frames(client_frame(TEXT, claim=2**40))
    one = json.loads(first.payload)
    assert (one["length"], one["length_bits"], one["came"]) == (2**40, 64, 0)
    assert one["did"] == f"{FAILS}1009 message longer than 16777216 octets"
    assert int.from_bytes(last.payload[:2]) == 1009


def test_a_deflated_message_is_told_of_as_it_is_on_the_wire(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    peer.open("/frames", DEFLATE)
    octets = deflated_octets(b"tea")
    assert told(peer, client_frame(TEXT, octets, rsv=4)) == [of(1, "text", octets, "is a whole message", rsv=[1])]


def test_a_drain_within_a_frame_tells_of_it(peer: Peer) -> None:
    peer.send(client_frame(TEXT, b"tea")[:-1])
    peer.protocol.go_away(at_once=True)
    octets = peer.take()
    assert b"1001 going away" in octets
    assert octets.endswith(b"\x88\x0c\x03\xe9going away")
    assert peer.send(client_frame(TEXT, b"tea")[-1:]) == b""


def test_a_drain_between_frames_tells_of_none(peer: Peer) -> None:
    assert len(told(peer, client_frame(TEXT, b"tea"))) == 1
    peer.protocol.go_away(at_once=True)
    assert peer.take() == b"\x88\x0c\x03\xe9going away"


def test_a_lost_connection_is_freed_at_once(clock: Clock) -> None:
    assert_freed_at_once(clock, lambda peer: peer.send(handshake("/frames") + client_frame(TEXT)))
