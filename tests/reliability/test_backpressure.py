"""A slow but honest reader: its connection is never ended, and it never gets a wrong byte, however long it takes."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests import frames
from tests.reliability.clients import Client, cut_from, warm_up
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import KIB, MIB, Daemon

RATE = 64 * KIB
"""Bytes that the reader takes per second, in eight pieces."""


@pytest.mark.parametrize("size", [100 * KIB, 8 * MIB], ids=["100 KiB", "8 MiB"])
def test_a_slow_reader(size: int, form: Form, figure: Figure) -> None:
    seconds = form.pick(180, 10)

    async def run(daemon: Daemon) -> tuple[int, float]:
        await warm_up(daemon.address)
        client = await Client.open(daemon.address, receive_buffer=RATE)
        payload = random.Random(1).randbytes(size)
        # Twice what can be read in that time, so that there is always more, and at least enough to fill all buffers.
        count = max(1, max(2 * RATE * seconds, 16 * MIB) // size)
        octets = frames.client_frame(frames.BINARY, payload)
        sending = asyncio.create_task(client.push(octets, count * len(octets), 600.0))
        expected = frames.server_frame(frames.BINARY, payload)
        start = time.monotonic()
        position = 0
        wrong = 0
        while position < count * len(expected):
            piece = await client.read(RATE // 8)
            assert piece, f"the connection ended after {time.monotonic() - start:.0f} s and {position} octets"
            boundary = -position % len(expected)
            if piece[boundary : boundary + 1] == b"\x89":  # a ping of the daemon between two messages
                piece = piece[:boundary] + piece[boundary + 2 :]
            wrong += piece != cut_from(expected, position, len(piece))
            position += len(piece)
            if (slow := time.monotonic() - start) < seconds:
                await asyncio.sleep(max(0.0, position / RATE - slow))
        await sending
        await client.finish()
        return wrong, slow

    with Daemon("--ping-interval", "2s", "--ping-timeout", "2s") as daemon:
        wrong, slow = asyncio.run(run(daemon))
    assert slow >= seconds
    figure(f"wrong pieces in {slow:.0f} s at 64 KiB/s", wrong, 0)


def test_more_large_messages_than_fit(form: Form, figure: Figure) -> None:
    """Honest clients whose messages don't all fit in `--max-buffered` at once are served one after the other."""
    clients, size, limit = form.pick(300, 60), 2 * MIB, form.pick(256, 64) * MIB

    async def one(daemon: Daemon) -> bool:
        client = await Client.open(daemon.address)
        payload = bytes(size)
        sending = asyncio.create_task(client.send(frames.client_frame(frames.BINARY, payload)))
        frame = await client.frame()
        await asyncio.wait([sending])
        sending.exception()
        return frame == frames.Frame(frames.BINARY, payload)

    async def run(daemon: Daemon) -> tuple[int, int]:
        await warm_up(daemon.address)
        idle = daemon.memory()
        daemon.reset_peak()
        results = await asyncio.gather(*(one(daemon) for _ in range(clients)))
        return results.count(False), daemon.peak() - idle

    with Daemon("--max-buffered", str(limit)) as daemon:
        refused, growth = asyncio.run(run(daemon))
    figure(f"echoes that {clients} clients with {size // MIB} MiB each did not get", refused, 0)
    # While a message is answered, there are three copies of it. malloc's free memory is returned five times a second.
    figure("growth of the daemon meanwhile", growth / MIB, 1.5 * limit / MIB, "MiB")
