"""Opening handshakes that never end, and how they affect an honest client."""

from __future__ import annotations

import asyncio
import time

from tests.reliability.clients import Address, Client, at_once, warm_up
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import KIB, MIB, Daemon
from tests.reliability.honest import percentile

CLIENTS = 100
HANDSHAKE_TIMEOUT = 5.0


def test_request_heads_without_an_end(figure: Figure) -> None:
    async def one(address: Address) -> tuple[int, bytes]:
        client = await Client.connect(address)
        await client.send(b"GET / HTTP/1.1\r\nX-Long: ")
        sent = await client.push(b"a" * KIB, 4 * MIB, 1.0)
        return sent, (await client.rest())[:13]

    async def run(daemon: Daemon) -> tuple[int, list[tuple[int, bytes]]]:
        await warm_up(daemon.address)
        idle = daemon.memory()
        daemon.reset_peak()
        results = await at_once((one(daemon.address) for _ in range(CLIENTS)), CLIENTS)
        return daemon.peak() - idle, results

    with Daemon("--close-timeout", "1s") as daemon:
        growth, results = asyncio.run(run(daemon))
    refused = sum(answer == b"HTTP/1.1 431 " for _, answer in results)
    # 16 KiB for each request head, and what a buffer allocates ahead.
    figure("growth, 100 request heads without an end", growth / MIB, 2.5, "MiB")
    # The daemon may reset a client that never stops sending. What matters is how much the daemon took, and the growth
    # shows that.
    figure("heads that were not refused with 431", CLIENTS - refused, CLIENTS)


def test_connections_that_never_finish_the_handshake(form: Form, figure: Figure) -> None:
    count = form.pick(5000, 1000)

    async def hang(address: Address) -> float:
        client = await Client.connect(address)
        connected = time.monotonic()
        await client.send(b"GET / HTTP/1.1\r\n")
        await client.rest()
        lived = time.monotonic() - connected
        client.close()
        return lived

    async def come_honestly(address: Address, until: asyncio.Future[list[float]]) -> list[float]:
        times = []
        while not until.done():
            start = time.monotonic()
            client = await Client.open(address)
            await client.echo(b"honest")
            times.append(time.monotonic() - start)
            await client.finish()
            await asyncio.sleep(0.02)
        return times

    async def run(daemon: Daemon) -> tuple[list[float], list[float]]:
        await warm_up(daemon.address)
        idle = daemon.descriptors()
        hanging = asyncio.gather(*(hang(daemon.address) for _ in range(count)))
        honest = await come_honestly(daemon.address, hanging)
        lives = await hanging
        daemon.seconds_until(lambda: daemon.descriptors() <= idle, 2)
        assert daemon.descriptors() <= idle
        return honest, lives

    with Daemon("--handshake-timeout", f"{HANDSHAKE_TIMEOUT}s") as daemon:
        honest, lives = asyncio.run(run(daemon))
    figure(f"p99 of an honest open and echo beside {count} that hang", percentile(honest, 99), 1, "s")
    figure("longest time from a connect until the daemon dropped it", max(lives), HANDSHAKE_TIMEOUT + 1, "s")
