"""Qt's QWebSocket, through PyQt6. It offers no extensions."""

from __future__ import annotations

import asyncio
from typing import Any

from PyQt6.QtCore import QT_VERSION_STR, QCoreApplication, QUrl  # type: ignore[import-not-found]
from PyQt6.QtNetwork import QAbstractSocket  # type: ignore[import-not-found]
from PyQt6.QtWebSockets import QWebSocket  # type: ignore[import-not-found]

from tests.interop.visitors.foreign import Events, follow, turn
from tests.interop.visitors.visit import TEXTS, Visit, serve

application: Any = QCoreApplication([])


async def visit(seen: Visit) -> None:
    """Make a visit."""
    pump = asyncio.ensure_future(turn(application.processEvents))
    events, client = Events(), QWebSocket()

    def opened() -> None:
        seen.opened = True
        events.came.set()
        for text in TEXTS:
            client.sendTextMessage(text)

    def take(message: Any) -> None:
        seen.take(message if isinstance(message, str) else bytes(message))
        events.came.set()

    def change(state: Any) -> None:
        if state == QAbstractSocket.SocketState.UnconnectedState:
            events.over()

    def fail(_: Any) -> None:
        seen.error = client.errorString()
        if not seen.opened:  # it does not always say then that it is unconnected
            events.over()

    client.connected.connect(opened)
    client.textMessageReceived.connect(take)
    client.binaryMessageReceived.connect(take)
    client.stateChanged.connect(change)
    (client.errorOccurred if hasattr(client, "errorOccurred") else client.error).connect(fail)  # renamed in Qt 6.5
    client.open(QUrl(seen.url))
    await follow(seen, events, client.close)
    seen.code = client.closeCode().value if seen.opened else None
    client.abort()
    pump.cancel()


if __name__ == "__main__":
    serve("qt", visit, QT_VERSION_STR)
