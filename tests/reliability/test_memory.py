"""Memory under the worst that clients can do, and how this affects an honest client.

Growth is the peak of the resident memory minus that of the idle daemon, after one connection has done once everything
that follows.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import socket
import termios
import time
import zlib
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import frames
from tests.loop import needed_native
from tests.reliability.clients import PATIENCE, Address, Client, at_once, open_many, warm_up
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import KIB, MIB, Daemon
from tests.reliability.guests import SITE, count_others
from tests.reliability.honest import Honest, percentile

CLIENTS = 100

OFFER = f"{frames.DEFLATE}; client_max_window_bits=12"

STALL = 0.5
"""Seconds without room for one more byte after which a client that never reads stops sending."""


class Flood(NamedTuple):
    """The result of a flood by clients that never read."""

    growth: int
    sent: int
    honest: list[float]


async def flood(daemon: Daemon, octets: bytes, limit: int, clients: int = CLIENTS) -> Flood:
    """Let clients push the same bytes, each up to a limit, and read nothing, while an honest client echoes."""
    await warm_up(daemon.address)
    count_others(daemon, 0)  # the admin site takes memory when it is first asked
    idle = daemon.memory()
    daemon.reset_peak()
    flooders = await open_many(daemon.address, clients)
    assert count_others(daemon, clients) <= clients / 20, "a flood has to begin at the door"
    with Honest(daemon.address) as honest:
        sent = sum(await at_once((flooder.push(octets, limit, STALL) for flooder in flooders), clients))
        # Wait until the daemon has read all that was sent. The peak counts: the memory at rest would be less.
        await asyncio.to_thread(daemon.wait_until_it_rests)
    growth = daemon.peak() - idle
    for flooder in flooders:
        flooder.abort()
    return Flood(growth, sent, honest.times)


async def growth_by(
    daemon: Daemon, clients: Iterable[Awaitable[Client]], *headers: str, are_guests: bool = False
) -> int:
    """Return the bytes that the daemon holds for clients which stay connected and idle. `headers` are those of their
    handshakes. Assert that they are guests if they should be."""
    await warm_up(daemon.address, *headers)
    idle = daemon.memory()
    opened = await at_once(clients, 50)
    # This connection comes last. Once it is served, the daemon has read what the others sent.
    await warm_up(daemon.address, *headers)
    growth = daemon.memory() - idle
    if are_guests:
        assert count_others(daemon, len(opened)) <= len(opened) / 20
    for client in opened:
        client.abort()
    return growth


def test_clients_that_never_read_64_kib_messages(form: Form, figure: Figure) -> None:
    message = frames.client_frame(frames.BINARY, bytes(64 * KIB))
    limit = form.pick(1024, 64) * MIB
    with Daemon(*SITE) as daemon:
        result = asyncio.run(flood(daemon, message, limit))
    assert result.sent < CLIENTS * limit, "the daemon read on from a client that never reads"
    figure("growth, 100 clients that never read, 64 KiB messages", result.growth / MIB, 32, "MiB")


def test_clients_that_never_read_1_mib_messages(form: Form, figure: Figure) -> None:
    message = frames.client_frame(frames.BINARY, bytes(MIB))
    with Daemon(*SITE) as daemon:
        result = asyncio.run(flood(daemon, message, form.pick(1024, 64) * MIB))
    figure("growth, 100 clients that never read, 1 MiB messages", result.growth / MIB, 256, "MiB")
    figure("honest client's p99 meanwhile", percentile(result.honest, 99) * 1000, 250, "ms")


def test_clients_that_never_read_pongs(form: Form, figure: Figure) -> None:
    pings = frames.client_frame(frames.PING) * (64 * KIB // 6)
    with Daemon(*SITE) as daemon:
        result = asyncio.run(flood(daemon, pings, form.pick(1024 * MIB, 512 * KIB), form.pick(CLIENTS, 25)))
    figure("growth, clients that never read, empty pings", result.growth / MIB, 256, "MiB")
    figure("honest client's p99 meanwhile", percentile(result.honest, 99) * 1000, 250, "ms")


@pytest.mark.parametrize("payload", [b"", b"ab"], ids=["empty", "2-octet"])
def test_endless_fragments(payload: bytes, form: Form, figure: Figure) -> None:
    clients = form.pick(10, 2)
    fragments = frames.client_frame(frames.CONTINUATION, payload, fin=False) * 1000

    async def one(address: Address) -> int | None:
        client = await Client.open(address)
        await client.send(frames.client_frame(frames.BINARY, payload, fin=False))
        await client.push(fragments, 1000 * len(fragments), STALL)
        return await client.close_code()

    async def run(daemon: Daemon) -> tuple[int, list[int | None]]:
        await warm_up(daemon.address)
        idle = daemon.memory()
        daemon.reset_peak()
        codes = await at_once((one(daemon.address) for _ in range(clients)), clients)
        return daemon.peak() - idle, codes

    with Daemon() as daemon:
        growth, codes = asyncio.run(run(daemon))
    assert codes == [1008] * clients
    figure(f"growth per connection, endless fragments of {len(payload)} octets", growth / clients / MIB, 2, "MiB")


def has_unread(sock: socket.socket) -> bool:
    """Tell whether the other end of a Unix socket has octets that it has not read (unix(7), SIOCOUTQ)."""
    return fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)) != bytes(4)


def test_a_message_2_octets_at_a_time(form: Form, figure: Figure, tmp_path: Path) -> None:
    sizes = [form.pick(MIB, 256 * KIB) // 4, form.pick(MIB, 256 * KIB)]
    path = tmp_path / "socket"

    async def run(daemon: Daemon) -> tuple[list[float], int]:
        await warm_up(daemon.address)
        idle = daemon.memory()
        daemon.reset_peak()
        used = []
        for size in sizes:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            sock.setblocking(False)
            client = Client(sock)
            await client.shake_hands()
            before = daemon.cpu()
            octets = frames.client_frame(frames.BINARY, bytes(size))
            async with asyncio.timeout(10 * PATIENCE):
                for start in range(0, len(octets), 2):
                    sock.send(octets[start : start + 2])
                    # The kernel would join these octets and the next ones, and one read would take both.
                    while has_unread(sock):
                        await asyncio.sleep(0)
            frame = await client.frame()
            used.append(daemon.cpu() - before)
            assert frame == frames.Frame(frames.BINARY, bytes(size))
            await client.finish()
        return used, daemon.peak() - idle

    with Daemon("--port", f"unix:{path}") as daemon:
        (small, large), growth = asyncio.run(run(daemon))
    figure("growth, a message written 2 octets at a time", growth / MIB, 4, "MiB")
    # Four times the length. Quadratic time would be 16 times as much. One more clock tick is no finding.
    figure("CPU time for four times the length of that message", large / (small + 0.05), 6, "times as much")


def test_a_frame_that_claims_1_gib(figure: Figure) -> None:
    async def run(daemon: Daemon) -> tuple[int, list[int | None], float]:
        await warm_up(daemon.address)
        clients = await open_many(daemon.address, CLIENTS)
        idle = daemon.memory()
        daemon.reset_peak()
        start = time.monotonic()
        for client in clients:
            await client.send(frames.client_frame(frames.BINARY, bytes(100), claim=1024 * MIB))
        codes = await at_once(client.close_code() for client in clients)
        return daemon.peak() - idle, codes, time.monotonic() - start

    with Daemon() as daemon:
        growth, codes, seconds = asyncio.run(run(daemon))
    assert codes == [1009] * CLIENTS
    figure("growth, 100 frames that claim 1 GiB", growth / MIB, 1, "MiB")
    figure("time until all are closed with 1009", seconds, 1, "s")


def test_a_compression_bomb(figure: Figure) -> None:
    limit, window = 16 * MIB, 12
    deflate = zlib.compressobj(wbits=-window)
    bomb = deflate.compress(bytes(10 * limit)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    octets = frames.client_frame(frames.BINARY, bomb[:-4], rsv=4)

    async def run(daemon: Daemon) -> tuple[int, int | None]:
        await warm_up(daemon.address, OFFER)
        client = await Client.open(daemon.address, OFFER)
        idle = daemon.memory()
        daemon.reset_peak()
        await client.send(octets)
        code = await client.close_code()
        return daemon.peak() - idle, code

    with Daemon() as daemon:
        growth, code = asyncio.run(run(daemon))
    assert code == 1009
    # The limit counts twice, because a growing buffer may have to move. Added is the frame of 160 KiB, in the hands of
    # the lane and of Autobahn, and the buffers that it goes through.
    figure("growth, a bomb that inflates to 160 MiB", growth / MIB, 2 * limit / MIB + 1, "MiB")


def test_request_heads_at_the_limit(figure: Figure) -> None:
    """All heads are just below the limit at the same time, and so hold as much as they can."""
    count = 1000

    async def one(address: Address) -> Client:
        client = await Client.connect(address)
        start = b"GET / HTTP/1.1\r\nX-Long: "
        await client.send(start + b"a" * (16 * KIB - 1 - len(start)))
        return client

    with Daemon() as daemon:
        growth = asyncio.run(growth_by(daemon, (one(daemon.address) for _ in range(count))))
    figure("growth for each unfinished request head of 16 KiB", growth / count / KIB, 32, "KiB")


NO_CONTEXT = f"{OFFER}; client_no_context_takeover; server_no_context_takeover"


@pytest.mark.parametrize("native", ["1", "0"], ids=["with the lane", "without"])
@pytest.mark.parametrize(
    ("kind", "mode", "headers", "limit"),
    [
        ("plain", "mirror", (), 7),
        ("mirrored, without context takeover", "mirror", (NO_CONTEXT,), 16),
        ("deflated, without context takeover", "deflate", (NO_CONTEXT,), 16),
        ("mirrored, with context takeover", "mirror", (OFFER,), 48),
        ("deflated, with context takeover", "deflate", (OFFER,), 48),
        # The client's compressor refers back as far as deflate can: a window of 32 KiB.
        ("mirrored, with context takeover and the full window", "mirror", (frames.DEFLATE,), 48),
    ],
)
def test_idle_connections(
    kind: str, mode: str, headers: tuple[str, ...], limit: float, native: str, form: Form, figure: Figure
) -> None:
    count = form.pick(5000, 1000)
    # Both directions of the extension allocate their memory once each has seen a message, which fills the window.
    deflate = zlib.compressobj(wbits=-12)
    noise = deflate.compress(random.Random(1).randbytes(40_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    message = frames.client_frame(frames.BINARY, noise[:-4], rsv=4)

    async def one(address: Address) -> Client:
        client = await Client.open(address, *headers)
        if headers:
            await client.send(message)
            assert (frame := await client.frame()) is not None
            assert frame.rsv == 4
        return client

    async def run(daemon: Daemon) -> int:
        if headers:
            # The memory that so many simultaneous messages need is not held by connections.
            await growth_by(daemon, (one(daemon.address) for _ in range(50)), *headers)
        clients = (one(daemon.address) for _ in range(count))
        return await growth_by(daemon, clients, *headers, are_guests=native == "1" and not keeps_compressor)

    # A compressor that is kept stays in Python, and its connection with it.
    keeps_compressor = kind == "deflated, with context takeover"
    if native == "1":
        needed_native()
        if not headers:
            limit = 0.5  # it is served by the pump from its beginning
    with Daemon(*SITE, "--compression", mode, env={"ECHOD_NATIVE": native}) as daemon:
        growth = asyncio.run(run(daemon))
    figure(
        f"memory of an idle connection, {kind}, {'with' if native == '1' else 'without'} the lane",
        growth / count / KIB,
        limit,
        "KiB",
    )
