"""The client of aiohttp."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.interop.visitors.visit import TEXTS, Visit, serve


async def visit(seen: Visit) -> None:
    """Make a visit."""
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(seen.open_timeout):
            client = await session.ws_connect(
                seen.url,
                compress=15 if seen.deflate else 0,
                timeout=aiohttp.ClientWSTimeout(ws_close=seen.close_timeout),
            )
        seen.opened = True
        for text in TEXTS:
            await client.send_str(text)
        try:
            # Its own time limit begins anew with each ping and pong.
            while (got := await asyncio.wait_for(client.receive(), seen.patience)).type in (
                aiohttp.WSMsgType.TEXT,
                aiohttp.WSMsgType.BINARY,
            ):
                seen.take(got.data)
            if got.type is aiohttp.WSMsgType.ERROR:
                seen.fail(got.data)
        except TimeoutError:
            seen.waited = True
        await client.close()
        seen.code = client.close_code


if __name__ == "__main__":
    serve("aiohttp", visit)
