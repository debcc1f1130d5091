"""Descriptors: what happens when they run out or everybody comes back at once, and that none is ever leaked."""

from __future__ import annotations

import asyncio
import random
import time

from tests import frames
from tests.reliability.clients import Address, Client, at_once, open_many, warm_up
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import MIB, Daemon
from tests.reliability.guests import SITE, count_others
from tests.reliability.honest import Honest, percentile

NOFILE = 256
SERVED = NOFILE - 64
"""The descriptors left for connections. The daemon uses the others itself."""

STAY = 100
"""Clients that stay, to see whether the daemon still makes guests of them."""


async def come(address: Address) -> tuple[Client | None, int]:
    """Connect, and return the HTTP status, or 0 if the connection was reset or ended without an answer."""
    client = None
    try:
        client = await Client.connect(address)
        await client.send(frames.handshake())
        return client, int((await client.head())[9:12])
    except (OSError, AssertionError):
        return client, 0


def test_1000_connects_to_256_descriptors(form: Form, figure: Figure) -> None:
    seconds = form.pick(20, 4)

    async def keep_coming(address: Address, until: float) -> None:
        while time.monotonic() < until:
            client, status = await come(address)
            assert status in (503, 0), status
            if client is not None:
                client.close()
            await asyncio.sleep(0.05)

    async def run(daemon: Daemon) -> tuple[float, int, float]:
        await warm_up(daemon.address)
        held = await at_once((come(daemon.address) for _ in range(1000)), 1000)
        served = [client for client, status in held if client is not None and status == 101]
        assert len(served) == SERVED
        await at_once(client.echo(b"still served") for client in served)
        before, start = daemon.cpu(), time.monotonic()
        await keep_coming(daemon.address, start + seconds)
        load = 100 * (daemon.cpu() - before) / (time.monotonic() - start)
        most = daemon.descriptors()
        for client, _ in held:
            if client is not None:
                client.close()
        start = time.monotonic()
        again: list[Client] = []
        while len(again) < SERVED and time.monotonic() - start < 10:
            for client, status in await at_once((come(daemon.address) for _ in range(SERVED - len(again))), 200):
                if client is not None and status == 101:
                    again.append(client)
                elif client is not None:
                    client.close()
        await at_once(client.echo(b"served again") for client in again)
        return load, most, time.monotonic() - start

    with Daemon(nofile=NOFILE) as daemon:
        load, most, seconds_until_served = asyncio.run(run(daemon))
        lines = len(daemon.log().splitlines())
    figure("CPU while full, 1,000 connects to 256 descriptors", load, 20, "%")
    figure("most descriptors in use", most, NOFILE)
    figure("time until all connections are served again", seconds_until_served, 2, "s")
    figure("log lines meanwhile", lines, 10 * (seconds + 15))


def test_reconnects(form: Form, figure: Figure) -> None:
    """A fifth of the connections are reset, each at a different point of its life."""
    total, first = form.pick(100_000, 8_000), form.pick(10_000, 2_000)
    chance = random.Random(7)
    message = frames.client_frame(frames.TEXT, b"some text " * 20)
    points = [
        b"",
        b"GET / HTTP/1.1\r\n",
        frames.handshake(),
        frames.handshake() + message,
        frames.handshake("/", frames.DEFLATE) + message[:50],
    ]

    async def live(address: Address) -> None:
        client = await Client.open(address, *([frames.DEFLATE] if chance.random() < 0.5 else []))
        await client.send(message)
        assert await client.frame() is not None
        await client.finish()

    async def break_off(address: Address) -> None:
        client = await Client.connect(address)
        await client.send(chance.choice(points))
        client.abort()

    async def run(daemon: Daemon) -> tuple[int, int]:
        await warm_up(daemon.address, frames.DEFLATE)
        descriptors = daemon.descriptors()
        memory = 0
        for done in range(0, total, 1000):
            if done == first:
                memory = daemon.memory()
            await at_once(((break_off if i % 5 == 0 else live)(daemon.address) for i in range(1000)), 40)
        daemon.seconds_until(lambda: daemon.descriptors() <= descriptors, 10)
        growth, left = daemon.memory() - memory, daemon.descriptors() - descriptors
        stay = await open_many(daemon.address, STAY)
        figure(f"of {STAY} that come then, those that are no guests", count_others(daemon, STAY), STAY / 20)
        for client in stay:
            client.abort()
        return growth, left

    with Daemon(*SITE) as daemon:
        growth, left = asyncio.run(run(daemon))
    figure(f"growth over {total - first:,} reconnects after the first {first:,}", growth / MIB, 5, "MiB")
    figure("descriptors left open", left, 0)


def test_all_come_back_at_once(form: Form, figure: Figure) -> None:
    """As after a proxy's restart: all idle connections end together, and their clients reconnect."""
    count = form.pick(10_000, 2_000)

    async def come_back(address: Address) -> Client:
        client = await Client.open(address)
        await client.echo(b"back again")
        return client

    async def run(daemon: Daemon) -> tuple[list[float], float, int]:
        await warm_up(daemon.address)
        descriptors = daemon.descriptors()
        idle = await open_many(daemon.address, count)
        before = daemon.cpu()
        with Honest(daemon.address) as honest:
            for client in idle:
                client.abort()
            back = await at_once((come_back(daemon.address) for _ in range(count)), 500)
        used = daemon.cpu() - before
        figure(f"of {count:,} that came back, those that are no guests", count_others(daemon, count), count / 20)
        for client in back:
            client.abort()
        daemon.seconds_until(lambda: daemon.descriptors() <= descriptors, 10)
        return honest.times, used, daemon.descriptors() - descriptors

    # A busy machine may not let a client send its request head for some seconds.
    with Daemon(*SITE, "--handshake-timeout", "1m") as daemon:
        times, used, left = asyncio.run(run(daemon))
    figure(f"p99 of an honest client that stays while {count:,} come back", percentile(times, 99) * 1000, 1000, "ms")
    figure("CPU time for each client that comes back", used / count * 1e6, 200, "µs")
    figure("descriptors left open", left, 0)
