"""A picows echo server on uvloop, like the one in its documentation: it echoes frame by frame, without validating text
and without compression."""

from __future__ import annotations

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.peers.arguments import Arguments, from_command_line

PINGS = 20.0
"""The library's default in seconds for both times, which count if pings are enabled."""


class Echo(WSListener):  # type: ignore[misc] # without an installed picows its types are missing
    """Sends every data frame back unchanged."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Echo a frame. Fragments are echoed as fragments."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)


def listener(_request: WSUpgradeRequest) -> WSListener:
    """Accept every request."""
    return Echo()


async def main(arguments: Arguments) -> None:
    """Serve until killed."""
    pings = arguments.pings or PINGS
    server = await ws_create_server(
        listener,
        "127.0.0.1",
        arguments.port,
        ssl=arguments.ssl_context(),
        backlog=1024,
        enable_auto_ping=arguments.pings is not None,
        auto_ping_idle_timeout=pings,
        auto_ping_reply_timeout=pings,
    )
    await server.serve_forever()


uvloop.run(main(from_command_line()))
