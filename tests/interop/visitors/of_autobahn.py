"""The asyncio client of Autobahn."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)

from tests.interop.visitors.visit import TEXTS, Visit, serve


async def visit(seen: Visit) -> None:
    """Make a visit."""
    loop, came, gone = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    class Protocol(WebSocketClientProtocol):
        """Takes what comes."""

        def onOpen(self) -> None:
            """Send."""
            seen.opened = True
            came.set()
            for text in TEXTS:
                self.sendMessage(text.encode())

        def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002  # Autobahn's name
            """Take a message."""
            seen.take(payload)
            came.set()

        def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
            """Note the end."""
            seen.code = code
            seen.error = "" if wasClean else f"{code} {reason}"[:200]
            gone.set()
            came.set()

    factory = WebSocketClientFactory(seen.url)
    factory.protocol = Protocol
    factory.setProtocolOptions(openHandshakeTimeout=seen.open_timeout, closeHandshakeTimeout=seen.close_timeout)
    if seen.deflate:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()], perMessageCompressionAccept=_accept
        )
    parts = urlsplit(seen.url)
    assert parts.hostname is not None
    assert parts.port is not None
    _, protocol = await loop.create_connection(factory, parts.hostname, parts.port, ssl=factory.isSecure)
    patience = seen.open_timeout + 1
    while not gone.is_set() and not seen.waited:
        came.clear()
        try:
            await asyncio.wait_for(came.wait(), patience)
        except TimeoutError:
            seen.waited = True
        patience = seen.patience
    if seen.waited:
        protocol.sendClose(1000)
        await asyncio.wait_for(gone.wait(), 2 * seen.close_timeout)


def _accept(response: Any) -> Any:
    return PerMessageDeflateResponseAccept(response) if isinstance(response, PerMessageDeflateResponse) else None


if __name__ == "__main__":
    serve("autobahn", visit)
