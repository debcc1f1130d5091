"""SIGTERM under traffic: well-behaved clients lose nothing, and the process ends in time."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import frames
from tests.loop import needed_native
from tests.reliability.clients import Address, Client, open_many, warm_up
from tests.reliability.conftest import MOST_DESCRIPTORS, Figure, Form
from tests.reliability.crowd import Crowd
from tests.reliability.daemon import KIB, Daemon
from tests.reliability.guests import SITE, count_others

DRAIN_TIMEOUT = 10.0

LONG = 60.0
"""Seconds for a drain of many, while their clients share the processors with the daemon."""


class Outcome(NamedTuple):
    """How a client saw the end of the daemon."""

    lost_at: float | None
    """When the daemon had the start of the message that it did not echo."""
    close_code: int | None
    echoes: int


async def chat(client: Client, size: int) -> Outcome:
    """Send a message, await its echo, pause, and repeat. End with the answer to a Close frame when one comes."""
    chance = random.Random(size)
    echoes = 0
    while True:
        payload = chance.randbytes(size)
        sent_at = time.monotonic()
        try:
            octets = frames.client_frame(frames.BINARY, payload)
            sent = client.sock.send(octets)
            # From now on the daemon has at least the start of the message.
            sent_at = time.monotonic()
            await client.send(octets[sent:])
        except OSError:
            return Outcome(sent_at, None, echoes)
        frame = await client.frame()
        if frame is None:
            return Outcome(sent_at, None, echoes)
        if frame.opcode == frames.CLOSE:
            await client.send(frames.client_frame(frames.CLOSE, frame.payload))
            assert not await client.rest()
            return Outcome(sent_at, int.from_bytes(frame.payload[:2], "big"), echoes)
        assert frame == frames.Frame(frames.BINARY, payload)
        echoes += 1
        await asyncio.sleep(chance.random() * 0.2)


async def drain(daemon: Daemon, clients: list[Client], seconds: float) -> tuple[list[Outcome], float, float]:
    """Send SIGTERM under traffic. Return the outcomes, the time of the signal, and the seconds that the process took to
    end."""
    chats = [asyncio.create_task(chat(client, 100 + 13 * (i % 100) ** 2)) for i, client in enumerate(clients)]
    await asyncio.sleep(seconds)
    signalled = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    outcomes = await asyncio.gather(*chats)
    await asyncio.to_thread(daemon.wait)
    return outcomes, signalled, time.monotonic() - signalled


def test_sigterm_amid_traffic(form: Form, figure: Figure) -> None:
    count = form.pick(1000, 300)

    async def run(daemon: Daemon) -> tuple[list[Outcome], float, float]:
        await warm_up(daemon.address)
        clients = await open_many(daemon.address, count)
        figure(f"of {count} clients, those that are no guests", count_others(daemon, count), count / 20)
        return await drain(daemon, clients, form.pick(10, 3))

    with Daemon(*SITE) as daemon:
        outcomes, signalled, seconds = asyncio.run(run(daemon))
        assert daemon.wait() == 0
    assert all(outcome.echoes for outcome in outcomes)
    # A message that was sent after the signal may cross the Close frame.
    lost = sum(outcome.lost_at is not None and outcome.lost_at < signalled for outcome in outcomes)
    figure(f"messages lost by {count} clients that had sent one before SIGTERM", lost, 0)
    figure("clients not closed with 1001", sum(outcome.close_code != 1001 for outcome in outcomes), 0)
    figure("time from SIGTERM to the end of the process", seconds, DRAIN_TIMEOUT, "s")


def test_sigterm_with_badly_behaved_clients(figure: Figure) -> None:
    """Beside well-behaved clients, some never answer a Close, some never read, and some never finish a message or a
    handshake."""

    async def misbehave(address: Address, kind: int) -> Client:
        if kind == 0:
            client = await Client.connect(address)
            await client.send(b"GET / HTTP/1.1\r\n")
            return client
        client = await Client.open(address, receive_buffer=4096)
        if kind == 1:
            await client.push(frames.client_frame(frames.BINARY, bytes(65536)), 8 << 20, 0.5)
        if kind == 2:
            await client.send(frames.client_frame(frames.BINARY, bytes(1000), claim=2000))
        return client

    async def run(daemon: Daemon) -> tuple[list[Outcome], float, float]:
        await warm_up(daemon.address)
        others = await asyncio.gather(*(misbehave(daemon.address, i % 4) for i in range(40)))
        result = await drain(daemon, await open_many(daemon.address, 100), 1.0)
        for other in others:
            other.close()
        return result

    with Daemon("--drain-timeout", "4s", "--handshake-timeout", "60s") as daemon:
        outcomes, signalled, seconds = asyncio.run(run(daemon))
        assert daemon.wait() == 0
    lost = sum(outcome.lost_at is not None and outcome.lost_at < signalled for outcome in outcomes)
    figure("messages lost beside 40 badly behaved clients", lost, 0)
    figure("clients not closed with 1001", sum(outcome.close_code != 1001 for outcome in outcomes), 0)
    figure("time from SIGTERM to the end of the process", seconds, 4 + 2, "s")


def possible(workers: int) -> int:
    """Return how many connections the machine allows: by the descriptors of a process and of all, and by memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The kernel gives one worker some more than another. Each process needs some descriptors for itself.
    of_processes = workers * (min(hard, MOST_DESCRIPTORS) - 200) * 9 // 10
    used, _, most = map(int, Path("/proc/sys/fs/file-nr").read_text().split())
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(meminfo["MemAvailable"].removesuffix("kB")) * KIB
    # Both ends of a connection take some 10 KiB. Half of the memory is for others.
    return min(of_processes, (most - used) // 3, free // 2 // (10 * KIB))


@pytest.mark.parametrize("is_shared", [False, True], ids=["one process", "workers"])
def test_many_guests_are_told_of_the_end(is_shared: bool, form: Form, figure: Figure) -> None:
    """A full process of guests, and 100,000 guests of several workers, as far as the machine's limits allow."""
    needed_native()
    workers = form.pick(6, 2) if is_shared else 1
    count = min(form.pick(100_000 if is_shared else 15_000, 300), possible(workers))
    # Without pings: nobody is to be dropped for an answer that comes late on a busy machine.
    patience = ("--drain-timeout", f"{LONG:g}s", "--close-timeout", f"{LONG:g}s", "--ping-interval", "0")
    with Daemon(*SITE, "--workers", str(workers), *patience) as daemon:
        asyncio.run(warm_up(daemon.address))
        with Crowd(daemon.address, count) as crowd:
            wanted, count = count, crowd.count
            if not is_shared:  # the list has one worker's connections after another's
                figure(f"of {count:,} clients, those that are no guests", count_others(daemon, count), count / 20)
            began = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(2 * LONG) == 0
            seconds = time.monotonic() - began
            codes = crowd.codes()
    assert codes.total() == count
    who = f"{count:,} guests (of {wanted:,} that may be) of {workers} process" + "es" * (workers > 1)
    figure(f"{who} that were not told 1001", count - codes["1001"], 0)
    figure(f"time from SIGTERM to the end, {who}", seconds, LONG, "s")
