"""Three clients behind one interface that only watch: which events come, when, and how the connection ends.

Each client is used as its documentation says, without workarounds for its faults. Knows the clients. Must never know
what is expected of the daemon.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.interop.clients import CLIENTS, FOLDER, PATIENCE, Message, Target


@dataclass
class Seen:
    """What a client saw. Times are in seconds since the client's start."""

    status: int | None = None
    """The HTTP status, if the opening handshake was refused."""
    headers: dict[str, str] = field(default_factory=dict)
    """The header of the refusal, with names in lower case."""
    opened: float | None = None
    """The time at which the opening handshake was complete."""
    messages: list[Message] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """The time of each message."""
    pings: int | None = None
    """The number of pings; None: the client does not report pings."""
    code: int | None = None
    """The close code that the client reports; None: the connection was still open when nothing had come for `patience`
    seconds."""
    reason: str | None = ""
    """The close reason; None: the client does not report it."""
    gave_up: bool = False
    """Whether the client stopped waiting for the opening handshake."""


@dataclass(frozen=True)
class Watch:
    """What a client is to do."""

    target: Target
    messages: Sequence[str] = ()
    patience: float = PATIENCE
    """Seconds without a message after which the client stops waiting."""
    open_timeout: float = PATIENCE


def watch_websockets(watch: Watch) -> Seen:
    """Watch with the asyncio client of `websockets`."""
    return asyncio.run(_watch_websockets(watch))


async def _watch_websockets(watch: Watch) -> Seen:
    seen, began = Seen(), time.monotonic()
    certificate = watch.target.certificate
    opening = connect(
        watch.target.url,
        ssl=ssl.create_default_context(cafile=certificate) if certificate else None,
        compression="deflate" if watch.target.compression else None,
        open_timeout=watch.open_timeout,
        close_timeout=0.2,
        proxy=None,
    )
    try:
        async with opening as client:
            seen.opened = time.monotonic() - began
            try:
                for message in watch.messages:
                    await client.send(message)
                while True:
                    seen.messages.append(await asyncio.wait_for(client.recv(), watch.patience))
                    seen.times.append(time.monotonic() - began)
            except TimeoutError:
                pass
            except ConnectionClosed:
                seen.code, seen.reason = client.close_code, client.close_reason
    except InvalidStatus as error:
        seen.status = error.response.status_code
        seen.headers = {name.lower(): value for name, value in error.response.headers.raw_items()}
    except TimeoutError:
        seen.gave_up = True
    return seen


def watch_aiohttp(watch: Watch) -> Seen:
    """Watch with aiohttp."""

    async def run() -> Seen:
        seen = await _watch_aiohttp(watch)
        # What aiohttp's documentation calls a graceful shutdown: afterwards the transports are closed.
        await asyncio.sleep(0.1)
        return seen

    return asyncio.run(run())


async def _watch_aiohttp(watch: Watch) -> Seen:
    seen, began = Seen(pings=0), time.monotonic()
    certificate = watch.target.certificate
    async with aiohttp.ClientSession() as session:
        opening = session.ws_connect(
            watch.target.url,
            autoping=False,
            compress=15 if watch.target.compression else 0,
            ssl=ssl.create_default_context(cafile=certificate) if certificate else True,
            timeout=aiohttp.ClientWSTimeout(ws_close=0.2),
        )
        try:
            socket = await asyncio.wait_for(opening, watch.open_timeout)
        except aiohttp.WSServerHandshakeError as error:
            seen.status = error.status
            seen.headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            return seen
        except TimeoutError:
            seen.gave_up = True
            return seen
        seen.opened = time.monotonic() - began
        for message in watch.messages:
            await socket.send_str(message)
        await _receive(socket, seen, watch.patience, began)
        if seen.code is not None or certificate is None:
            await socket.close()
        # Otherwise the end of the session resets the connection. A close would wait half a minute for the end of TLS
        # from a peer that may not read.
    return seen


async def _receive(socket: aiohttp.ClientWebSocketResponse, seen: Seen, patience: float, began: float) -> None:
    while True:
        try:
            received = await socket.receive(patience)
        except TimeoutError:
            return
        if received.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            seen.messages.append(received.data)
            seen.times.append(time.monotonic() - began)
        elif received.type is aiohttp.WSMsgType.PING:
            assert seen.pings is not None
            seen.pings += 1
        else:
            is_close = received.type is aiohttp.WSMsgType.CLOSE
            # For a Close frame without a code aiohttp reports 0 instead of the RFC's 1005 (section 7.1.5).
            seen.code = received.data or 1005 if is_close else socket.close_code
            seen.reason = received.extra or "" if is_close else ""
            return


def watch_ws(watch: Watch) -> Seen:
    """Watch with `ws` for Node."""
    options = {
        "url": watch.target.url,
        "certificate": str(watch.target.certificate) if watch.target.certificate else None,
        "compression": watch.target.compression,
        "messages": watch.messages,
        "patience": watch.patience,
        "openTimeout": watch.open_timeout,
    }
    command = ["node", str(FOLDER / "ws_watch.js")]
    done = subprocess.run(
        command, input=json.dumps(options), capture_output=True, text=True, timeout=2 * PATIENCE, check=True
    )
    told = json.loads(done.stdout)
    bodies = [(is_binary, base64.b64decode(text)) for _, is_binary, text in told["messages"]]
    return Seen(
        status=told["status"],
        headers=told["headers"],
        opened=told["opened"],
        messages=[body if is_binary else body.decode() for is_binary, body in bodies],
        times=[seconds for seconds, *_ in told["messages"]],
        pings=told["pings"],
        code=told["code"],
        reason=told["reason"],
        gave_up=told["gaveUp"],
    )


WATCHERS: dict[str, Callable[[Watch], Seen]] = {
    "websockets": watch_websockets,
    "aiohttp": watch_aiohttp,
    "ws": watch_ws,
}

MISSING = {name: CLIENTS[name].missing for name in WATCHERS}
"""What is missing, and how to get it, in one line."""
