"""The client of picows. It delivers frames, and leaves it to its user to put messages together."""

from __future__ import annotations

import asyncio

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.interop.visitors.visit import TEXTS, Visit, serve


async def visit(seen: Visit) -> None:
    """Make a visit."""
    came = asyncio.Event()

    class Listener(WSListener):  # type: ignore[misc]
        """Takes what comes."""

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            """Take a frame."""
            if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
                seen.take(frame.get_payload_as_bytes())
                came.set()
            elif frame.msg_type == WSMsgType.CLOSE:
                code = frame.get_close_code()
                seen.code = int(code)
                transport.send_close(code)
                transport.disconnect()

    async with asyncio.timeout(seen.open_timeout):
        transport, _ = await ws_connect(Listener, seen.url, enable_auto_ping=False, enable_auto_pong=True)
    seen.opened = True
    for text in TEXTS:
        transport.send(WSMsgType.TEXT, text.encode())
    gone = asyncio.ensure_future(transport.wait_disconnected())
    while not gone.done() and not seen.waited:
        came.clear()
        more = asyncio.ensure_future(came.wait())
        done, _ = await asyncio.wait((more, gone), timeout=seen.patience, return_when=asyncio.FIRST_COMPLETED)
        seen.waited = not done
        more.cancel()
    if seen.waited:
        transport.send_close(WSCloseCode.OK)
        await asyncio.wait((gone,), timeout=seen.close_timeout)
        transport.disconnect()
    await gone


if __name__ == "__main__":
    serve("picows", visit)
