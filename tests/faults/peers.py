"""What the tests of the stages share: a peer whose connection is open, and what came to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from tests.fakes import Peer, make_factory
from tests.frames import Frame, handshake, split


def opened(clock: Clock, query: str, *headers: str, path: str = "/", **settings: Any) -> Peer:
    """Return an open connection. What followed its 101 is still to be taken."""
    settings = {"ping_interval": 0, **settings}
    peer = Peer(make_factory(clock, **settings))
    answer = peer.send(handshake(f"{path}?{query}", *headers))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), answer
    peer.transport.write(rest)
    return peer


def come(peer: Peer) -> list[Frame]:
    """Return what has arrived since the last call."""
    found, rest = split(peer.take())
    assert not rest
    return found
