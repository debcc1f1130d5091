"""Thousands of connections that ask for any combination of faults leave no memory and no descriptor behind. The
figures are the kernel's."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

from tests import frames
from tests.faults.queries import draw
from tests.h2_client import Http2Client
from tests.reliability.clients import Address, Client, at_once, warm_up
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import MIB, Daemon

SENT = (
    frames.client_frame(frames.TEXT, b"tea"),
    frames.client_frame(frames.PING, b"ping"),
    frames.client_frame(frames.BINARY, bytes(range(256)) * 40),
    frames.client_frame(frames.TEXT, frames.deflated_octets(b"tea"), rsv=4),
    frames.client_frame(frames.TEXT, b"a", fin=False),
    frames.client_frame(frames.CLOSE, frames.close_payload(1000)),
)


PATHS = ("/", "/json", "/info", "/frames")


def over_http1(random: Random) -> bytes:
    """Return the opening handshake of a connection that asks for something, and what follows it."""
    offers = [frames.DEFLATE] * random.randint(0, 1)
    opening = frames.handshake(f"{random.choice(PATHS)}?{draw(random)}", *offers)
    return opening + b"".join(random.sample(SENT, random.randint(0, 4)))


def over_http2(random: Random) -> bytes:
    """Return the same for some streams of a connection, as far as their first windows allow."""
    client = Http2Client()
    for _ in range(random.randint(1, 10)):
        offers = [("sec-websocket-extensions", "permessage-deflate")] * random.randint(0, 1)
        number = client.connect(f"{random.choice(PATHS)}?{draw(random)}", *offers)
        client.send_some(number, b"".join(random.sample(SENT, random.randint(0, 4))))
    return client.to_send()


async def visit(address: Address, random: Random) -> None:
    """Open a connection that asks for something, send something, and leave without a word."""
    octets = random.choice((over_http1, over_http1, over_http2))(random)
    with suppress(OSError):
        client = await Client.connect(address)
        try:
            await client.send(octets)
            await asyncio.sleep(random.random() / 2)
        finally:
            client.close()


def test_any_faults_leave_nothing_behind(form: Form, figure: Figure) -> None:
    rounds, count = form.pick(20, 3), 300

    async def storm(address: Address, seed: int) -> None:
        random = Random(seed)
        await at_once((visit(address, Random(random.random())) for _ in range(count)), 100)

    async def run(daemon: Daemon) -> tuple[int, int]:
        await warm_up(daemon.address)
        daemon.wait_until_it_rests()
        descriptors = daemon.descriptors()
        # The first storm is not measured. It loads and builds whatever faults need.
        before = 0
        for seed in range(rounds + 1):
            await storm(daemon.address, seed)
            daemon.seconds_until(lambda: daemon.descriptors() <= descriptors, 60)
            daemon.wait_until_it_rests()
            before = before or daemon.memory()
        return daemon.memory() - before, daemon.descriptors() - descriptors

    # While it waits, such a connection is not read, so it is not seen to leave.
    caps = ("max-stall=2s", "max-handshake-delay=1s", "max-reply-delay=1s")
    with Daemon(*(word for cap in caps for word in ("--fault-cap", cap)), nofile=2048) as daemon:
        grown, left = asyncio.run(run(daemon))
    figure(f"descriptors left by {rounds * count} connections with faults", left, 0)
    figure(f"growth by {rounds * count} connections with faults", grown / MIB, form.pick(16, 8), "MiB")
