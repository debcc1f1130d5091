"""Thousands of connections that ask for any combination of faults leave no memory and no descriptor behind. The
figures are the kernel's."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

from tests import frames
from tests.faults.queries import draw
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


async def visit(address: Address, random: Random) -> None:
    """Open a connection that asks for something, send something, and leave without a word."""
    path, offers = random.choice(("/", "/json", "/info", "/frames")), [frames.DEFLATE] * random.randint(0, 1)
    octets = b"".join(random.sample(SENT, random.randint(0, 4)))
    with suppress(OSError):
        client = await Client.connect(address)
        try:
            await client.send(frames.handshake(f"{path}?{draw(random)}", *offers) + octets)
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
