"""A snapshot is a value and never changes. tests/web/test_connections.py tests how it is shown."""

from __future__ import annotations

from echod.websocket.pauses import Pause
from tests.fakes import Peer
from tests.frames import DEFLATE, TEXT, client_frame
from tests.websocket.peers import opened


def test_a_snapshot_stays_what_it_was(peer: Peer) -> None:
    before = peer.protocol.snapshot()
    peer.send(client_frame(TEXT, b"hello"))
    peer.protocol.pause(Pause.ROOM)
    peer.protocol.sendCloseFrame(1000)
    peer.protocol.pause(Pause.BACKLOG)
    after = peer.protocol.snapshot()
    assert (before.state, before.traffic.received_octets, before.is_backpressured) == ("open", 0, False)
    assert (after.state, after.traffic.received_octets, after.is_backpressured) == ("closing", 5, True)
    peer.protocol.drop()
    assert peer.protocol.snapshot().state == "closed"


def test_what_was_agreed_on(peer: Peer) -> None:
    deflating = opened(
        peer.protocol.factory.clock, "/path", "Sec-WebSocket-Protocol: chat", DEFLATE
    ).protocol.snapshot()
    assert (deflating.path, deflating.subprotocol) == ("/path", "chat")
    assert (deflating.extensions, deflating.terms is None) == (["permessage-deflate"], False)
    plain = peer.protocol.snapshot()
    assert (plain.path, plain.subprotocol, plain.extensions, plain.terms) == ("/", None, [], None)
