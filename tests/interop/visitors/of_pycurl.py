"""libcurl, through pycurl, in threads. It offers no extensions, and delivers pieces of frames."""

from __future__ import annotations

import asyncio
import os
import select
import time

import pycurl  # type: ignore[import-untyped]

from tests.interop.visitors.visit import TEXTS, Visit, serve


async def visit(seen: Visit) -> None:
    """Make a visit."""
    await asyncio.to_thread(_visit, seen)


def _visit(seen: Visit) -> None:
    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, seen.url)
        if trusted := os.environ.get("SSL_CERT_FILE"):
            handle.setopt(pycurl.CAINFO, trusted)  # libcurl itself does not read the variable
        handle.setopt(pycurl.CONNECT_ONLY, 2)  # only make the opening handshake; ws_send and ws_recv do the rest
        handle.setopt(pycurl.TIMEOUT_MS, round(1000 * seen.open_timeout))
        handle.setopt(pycurl.NOSIGNAL, 1)
        try:
            handle.perform()
        except pycurl.error as error:
            seen.waited = error.args[0] == pycurl.E_OPERATION_TIMEDOUT
            raise
        # A refusal is no error for libcurl.
        status = handle.getinfo(pycurl.RESPONSE_CODE)
        if status != 101:
            seen.error = f"status {status}"
            return
        seen.opened = True
        for text in TEXTS:
            handle.ws_send(text.encode(), pycurl.WS_TEXT)
        _receive(seen, handle)
    finally:
        handle.close()


def _receive(seen: Visit, handle: pycurl.Curl) -> None:
    socket, message = handle.getinfo(pycurl.ACTIVESOCKET), b""
    quiet = time.monotonic() + seen.patience
    while True:
        try:
            data, meta = handle.ws_recv(2**16)
        except BlockingIOError:
            # libcurl answers pings by itself, so that the socket may be readable without a message.
            if not select.select([socket], [], [], max(0, quiet - time.monotonic()))[0] or time.monotonic() > quiet:
                seen.waited = True
                handle.ws_send((1000).to_bytes(2), pycurl.WS_CLOSE)
                return
            continue
        if meta.flags & pycurl.WS_CLOSE:
            seen.code = int.from_bytes(data[:2]) if data else 1005
            handle.ws_send(data[:2], pycurl.WS_CLOSE)
            return
        if meta.flags & (pycurl.WS_TEXT | pycurl.WS_BINARY):
            message += data
            if not meta.bytesleft and not meta.flags & pycurl.WS_CONT:
                seen.take(message)
                message = b""
                quiet = time.monotonic() + seen.patience


if __name__ == "__main__":
    serve("pycurl", visit)
