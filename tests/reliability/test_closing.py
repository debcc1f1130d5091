"""Every close ends, even if the client never reads: all descriptors are closed within the close timeout and 2 s."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests import frames
from tests.reliability.clients import Client, at_once, warm_up
from tests.reliability.conftest import Figure
from tests.reliability.daemon import MIB, Daemon

CLIENTS = 100
CLOSE_TIMEOUT = 2.0

ENDINGS = {
    "a Close": frames.client_frame(frames.CLOSE, frames.close_payload(1000)),
    "an invalid frame": frames.client_frame(frames.BINARY, b"x", rsv=7),
    "a frame that is too long": frames.client_frame(frames.BINARY, claim=1 << 40),
}


@pytest.mark.parametrize(
    ("clients", "size"), [(CLIENTS, MIB), (CLIENTS // 5, 6 * MIB)], ids=["100 x 1 MiB", "20 x 6 MiB"]
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_clients_that_fill_their_buffers_and_never_read(ending: str, clients: int, size: int, figure: Figure) -> None:
    """The kernel's buffers can take the smaller messages, but not the larger ones."""
    octets = frames.client_frame(frames.BINARY, bytes(size)) + ENDINGS[ending]

    async def fill(daemon: Daemon) -> Client:
        client = await Client.open(daemon.address, receive_buffer=4096)
        # The end is sent with the message, so that the daemon reads both at once, before it has to wait for the client.
        await client.send(octets)
        return client

    async def run(daemon: Daemon) -> float:
        await warm_up(daemon.address)
        idle = daemon.descriptors()
        filled = await at_once((fill(daemon) for _ in range(clients)), clients)
        seconds = daemon.seconds_until(lambda: daemon.descriptors() <= idle, 30)
        for client in filled:
            client.close()
        return seconds

    # Without keepalive, because keepalive must not be what ends the connections.
    with Daemon("--close-timeout", f"{CLOSE_TIMEOUT}s", "--ping-interval", "0") as daemon:
        seconds = asyncio.run(run(daemon))
    figure(
        f"time until all descriptors are closed after {size // MIB} MiB and {ending}", seconds, CLOSE_TIMEOUT + 2, "s"
    )


def test_clients_that_stop_answering_amid_a_stream(figure: Figure) -> None:
    """A daemon that has stopped reading does not see a Close or the end of the connection. Keepalive ends such a
    connection."""

    async def fill(daemon: Daemon) -> Client:
        client = await Client.open(daemon.address, receive_buffer=4096)
        await client.push(frames.client_frame(frames.BINARY, bytes(65536)), 64 * MIB, 1.0)
        client.sock.shutdown(socket.SHUT_WR)
        return client

    async def run(daemon: Daemon) -> float:
        await warm_up(daemon.address)
        idle = daemon.descriptors()
        start = time.monotonic()
        clients = await at_once((fill(daemon) for _ in range(20)), 20)
        daemon.seconds_until(lambda: daemon.descriptors() <= idle, 30)
        for client in clients:
            client.close()
        return time.monotonic() - start

    with Daemon("--close-timeout", "2s", "--ping-interval", "2s", "--ping-timeout", "2s") as daemon:
        seconds = asyncio.run(run(daemon))
    # The clients first fill the buffers for a second or two, and each byte that is accepted is a sign of life.
    figure("time until all descriptors of clients that neither read nor end are closed", seconds, 4 + 5 + 3, "s")


def test_half_closed_clients_get_their_echo(figure: Figure) -> None:
    async def one(daemon: Daemon) -> int:
        client = await Client.open(daemon.address)
        message = frames.client_frame(frames.BINARY, bytes(100_000))
        await client.send(message)
        client.sock.shutdown(socket.SHUT_WR)
        frame = await client.frame()
        return 0 if frame == frames.Frame(frames.BINARY, bytes(100_000)) else 1

    async def run(daemon: Daemon) -> int:
        return sum(await at_once((one(daemon) for _ in range(CLIENTS)), CLIENTS))

    with Daemon() as daemon:
        lost = asyncio.run(run(daemon))
    figure("echoes lost by 100 clients that send a message and a FIN", lost, 0)
