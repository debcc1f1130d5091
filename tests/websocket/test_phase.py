"""The phase only goes forward, and it agrees with Autobahn's state after each event."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from echod.echo import EchoProtocol
from echod.websocket.phase import CLOSED, CLOSING, FINISHED, LEAVING, LINGERING, OPEN, OPENING, Phase
from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, TEXT, client_frame, close_payload, handshake

STATES = {
    OPENING: EchoProtocol.STATE_CONNECTING,
    OPEN: EchoProtocol.STATE_OPEN,
    LEAVING: EchoProtocol.STATE_OPEN,
    CLOSING: EchoProtocol.STATE_CLOSING,
    LINGERING: EchoProtocol.STATE_CLOSED,
    FINISHED: EchoProtocol.STATE_CLOSED,
    CLOSED: EchoProtocol.STATE_CLOSED,
}

CLOSE_FRAME = client_frame(CLOSE, close_payload(1000))

Step = Callable[[Peer], object]


def head(peer: Peer) -> None:
    peer.send(handshake())


def leave(peer: Peer) -> None:
    peer.protocol.go_away()


LIVES: dict[str, list[tuple[Step, Phase]]] = {
    "the peer closes": [(head, OPEN), (lambda peer: peer.send(CLOSE_FRAME), FINISHED), (Peer.lose, CLOSED)],
    "the daemon closes": [
        (head, OPEN),
        (leave, CLOSING),
        (lambda peer: peer.send(CLOSE_FRAME), FINISHED),
        (leave, FINISHED),
        (Peer.lose, CLOSED),
    ],
    "the daemon closes behind a message": [
        (head, OPEN),
        (lambda peer: peer.send(client_frame(TEXT, b"hello")[:-1]), OPEN),
        (leave, LEAVING),
        (lambda peer: peer.send(client_frame(TEXT, b"hello")[-1:]), CLOSING),
        (Peer.lose, CLOSED),
    ],
    "a failure": [(head, OPEN), (lambda peer: peer.send(client_frame(3, b"")), LINGERING), (Peer.lose, CLOSED)],
    "a refusal": [(lambda peer: peer.send(b"POST / HTTP/1.1\r\n\r\n"), LINGERING), (Peer.lose, CLOSED)],
    "half of a head": [(lambda peer: peer.send(handshake()[:-1]), OPENING), (Peer.lose, CLOSED)],
    "no word": [(leave, OPENING), (head, LINGERING), (Peer.lose, CLOSED)],
    "a reset": [(head, OPEN), (lambda peer: peer.protocol.give_up(), OPEN), (Peer.lose, CLOSED)],
}


@pytest.mark.parametrize("name", LIVES)
def test_a_life(clock: Clock, name: str) -> None:
    peer = Peer(make_factory(clock))
    for step, phase in [(Peer.take, OPENING), *LIVES[name]]:
        step(peer)
        assert peer.protocol.phase is phase
        assert peer.protocol.state == STATES[phase]
        assert peer.protocol.in_open_state == (peer.protocol.state == EchoProtocol.STATE_OPEN)


def test_a_phase_never_comes_back(peer: Peer) -> None:
    for phase in reversed(Phase):
        peer.protocol.enter(phase)
        assert peer.protocol.phase is CLOSED
