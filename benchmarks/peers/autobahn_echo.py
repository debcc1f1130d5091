"""A plain Autobahn echo server on Twisted with default settings, like Autobahn's own examples. echod is built on
these two.

Only what the columns need is added: the server accepts permessage-deflate as the client offers it, and TLS comes from
Twisted's endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react

from benchmarks.peers.arguments import Arguments, from_command_line

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTCP


class Echo(WebSocketServerProtocol):
    """Sends every message back unchanged."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Echo a message; the method's name is Autobahn's."""
        self.sendMessage(payload, isBinary)


def accept(offers: list[object]) -> PerMessageDeflateOfferAccept | None:
    """Accept the client's first offer of permessage-deflate, with the context takeover that it asks for."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer,
                request_no_context_takeover=offer.request_no_context_takeover,
                no_context_takeover=offer.request_no_context_takeover,
            )
    return None


def endpoint(arguments: Arguments) -> str:
    """Return the string of the endpoint to listen on."""
    if arguments.certificate is None:
        return f"tcp:{arguments.port}:interface=127.0.0.1:backlog=1024"
    certificate, key = arguments.certificate
    return f"ssl:{arguments.port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1:backlog=1024"


def main(reactor: IReactorTCP, arguments: Arguments) -> Deferred[None]:
    """Serve until killed."""
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    if arguments.deflate:
        factory.setProtocolOptions(perMessageCompressionAccept=accept)
    if arguments.pings:
        factory.setProtocolOptions(autoPingInterval=arguments.pings)
    serverFromString(reactor, endpoint(arguments)).listen(factory)
    return Deferred()


react(main, [from_command_line()])
