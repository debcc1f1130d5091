"""The blocking client of `websocket-client`, in threads. It offers no extensions."""

from __future__ import annotations

import asyncio
import time

import websocket

from tests.interop.visitors.visit import TEXTS, Visit, serve


async def visit(seen: Visit) -> None:
    """Make a visit."""
    await asyncio.to_thread(_visit, seen)


def _visit(seen: Visit) -> None:
    try:
        client = websocket.create_connection(seen.url, timeout=seen.open_timeout)
    except websocket.WebSocketTimeoutException:
        seen.waited = True
        raise
    seen.opened = True
    client.settimeout(seen.quiet)
    try:
        for text in TEXTS:
            client.send(text)
        quiet = time.monotonic() + seen.patience
        while time.monotonic() < quiet:
            opcode, data = client.recv_data(control_frame=True)  # otherwise pings keep it from its time limit
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                seen.code = int.from_bytes(data[:2]) if data else 1005
                return
            if opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
                seen.take(data)
                quiet = time.monotonic() + seen.patience
                client.settimeout(seen.patience)
        seen.waited = True
    except websocket.WebSocketTimeoutException:
        seen.waited = True
    finally:
        client.close(timeout=max(1, round(seen.close_timeout)))


if __name__ == "__main__":
    serve("websocket-client", visit)
