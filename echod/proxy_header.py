"""`haproxy:` endpoints that take the PROXY protocol's header also when it comes in pieces.

Twisted's own wrapper decides by the first read alone (twisted/protocols/haproxy/_wrapper.py), and drops a connection whose first
read is shorter than the signature; a bad port in a version 1 header raises out of it. It stays, and here is one more wrapper, below
it, that holds the first octets until they can be told.

Knows the signature, and nothing of what is in the header.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

PREFIX = "haproxy:"

SIGNATURE_SIZE = 16
"""Octets by which Twisted tells the version: the fixed part of a version 2 header."""

_UNKNOWN = b"PROXY UNKNOWN\r\n"
_UNKNOWN_TO_TWISTED = b"PROXY UNKNOWN \r\n"
"""The shortest version 1 header, which names no addresses, and the form of it that Twisted takes: it looks for a space behind the word."""


@implementer(IHalfCloseableProtocol)
class Holder(ProtocolWrapper):
    """Hold back the first octets of a connection until there are `SIGNATURE_SIZE` of them."""

    _held: bytes | None = b""

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on."""
        if self._held is not None:
            data = self._held + data
            if data.startswith(_UNKNOWN):
                data = data.replace(_UNKNOWN, _UNKNOWN_TO_TWISTED, 1)
            if len(data) < SIGNATURE_SIZE:
                self._held = data
                return
            self._held = None
        try:
            super().dataReceived(data)
        except ValueError:  # a number or an address in the header; what is behind it raises nothing
            self.loseConnection()

    def readConnectionLost(self) -> None:
        """Pass on that the peer sends no more, past Twisted's wrapper, which would lose it; TLS has no half-close."""
        behind = cast(Any, self.wrappedProtocol).wrappedProtocol
        # A wrapper of Twisted's says that it provides what its transport does, and that is here again.
        if IHalfCloseableProtocol.implementedBy(type(behind)):
            behind.readConnectionLost()
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: nobody wants to know."""


class _HolderFactory(WrappingFactory):
    protocol = Holder


@implementer(IStreamServerEndpoint)
class _HoldingEndpoint:
    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self._endpoint.listen(_HolderFactory(protocolFactory))


def wrap(endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
    """Return an endpoint whose connections begin with a PROXY header, and whose peers are those that it names."""
    return cast(IStreamServerEndpoint, proxyEndpoint(_HoldingEndpoint(endpoint)))
