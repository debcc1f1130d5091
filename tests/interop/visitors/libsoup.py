"""The client of libsoup, through GObject introspection."""

from __future__ import annotations

import asyncio
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Soup", "3.0")

from gi.repository import GLib, Soup  # type: ignore[import-not-found]  # noqa: E402  # must follow the version

from tests.interop.visitors.foreign import Events, follow, turn  # noqa: E402
from tests.interop.visitors.visit import TEXTS, Visit, serve  # noqa: E402


async def visit(seen: Visit) -> None:
    """Make a visit."""
    loop = GLib.MainContext.default()
    pump = asyncio.ensure_future(turn(lambda: loop.iteration(False)))
    events, session = Events(), Soup.Session()
    if seen.deflate:
        session.add_feature_by_type(Soup.WebsocketExtensionManager)  # of which permessage-deflate is a part
    clients: list[Any] = []

    def opened(_: Any, result: Any) -> None:
        try:
            client = session.websocket_connect_finish(result)
        except GLib.Error as error:
            seen.error = str(error.message)[:200]
            events.over()
            return
        clients.append(client)
        client.connect("message", take)
        client.connect("error", fail)
        client.connect("closed", lambda _: events.over())
        seen.opened = True
        events.came.set()
        for text in TEXTS:
            client.send_text(text)

    def take(_: Any, kind: Any, message: Any) -> None:
        data = message.get_data()
        seen.take(data.decode() if kind == Soup.WebsocketDataType.TEXT else data)
        events.came.set()

    def fail(_: Any, error: Any) -> None:
        seen.error = str(error.message)[:200]

    def close() -> None:
        if clients and clients[0].get_state() == Soup.WebsocketState.OPEN:
            clients[0].close(1000)

    message = Soup.Message.new("GET", seen.url.replace("ws", "http", 1))
    session.websocket_connect_async(message, None, None, GLib.PRIORITY_DEFAULT, None, opened)
    await follow(seen, events, close)
    seen.code = clients[0].get_close_code() if clients else None
    session.abort()
    pump.cancel()


if __name__ == "__main__":
    version = f"{Soup.get_major_version()}.{Soup.get_minor_version()}.{Soup.get_micro_version()}"
    serve("libsoup", visit, version)
