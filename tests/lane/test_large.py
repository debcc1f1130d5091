"""A large frame that arrives in pieces at a connection without a lease. native/test_large.py tests the C code."""

from __future__ import annotations

import pytest

from echod.websocket.factory import EchoFactory
from tests.fakes import Peer
from tests.frames import (
    BINARY,
    PING,
    PONG,
    TEXT,
    client_frame,
    server_frame,
)
from tests.lane.links import (
    noise,
)
from tests.loop import Bed


@pytest.mark.parametrize("step", [1000, 4096, 16384])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_large_frame_in_pieces_is_gathered_past_autobahn(lane_bed: Bed, opcode: int, step: int) -> None:
    peer = Peer(lane_bed.factory)
    peer.open()
    payload = noise(100_000, opcode)
    octets = (
        client_frame(TEXT, b"before")
        + client_frame(opcode, payload)
        + client_frame(PING)
        + client_frame(TEXT, b"behind")
    )
    answer = b""
    for start in range(0, len(octets), step):
        answer += peer.send(octets[start : start + step])
        assert peer.protocol._gathered == b""
        if 10_000 < start < 90_000:
            assert start - 2 * step < peer.protocol.count() <= 100_016
            assert peer.protocol._large is not None
            assert peer.protocol._large.size + peer.protocol.count_missing() == 100_000
    expected = [(TEXT, b"before"), (opcode, payload), (PONG, b""), (TEXT, b"behind")]
    assert answer == b"".join(server_frame(*frame) for frame in expected)
    peer.lose()


@pytest.mark.parametrize("at", [10, 50_000, 99_999])
def test_a_large_text_that_is_none_is_autobahns_to_refuse(lane_bed: Bed, bare: EchoFactory, at: int) -> None:
    payload = bytearray(noise(100_000, TEXT))
    payload[at:] = b"\xff" * (100_000 - at)
    octets = client_frame(TEXT, bytes(payload))
    answers = []
    for factory in (lane_bed.factory, bare):
        peer = Peer(factory)
        peer.open()
        answers.append(b"".join(peer.send(octets[start : start + 16384]) for start in range(0, len(octets), 16384)))
        peer.lose()
    assert answers[0] == answers[1]
    assert answers[0][2:4] == (1007).to_bytes(2, "big")
