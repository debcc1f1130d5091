"""An aiohttp echo server on uvloop. It has the library's defaults, except for a message limit that the largest column
needs."""

from __future__ import annotations

import asyncio

import uvloop
from aiohttp import WSMsgType, web

from benchmarks.peers.arguments import Arguments, from_command_line

MAX_SIZE = 16 * 1024 * 1024


def application(arguments: Arguments) -> web.Application:
    """Return an application that echoes on every path."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(compress=arguments.deflate, max_msg_size=MAX_SIZE, heartbeat=arguments.pings)
        await connection.prepare(request)
        async for message in connection:
            if message.type == WSMsgType.TEXT:
                await connection.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await connection.send_bytes(message.data)
        return connection

    served = web.Application()
    served.router.add_get("/{path:.*}", echo)
    return served


async def main(arguments: Arguments) -> None:
    """Serve until killed."""
    runner = web.AppRunner(application(arguments), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", arguments.port, ssl_context=arguments.ssl_context(), backlog=1024).start()
    await asyncio.Event().wait()


uvloop.run(main(from_command_line()))
