"""The WebSocket client of a check: its opening handshake, and Autobahn's protocol, which tells a listener what happens.

Must never judge what the server does, except as Autobahn does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from autobahn.twisted.websocket import WebSocketClientFactory
from autobahn.websocket.compress_deflate import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echod import __version__
from echod.check.report import Plan
from echod.core.quantities import KIB
from echod.upstream import autobahn


def request_head(plan: Plan, key: str) -> bytes:
    """Return the client's opening handshake (RFC 6455 section 4.1)."""
    fields = [("Host", plan.target.host_field), ("User-Agent", f"echod/{__version__}")]
    names = {name.lower() for name, _ in plan.fields}
    fields = [(name, value) for name, value in fields if name.lower() not in names]
    fields += [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if plan.subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(plan.subprotocols)))
    if plan.offers_compression:
        fields.append(("Sec-WebSocket-Extensions", PerMessageDeflateOffer().get_extension_string()))
    lines = [f"GET {plan.target.resource} HTTP/1.1", *(f"{name}: {value}" for name, value in [*fields, *plan.fields])]
    return "\r\n".join([*lines, "", ""]).encode()


class Listener(Protocol):
    """What a client calls, in the order in which a connection lives."""

    def connected(self, client: Client) -> None:
        """There is a TCP connection."""

    def secured(self) -> None:
        """The TLS handshake is over."""

    def received(self, data: bytes) -> None:
        """Bytes came. `Client.feed` passes them to Autobahn."""

    def opened(self, subprotocol: str | None, extensions: Sequence[str]) -> None:
        """The opening handshake is over, and correct."""

    def message_came(self, payload: bytes, is_binary: bool) -> None:
        """The server sent a message."""

    def close_came(self, code: int | None, reason: bytes | None) -> None:
        """The server sent a Close frame."""

    def lost(self, reason: Failure) -> None:
        """The connection has ended."""


@implementer(IHandshakeListener)
class Client(autobahn.ClientProtocol):
    """Tells its listener what happens."""

    factory: ClientFactory

    def connectionMade(self) -> None:
        """See `Listener.connected`."""
        super().connectionMade()
        self.factory.listener.connected(self)

    def handshakeCompleted(self) -> None:
        """See `Listener.secured`."""
        self.factory.listener.secured()

    def dataReceived(self, data: bytes) -> None:
        """See `Listener.received`."""
        self.factory.listener.received(data)

    def onConnect(self, response: Any) -> None:
        """See `Listener.opened`."""
        extensions = [extension.EXTENSION_NAME for extension in response.extensions]
        self.factory.listener.opened(response.protocol, extensions)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """See `Listener.message_came`."""
        self.factory.listener.message_came(payload, isBinary)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """See `Listener.close_came`."""
        self.factory.listener.close_came(code, reasonRaw)
        # Autobahn's annotation lacks the None that it passes if there is no code or no reason.
        return super().onCloseFrame(cast(int, code), cast(bytes, reasonRaw))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `Listener.lost`."""
        super().connectionLost(reason)
        self.factory.listener.lost(reason)
        self.transport = None


class ClientFactory(WebSocketClientFactory):
    """Makes the client of one check."""

    noisy = False

    def __init__(self, reactor: Any, plan: Plan, listener: Listener) -> None:
        super().__init__(protocols=list(plan.subprotocols), reactor=reactor)
        self.listener = listener
        self.protocol = Client
        # A longer echo is wrong in any case. Its length is still reported, unless it is absurd.
        limit = 2 * plan.size + 64 * KIB
        self.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            maxFramePayloadSize=limit,
            maxMessagePayloadSize=limit,
            perMessageCompressionOffers=[PerMessageDeflateOffer()] if plan.offers_compression else [],
            perMessageCompressionAccept=_accept if plan.offers_compression else lambda _: None,
        )


def _accept(response: object) -> PerMessageDeflateResponseAccept | None:
    return PerMessageDeflateResponseAccept(response) if isinstance(response, PerMessageDeflateResponse) else None
