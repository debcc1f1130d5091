"""Messages that are changed. tests/faults/test_stages.py has those that are lost, cut and held."""

from __future__ import annotations

import tracemalloc

import pytest
from twisted.internet.task import Clock

from echod.core.quantities import MIB
from echod.faults.messages import Message
from tests.fakes import Peer
from tests.faults.peers import opened
from tests.frames import BINARY, TEXT, client_frame

SENT = [b"tea", "grüne Ünze".encode(), "☕☕".encode(), "🫖".encode(), b"", b"x"]


def echoes(clock: Clock, query: str, opcode: int = TEXT) -> list[bytes]:
    peer: Peer = opened(clock, query)
    return [frame.payload for frame in peer.frames(b"".join(client_frame(opcode, one) for one in SENT))]


def bits(one: bytes, other: bytes) -> int:
    """Return in how many bits two texts of one length differ."""
    return sum((left ^ right).bit_count() for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_one_bit_of_every_so_many_echoes_is_flipped(clock: Clock, opcode: int, every: int) -> None:
    for seed in range(20):
        found = echoes(clock, f"mutate={every}&seed={seed}", opcode)
        flips = [bits(*pair) for pair in zip(SENT, found, strict=True)]
        assert flips == [int(number % every == 0 and bool(one)) for number, one in enumerate(SENT, 1)]
        if opcode == TEXT:
            for payload in found:
                payload.decode()


def test_a_bit_of_a_long_message_takes_one_copy(clock: Clock) -> None:
    """Each copy takes milliseconds for the longest messages."""
    peer = opened(clock, "mutate=1")
    assert peer.protocol.faulty is not None
    octets = bytes(MIB)
    tracemalloc.start()
    try:
        peer.protocol.faulty._messages.mutate(Message(octets, True, True), 1)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * len(octets)
    finally:
        tracemalloc.stop()


def test_the_same_seed_flips_the_same_bits(clock: Clock) -> None:
    assert echoes(clock, "mutate=1&seed=7") == echoes(clock, "mutate=1&seed=7")
    assert len({tuple(echoes(clock, "mutate=1")) for _ in range(5)}) > 1


def test_what_is_lost_does_not_depend_on_what_is_changed(clock: Clock) -> None:
    lost = echoes(clock, "drop=.5&seed=7")
    changed = echoes(clock, "drop=.5&seed=7&mutate=1")
    assert [len(one) for one in lost] == [len(one) for one in changed]
    assert lost != changed


def test_json_is_changed_behind_its_proof(clock: Clock) -> None:
    peer = opened(clock, "mutate=1&seed=1", path="/json")
    (frame,) = peer.frames(client_frame(TEXT, b"[ 1 ]"))
    assert bits(frame.payload, b"[1]") == 1
