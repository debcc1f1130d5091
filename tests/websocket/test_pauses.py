"""The reasons for not reading a connection."""

from __future__ import annotations

from echod.websocket.pauses import Pause
from tests.fakes import Peer


def test_who_does_not_read_is_not_read(peer: Peer) -> None:
    assert peer.transport.producer is peer.protocol
    peer.protocol.pauseProducing()
    assert peer.transport.producerState == "paused"
    peer.protocol.resumeProducing()
    assert peer.transport.producerState == "producing"
    peer.protocol.stopProducing()


def test_it_is_read_when_there_is_no_reason_left(peer: Peer) -> None:
    connection, transport = peer.protocol, peer.transport
    connection.pause(Pause.BEHIND)
    connection.pause(Pause.FAULT)
    assert (connection.pauses, transport.producerState) == (Pause.BEHIND | Pause.FAULT, "paused")
    assert (connection.is_behind, connection.is_paused_by_url, connection.is_waiting) == (True, True, False)
    connection.resume(Pause.BEHIND)
    connection.resume(Pause.ROOM)  # it was none
    assert (connection.pauses, transport.producerState) == (Pause.FAULT, "paused")
    connection.lift(Pause.FAULT)
    assert transport.producerState == "paused"
    connection.read_if_may()
    assert transport.producerState == "producing"
