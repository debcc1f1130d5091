"""A daemon to which something has happened, so that its metrics have numbers."""

from __future__ import annotations

from echod.websocket.factory import EchoFactory, State
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, TEXT, client_frame


def used_factory() -> EchoFactory:
    factory = make_factory(max_connections=7, max_buffered=1000)
    peer, other = Peer(factory), Peer(factory)
    peer.open()
    for size in (0, 1, 2, 4, 5, 100):
        peer.send(client_frame(TEXT, b"x" * size))
    peer.send(client_frame(BINARY, bytes(300)))
    other.send(b"GET / HTTP/1.1\r\n\r\n")
    other.lose()
    Peer(factory).lose()
    factory.counts.fault("close")
    factory.counts.lags.observe(0.003)
    factory.state = State.SERVING
    factory.certificates = lambda: {("ssl:1", "a.example"): 1234.0}
    return factory
