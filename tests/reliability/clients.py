"""Clients on plain sockets, honest and dishonest: tests have to send what a well-made library would never send.

Knows frames and asyncio. Must never know the daemon's process, its limits or its figures.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Iterable
from typing import Self, TypeVar

from tests import frames

Address = tuple[str, int]
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which an answer counts as missing. No figure depends on this value."""


class Client:
    """One connection. `open` also makes the opening handshake."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._octets = bytearray()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, address: Address, receive_buffer: int | None = None, host: str | None = None) -> Self:
        """Connect and send nothing. The local address is `host`, if given."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if host is not None:
            sock.bind((host, 0))
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    async def open(
        cls,
        address: Address,
        *headers: str,
        target: str = "/",
        receive_buffer: int | None = None,
        host: str | None = None,
    ) -> Self:
        """Connect and make the opening handshake."""
        client = await cls.connect(address, receive_buffer, host)
        await client.shake_hands(*headers, target=target)
        return client

    async def shake_hands(self, *headers: str, target: str = "/") -> None:
        """Make the opening handshake."""
        await self.send(frames.handshake(target, *headers))
        answer = await self.head()
        assert answer.startswith(b"HTTP/1.1 101 "), answer

    def __del__(self) -> None:
        """Close the socket. When a test fails, its failure is to be seen without a warning for each client."""
        self.sock.close()

    async def send(self, octets: bytes) -> None:
        """Send all of it."""
        await asyncio.wait_for(self._loop.sock_sendall(self.sock, octets), PATIENCE)

    async def push(self, octets: bytes, limit: int, stall: float) -> int:
        """Send the same bytes again and again until nothing is accepted for `stall` seconds, until the limit, or until
        the end of the connection; return the number of bytes."""
        sent = 0
        view = memoryview(octets)
        while sent < limit:
            try:
                sent += self.sock.send(view[sent % len(view) :])
                await asyncio.sleep(0)
            except BlockingIOError:
                if not await self._writable(stall):
                    break
            except OSError:
                break
        return sent

    async def _writable(self, seconds: float) -> bool:
        ready = asyncio.Event()
        self._loop.add_writer(self.sock, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._loop.remove_writer(self.sock)
        return True

    async def head(self) -> bytes:
        """Return the head of an HTTP response."""
        while (end := self._octets.find(b"\r\n\r\n")) < 0:
            assert await self._more(), bytes(self._octets)
        head = bytes(self._octets[: end + 4])
        del self._octets[: end + 4]
        return head

    async def frame(self) -> frames.Frame | None:
        """Return the next frame, or None if the connection ends, also by a reset."""
        while True:
            if (taken := frames.take(self._octets, is_masked=False)) is not None:
                frame, size = taken
                del self._octets[:size]
                return frame
            try:
                if not await self._more():
                    return None
            except OSError:
                return None

    async def _more(self) -> bool:
        data = await asyncio.wait_for(self._loop.sock_recv(self.sock, 1 << 20), PATIENCE)
        self._octets += data
        return bool(data)

    async def read(self, most: int) -> bytes:
        """Return at most `most` bytes: first those that were read and not used, then those that come."""
        if self._octets:
            octets = bytes(self._octets[:most])
            del self._octets[:most]
            return octets
        return await asyncio.wait_for(self._loop.sock_recv(self.sock, most), PATIENCE)

    async def rest(self) -> bytes:
        """Return everything that still comes before the connection ends or is reset."""
        try:
            while await self._more():
                pass
        except OSError:
            pass
        rest, self._octets = bytes(self._octets), bytearray()
        return rest

    async def close_code(self) -> int | None:
        """Return the code of the next Close frame, skipping all before it, or None if no Close frame comes."""
        while (frame := await self.frame()) is not None:
            if frame.opcode == frames.CLOSE:
                return int.from_bytes(frame.payload[:2], "big")
        return None

    async def echo(self, payload: bytes, opcode: int = frames.BINARY) -> float:
        """Send a message, await its echo, and return the seconds that this took."""
        start = time.monotonic()
        await self.send(frames.client_frame(opcode, payload))
        frame = await self.frame()
        seconds = time.monotonic() - start
        assert frame == frames.Frame(opcode, payload), frame and (frame.opcode, len(frame.payload))
        return seconds

    async def finish(self) -> None:
        """Make the closing handshake, and wait for the end of the connection."""
        await self.send(frames.client_frame(frames.CLOSE, frames.close_payload(1000)))
        assert await self.close_code() == 1000
        assert not await self.rest()
        self.close()

    async def finish_after_pings(self) -> None:
        """Make the closing handshake, skipping pings of the server."""
        await self.send(frames.client_frame(frames.CLOSE, frames.close_payload(1000)))
        assert await self.close_code() == 1000
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def abort(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def at_once(tasks: Iterable[Awaitable[T]], most: int = 100) -> list[T]:
    """Await all tasks, at most `most` at a time, and return their results in order."""
    gate = asyncio.Semaphore(most)

    async def run(task: Awaitable[T]) -> T:
        async with gate:
            return await task

    return list(await asyncio.gather(*(run(task) for task in tasks)))


async def open_many(address: Address, count: int, *headers: str, receive_buffer: int | None = None) -> list[Client]:
    """Open `count` connections."""
    return await at_once(Client.open(address, *headers, receive_buffer=receive_buffer) for _ in range(count))


async def warm_up(address: Address, *headers: str) -> None:
    """Make the daemon do once what it will do often, so that what it loads and builds at first does not count as
    growth."""
    client = await Client.open(address, *headers)
    for size in (10, 1000):
        await client.send(frames.client_frame(frames.BINARY, bytes(size)))
        assert await client.frame() is not None
    await client.finish()


def cut_from(period: bytes, position: int, length: int) -> bytes:
    """Return `length` bytes from `position` on of the endlessly repeated `period`."""
    start = position % len(period)
    piece = period[start : start + length]
    while len(piece) < length:
        piece += period[: length - len(piece)]
    return piece
