"""A `websockets` echo server on uvloop. It has the library's defaults, except for a message limit that the largest
column needs."""

from __future__ import annotations

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.peers.arguments import Arguments, from_command_line

MAX_SIZE = 16 * 1024 * 1024
PING_INTERVAL = 20.0
"""The library's default, in seconds."""


async def echo(connection: ServerConnection) -> None:
    """Send every message back unchanged."""
    async for message in connection:
        await connection.send(message)


async def main(arguments: Arguments) -> None:
    """Serve until killed."""
    compression = "deflate" if arguments.deflate else None
    async with serve(
        echo,
        "127.0.0.1",
        arguments.port,
        ssl=arguments.ssl_context(),
        compression=compression,
        max_size=MAX_SIZE,
        backlog=1024,
        ping_interval=arguments.pings or PING_INTERVAL,
    ):
        await asyncio.Event().wait()


uvloop.run(main(from_command_line()))
