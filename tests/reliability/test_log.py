"""The log: no client can make it grow faster than a fixed rate."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests import frames
from tests.reliability.clients import Address, Client, at_once, warm_up
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import Daemon

_TIME = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")

LONG = "é\x9b[31m%s{}\\" * 600
"""A value that would make a log line long, or break it."""


async def bogus_pongs(address: Address, count: int) -> None:
    """Send pongs that answer no ping, also while a ping is pending."""
    pongs = frames.client_frame(frames.PONG, b"bogus") * 1000

    async def one() -> None:
        client = await Client.open(address)
        await client.push(pongs, count // 10 // 1000 * len(pongs), 30)
        await client.finish_after_pings()

    await at_once(one() for _ in range(10))


async def refused_handshakes(address: Address, count: int) -> None:
    """Send handshakes that are refused for all kinds of reasons."""
    requests = [
        frames.handshake(f"/ {LONG}"),
        frames.handshake("/", f"X-Long: {LONG}", "Sec-WebSocket-Version: 8"),
        frames.handshake("/", f"Origin: {LONG[:500]}"),
        frames.handshake("/", f"Sec-WebSocket-Protocol: {LONG[:500]}"),
        frames.handshake(key=LONG[:300]),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"BREW /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n",
    ]

    async def one(request: bytes) -> None:
        client = await Client.connect(address)
        await client.send(request)
        await client.rest()
        client.close()

    await at_once((one(requests[i % len(requests)]) for i in range(count // 20)), 50)


async def broken_frames(address: Address, count: int) -> None:
    """Violate the protocol in all kinds of ways."""
    broken = [
        frames.client_frame(frames.TEXT, b"\xff" * 200),
        frames.client_frame(frames.BINARY, b"x", rsv=3),
        frames.client_frame(frames.BINARY, b"x", mask=None),
        frames.client_frame(frames.BINARY, claim=1 << 40),
        frames.client_frame(frames.CLOSE, b"\x00\x01" + LONG.encode()[:100]),
        frames.client_frame(frames.PING, b"x" * 126),
        frames.client_frame(11, LONG.encode()[:100]),
    ]

    async def one(octets: bytes) -> None:
        client = await Client.open(address)
        await client.send(octets)
        await client.rest()
        client.close()

    await at_once((one(broken[i % len(broken)]) for i in range(count // 50)), 50)


async def everything(address: Address, count: int) -> None:
    """Do all of this at the same time."""
    await asyncio.gather(*(load(address, count // 3) for load in (bogus_pongs, refused_handshakes, broken_frames)))


LOADS: list[Callable[[Address, int], Coroutine[Any, Any, None]]] = [
    bogus_pongs,
    refused_handshakes,
    broken_frames,
    everything,
]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_log_rate(load: Callable[[Address, int], Coroutine[Any, Any, None]], form: Form, figure: Figure) -> None:
    async def run(daemon: Daemon) -> float:
        await warm_up(daemon.address)
        start = time.monotonic()
        await load(daemon.address, form.pick(1_000_000, 100_000))
        while time.monotonic() - start < form.pick(20, 4):
            await load(daemon.address, 30_000)
        return time.monotonic() - start

    with Daemon("--ping-interval", "1s", "--origin", "https://*.example.com", "--origin", "null") as daemon:
        before = len(daemon.log().splitlines())
        seconds = asyncio.run(run(daemon))
        lines = daemon.log().splitlines()[before:]
    name = load.__name__.replace("_", " ")
    by_second = Counter(match[0] for line in lines if (match := _TIME.match(line)))
    # The daemon's seconds do not begin with the clock's. So one second of the clock may have the lines of two, and
    # there may be one second more than have passed.
    figure(f"log lines in any second, {name}", max(by_second.values(), default=0), 2 * 10)
    figure(f"log lines per second, {name}", len(lines) / (seconds + 1), 10)
    figure(f"octets of the longest log line, {name}", max((len(line.encode()) for line in lines), default=0), 512)
    assert all(line.isprintable() for line in lines)
