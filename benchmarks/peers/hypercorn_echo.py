"""A Hypercorn echo server on uvloop, for HTTP/2. It has Hypercorn's defaults, among them a message limit of 16 MiB."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

from benchmarks.peers.arguments import Arguments, from_command_line


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Send every message back unchanged."""
    if scope["type"] != "websocket":
        return
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": event.get("bytes"), "text": event.get("text")})
        else:
            return


async def main(arguments: Arguments) -> None:
    """Serve until killed."""
    config = Config()
    config.bind = [f"127.0.0.1:{arguments.port}"]
    config.accesslog = None
    if arguments.certificate is not None:
        config.certfile, config.keyfile = arguments.certificate
    await serve(echo, config, shutdown_trigger=asyncio.Event().wait)


uvloop.run(main(from_command_line()))
