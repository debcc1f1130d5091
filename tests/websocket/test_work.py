"""Work that takes long is done in turns, and in order."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.fakes import Peer
from tests.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_payload,
    server_frame,
    split,
)


def test_the_answers_of_one_read_are_one_write(peer: Peer) -> None:
    writes: list[bytes] = []
    peer.transport.write = writes.append  # type: ignore[method-assign]
    peer.send(b"".join(client_frame(opcode, b"x") for opcode in (TEXT, PING, BINARY) * 100))
    assert len(writes) == 1
    assert len(split(writes[0])[0]) == 300


@pytest.fixture
def _short_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection work for one slice at a time."""
    monkeypatch.setattr("echod.core.turns.SHARE", 0)


def pings(count: int) -> bytes:
    return b"".join(client_frame(PING, b"%d" % i) for i in range(count))


def pongs(count: int) -> bytes:
    return b"".join(server_frame(PONG, b"%d" % i) for i in range(count))


@pytest.mark.usefixtures("_short_shares")
def test_long_work_is_put_off_and_goes_on_in_order(clock: Clock, peer: Peer) -> None:
    answer = peer.send(pings(1000))
    assert 0 < len(answer) < len(pongs(1000))
    assert peer.transport.producerState == "paused"
    assert peer.protocol.count() > 1000
    answer += peer.send(client_frame(TEXT, b"what TLS had read already"))
    while clock.getDelayedCalls() and peer.transport.producerState == "paused":
        clock.advance(0)
        answer += peer.take()
    assert answer == pongs(1000) + server_frame(TEXT, b"what TLS had read already")
    assert peer.transport.producerState == "producing"


@pytest.mark.usefixtures("_short_shares")
def test_what_was_put_off_comes_before_going_away(clock: Clock, peer: Peer) -> None:
    answer = peer.send(pings(1000))
    peer.protocol.go_away()
    clock.pump([0] * 20)
    assert answer + peer.take() == pongs(1000) + server_frame(CLOSE, close_payload(1001, "going away"))


@pytest.mark.usefixtures("_short_shares")
def test_what_was_put_off_goes_with_the_connection(clock: Clock, peer: Peer) -> None:
    peer.send(pings(1000))
    peer.lose()
    clock.pump([0] * 20)
    assert peer.take() == b""


@pytest.mark.usefixtures("_short_shares")
def test_what_was_put_off_behind_a_failure_is_not_looked_at(clock: Clock, peer: Peer) -> None:
    answer = peer.send(pings(200) + client_frame(TEXT, b"\xff") + pings(1000))
    clock.pump([0] * 20)
    frames, _ = split(answer + peer.take())
    assert [frame.opcode for frame in frames] == [PONG] * 200 + [CLOSE]
    assert peer.transport.producerState == "producing"
