"""Fakes of the clock and of a transport, and a connection between them. The protocol and the factory are the real
ones."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from echod.core.deadlines import TICK
from echod.echo import EchoProtocol
from echod.http.answer import Answer
from echod.http.request import PageRequest
from echod.settings import Settings
from echod.websocket.factory import EchoFactory
from tests import frames


class Transport(StringTransport):
    """A TCP transport that keeps the written bytes, and notes how it was closed."""

    def __init__(self, host: str | None = "192.0.2.1") -> None:
        """Make a transport to a peer at `host`, or, without a host, to a peer on a Unix socket."""
        super().__init__(peerAddress=UNIXAddress(None) if host is None else IPv4Address("TCP", host, 1234))
        self.half_closed = False
        self.aborted = False
        self.no_delay = False

    def take(self) -> bytes:
        """Return what was written since the last call."""
        octets: bytes = self.value()
        self.clear()
        return octets

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Note whether Nagle's algorithm is off."""
        self.no_delay = enabled

    def unregisterProducer(self) -> None:
        """Forget the producer if there is one, as a real transport does."""
        self.producer = None

    def loseWriteConnection(self) -> None:
        """Note that a FIN was asked for."""
        self.half_closed = True

    def abortConnection(self) -> None:
        """Note that a reset was asked for."""
        self.aborted = True

    def resumeProducing(self) -> None:
        """Read again. Unlike the base class, allow this without an earlier pause."""
        self.producerState = "producing"


class Peer:
    """A client at the other end of a fake transport."""

    def __init__(self, factory: EchoFactory, host: str | None = "192.0.2.1") -> None:
        self.transport = Transport(host)
        self.protocol = cast(EchoProtocol, factory.buildProtocol(None))
        self.protocol.makeConnection(self.transport)

    def send(self, octets: bytes) -> bytes:
        """Send bytes in one piece, and return what the server wrote in answer."""
        self.protocol.dataReceived(octets)
        return self.take()

    def take(self) -> bytes:
        """Return what the server has written since the last call."""
        return self.transport.take()

    def open(self, target: str = "/", *headers: str) -> bytes:
        """Make the opening handshake."""
        answer = self.send(frames.handshake(target, *headers))
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return answer

    def frames(self, octets: bytes) -> list[frames.Frame]:
        """Send bytes, and return the frames of the answer."""
        found, rest = frames.split(self.send(octets))
        assert not rest
        return found

    def lose(self) -> None:
        """End the connection as the real transport would after the close or the abort that was asked of it."""
        self.protocol.connectionLost(Failure(ConnectionAborted() if self.transport.aborted else ConnectionDone()))


def make_factory(
    clock: Clock | None = None,
    max_connections: int = 100,
    pages: Callable[[PageRequest], Answer] | None = None,
    **settings: Any,
) -> EchoFactory:
    """Make a factory on a fake clock."""
    return EchoFactory(EchoProtocol, Settings(**settings), clock or Clock(), max_connections, pages=pages)


def assert_freed_at_once(clock: Clock, use: Callable[[Peer], object], **settings: Any) -> None:
    """Assert that a connection that is lost after its `use` is freed without the garbage collector."""
    factory = make_factory(clock, **settings)
    gc.collect()
    gc.disable()
    try:
        peer = Peer(factory)
        use(peer)
        reference = weakref.ref(peer.protocol)
        peer.lose()
        del peer
        assert reference() is None
        assert not factory.live
    finally:
        gc.enable()
    clock.advance(TICK)
    assert not clock.getDelayedCalls()
