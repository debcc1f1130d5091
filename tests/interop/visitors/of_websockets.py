"""The asyncio client of `websockets`."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from tests.interop.visitors.visit import TEXTS, Visit, serve


async def visit(seen: Visit) -> None:
    """Make a visit."""
    compression = "deflate" if seen.deflate else None
    async with connect(
        seen.url,
        compression=compression,
        proxy=None,
        open_timeout=seen.open_timeout,
        close_timeout=seen.close_timeout,
    ) as client:
        seen.opened = True
        try:
            for text in TEXTS:
                await client.send(text)
            while True:
                seen.take(await asyncio.wait_for(client.recv(), seen.patience))
        except TimeoutError:
            seen.waited = True
        except ConnectionClosedOK:
            pass
        except ConnectionClosed as error:
            seen.fail(error)
    seen.code = client.close_code


if __name__ == "__main__":
    serve("websockets", visit)
