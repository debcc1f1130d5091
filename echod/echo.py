"""`EchoProtocol`: the WebSocket protocol that echod serves."""

from __future__ import annotations

from echod.websocket.connection import Connection


class EchoProtocol(Connection):
    """Echo each message as it came, text as text and binary as binary.

    This is an Autobahn `WebSocketServerProtocol`. `Connection` and what it is made of let a thousand strangers use it:
    limits, deadlines, closing, compression, and a native fast path whose bytes are the same.
    """

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Echo."""
        self.sendMessage(payload, isBinary)
