"""The client of tornado."""

from __future__ import annotations

import asyncio

from tornado.websocket import websocket_connect

from tests.interop.visitors.visit import TEXTS, Visit, serve


async def visit(seen: Visit) -> None:
    """Make a visit."""
    client = await websocket_connect(
        seen.url, connect_timeout=seen.open_timeout, compression_options={} if seen.deflate else None
    )
    seen.opened = True
    try:
        for text in TEXTS:
            await client.write_message(text)
        while (message := await asyncio.wait_for(client.read_message(), seen.patience)) is not None:
            seen.take(message)
    except TimeoutError:
        seen.waited = True
    finally:
        client.close()
        await asyncio.sleep(1)  # it has nothing to wait for its end with
        seen.code = client.close_code


if __name__ == "__main__":
    serve("tornado", visit)
