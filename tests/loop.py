"""A small reactor with real sockets and a fake clock. A test turns it by hand, and so decides the order of events.

Knows only what `twisted.internet.tcp` asks of a reactor. Must never know what is sent over the sockets, except for the
opening handshake.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, cast

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.echo import EchoProtocol
from echod.lane.native import Native, load
from echod.settings import Settings
from echod.upstream.tls_sessions import TLSFactory
from echod.websocket.factory import EchoFactory
from tests.frames import handshake
from tests.tls import Certificate

DEADLINE = 60.0
"""Time limit in seconds for what takes milliseconds. A test that waits longer has failed."""

LAST_PATIENCE = 0.5
"""Time limit in seconds for each wait after the first failed one: Hypothesis repeats a failing example many times."""


def needed_native() -> Native:
    """Return the native module. If it is missing, the test fails, unless the native code was turned off."""
    if os.environ.get("ECHOD_NATIVE") == "0":
        pytest.skip(
            "no express lane (ECHOD_NATIVE=0, which make sets if the lane is not compiled): "
            "apt-get install gcc python3-dev, make clean"
        )
    native = load("1")
    assert native is not None
    return native


@implementer(IReactorFDSet)
class Loop(Clock):
    """A reactor that serves descriptors in `turn`, and whose time passes in `advance`."""

    patience = DEADLINE
    """Time limit in seconds of each wait. Each test begins with the full limit."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.writers: list[Any] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()

    def addReader(self, reader: Any) -> None:
        """Serve `reader` whenever it is readable."""
        if reader not in self.readers:
            self.readers.append(reader)

    def addWriter(self, writer: Any) -> None:
        """Serve `writer` whenever it is writable."""
        if writer not in self.writers:
            self.writers.append(writer)

    def removeReader(self, reader: Any) -> None:
        """Stop serving `reader`."""
        if reader in self.readers:
            self.readers.remove(reader)

    def removeWriter(self, writer: Any) -> None:
        """Likewise."""
        if writer in self.writers:
            self.writers.remove(writer)

    def removeAll(self) -> list[Any]:
        """Forget all."""
        raise NotImplementedError

    def getReaders(self) -> list[Any]:
        """Return the readers."""
        return self.readers

    def getWriters(self) -> list[Any]:
        """Return the writers."""
        return self.writers

    def turn(self, patience: float = 0.0) -> None:
        """Serve once each descriptor that is ready now, or that becomes ready within `patience` seconds."""
        self.advance(0)
        readable, writable, _ = select.select(self.readers, self.writers, [], patience)
        for reader in readable:
            if reader in self.readers:
                self._note(reader, self.call(reader.doRead), was_read=True)
        for writer in writable:
            if writer in self.writers:
                self._note(writer, self.call(writer.doWrite), was_read=False)
        self.advance(0)

    def call(self, serve: Callable[[], Any]) -> Any:
        """Serve one descriptor. A subclass can measure the time here."""
        return serve()

    def _note(self, descriptor: Any, why: Exception | None, was_read: bool) -> None:
        # The same rules as in twisted.internet.posixbase.
        if why is None:
            return
        self.removeReader(descriptor)
        if was_read and isinstance(why, ConnectionDone):
            descriptor.readConnectionLost(Failure(why))
        else:
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))

    def until(self, condition: Callable[[], object], seconds: float = DEADLINE) -> None:
        """Turn until the condition holds. It has to hold within `seconds`."""
        deadline = time.monotonic() + min(seconds, Loop.patience)
        while not condition():
            if time.monotonic() > deadline:
                Loop.patience = LAST_PATIENCE
                raise AssertionError("the condition never became true")
            self.turn(0.01)

    def pair(self) -> tuple[socket.socket, socket.socket, Any]:
        """Return the client's end and the server's end of one TCP connection, and the client's address."""
        client = socket.create_connection(self.address, timeout=DEADLINE)
        served, address = self._listener.accept()
        return client, served, address

    @property
    def address(self) -> tuple[str, int]:
        """Return the address that `accept` serves, for connections from another process."""
        host, port = self._listener.getsockname()
        return host, port

    def accept(self, protocol: Any) -> Any:
        """Wait for a connection, give it to `protocol`, and return the transport."""
        self._listener.settimeout(DEADLINE)
        served, address = self._listener.accept()
        transport = Server(served, protocol, cast(Any, address), cast(Any, None), 0, cast(Any, self))
        protocol.makeConnection(transport)
        return transport


class Link:
    """A client's socket that is connected to a real protocol on a real transport."""

    def __init__(
        self, loop: Loop, factory: EchoFactory, *headers: str, target: str = "/", send_buffer: int = 0
    ) -> None:
        self.loop = loop
        self.socket, served, address = loop.pair()
        if send_buffer:
            served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.socket.setblocking(False)
        self.received = bytearray()
        self.has_ended = False
        self.was_reset = False
        self.protocol, outer = self._build(factory)
        self.transport = Server(served, outer, address, cast(Any, None), 0, loop)
        outer.makeConnection(self.transport)
        self._begin(target, headers)

    def _begin(self, target: str, headers: tuple[str, ...]) -> None:
        """Make the opening handshake."""
        self.send(handshake(target, *headers))
        self.loop.until(lambda: b"\r\n\r\n" in self.take())
        del self.received[: self.received.index(b"\r\n\r\n") + 4]

    def _build(self, factory: EchoFactory) -> tuple[EchoProtocol, Any]:
        """Return the protocol, and the transport or TLS layer that is directly on the socket."""
        protocol = cast(EchoProtocol, factory.buildProtocol(None))
        return protocol, protocol

    def push(self, octets: bytes | memoryview) -> int:
        """Give the kernel what it takes at once, and return the number of bytes that it took."""
        try:
            return self.socket.send(octets)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self.was_reset = True
            return len(octets)

    def send(self, octets: bytes) -> None:
        """Send everything. Answers are received meanwhile, so that the two ends never wait for each other."""
        view = memoryview(octets)
        deadline = time.monotonic() + DEADLINE
        while view:
            view = view[self.push(view) :]
            if view:
                assert time.monotonic() < deadline
                self.loop.turn()
                self.take()

    def take(self) -> bytearray:
        """Receive what has come, and return everything that has come so far."""
        while not self.has_ended:
            try:
                octets = self.socket.recv(1 << 18)
            except BlockingIOError:
                break
            except ConnectionResetError:
                octets = b""
                self.was_reset = True
            self.has_ended = not octets
            self.received += octets
        return self.received

    def receive(self, size: int) -> bytes:
        """Turn the loop until `size` bytes have come, and return them."""
        self.loop.until(lambda: len(self.take()) >= size)
        octets = bytes(self.received[:size])
        del self.received[:size]
        return octets

    def receive_all(self) -> bytes:
        """Turn the loop until the connection ends, and return everything that came."""
        self.loop.until(lambda: (self.take(), self.has_ended)[1])
        octets = bytes(self.received)
        self.received.clear()
        return octets

    def end(self) -> None:
        """End the sending direction with a FIN."""
        with suppress(OSError):  # the connection may be gone already
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class SecureLink(Link):
    """A `Link` over TLS. The client's end is Python's `ssl`, and a test may hold back or change its records."""

    def __init__(
        self,
        loop: Loop,
        factory: EchoFactory,
        options: Any,
        client: ssl.SSLContext,
        *headers: str,
        target: str = "/",
        send_buffer: int = 0,
    ) -> None:
        """Connect with TLS. `options` are the server's, `client` is the client's context."""
        self._options = options
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self._sealed = b""
        super().__init__(loop, factory, *headers, target=target, send_buffer=send_buffer)

    def _build(self, factory: EchoFactory) -> tuple[EchoProtocol, Any]:
        self.outer = cast(Any, TLSFactory(self._options, False, factory, self.loop).buildProtocol(cast(Any, None)))
        return self.outer.wrappedProtocol, self.outer

    def seal(self, octets: bytes | memoryview) -> bytes:
        """Return the TLS records of `octets`. They are to be sent unchanged and in order."""
        self.tls.write(octets)
        return self.outgoing.read()

    def push_sealed(self, octets: bytes = b"") -> bool:
        """Give the kernel these bytes after those that it did not take before; tell whether it took them all."""
        self._sealed += octets + self.outgoing.read()
        self._sealed = self._sealed[super().push(self._sealed) :]
        return not self._sealed

    def push(self, octets: bytes | memoryview) -> int:
        """Give the kernel what it takes at once. A record is taken whole or not at all."""
        if not self.push_sealed() or not octets:
            return 0
        try:
            size = self.tls.write(octets[: 2**14])
        except ssl.SSLWantReadError:
            size = 0
        self.push_sealed()
        return size

    def take(self) -> bytearray:
        """Receive what has come. A close_notify is the end."""
        sealed, self.received = self.received, bytearray()
        try:
            super().take()
        finally:
            sealed, self.received = self.received, sealed
        self.incoming.write(sealed)
        try:
            while octets := self.tls.read(2**16):
                self.received += octets
            self.has_ended = True
        except ssl.SSLWantReadError:
            """There is no more."""
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.has_ended = True
        self.push_sealed()
        return self.received

    def end(self) -> None:
        """End the sending direction with a close_notify."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        self.push_sealed()


def wait_for_lease(protocol: EchoProtocol, loop: Loop, echo: Callable[[], object]) -> None:
    """Wait for a lease over TLS, which begins one turn after a read.

    If the server had not sent the end of its TLS handshake when it answered the opening handshake, then the next read
    begins the lease.
    """
    for _ in range(5):
        loop.turn(0.01)
        if protocol.lease is not None:
            return
    echo()
    loop.until(lambda: protocol.lease is not None)


class Bed:
    """A factory on a loop, and the links to it."""

    def __init__(self, loop: Loop, factory: EchoFactory) -> None:
        self.loop = loop
        self.factory = factory
        self.links: list[Link] = []

    def link(self, *headers: str, target: str = "/", send_buffer: int = 0) -> Link:
        """Return a new connection whose opening handshake is complete."""
        self.links.append(Link(self.loop, self.factory, *headers, target=target, send_buffer=send_buffer))
        return self.links[-1]

    def secure_link(
        self, certificate: Certificate, *headers: str, send_buffer: int = 0, client: ssl.SSLContext | None = None
    ) -> SecureLink:
        """Return such a connection over TLS, with the newest TLS version or with the context `client`."""
        link = SecureLink(
            self.loop,
            self.factory,
            certificate.server_options(),
            client or certificate.client(),
            *headers,
            send_buffer=send_buffer,
        )
        self.links.append(link)
        return link


@contextmanager
def bed(native: Native | None, kind: type[Loop] = Loop, **settings: Any) -> Iterator[Bed]:
    """Make a factory. At the end close all its connections."""
    with kind() as loop:
        made = Bed(loop, EchoFactory(EchoProtocol, Settings(**settings), loop, 10_000, native))
        try:
            yield made
        finally:
            close(made)


def close(made: Bed) -> None:
    """End all connections, and assert that nothing is left."""
    drained = made.factory.drain()
    made.factory.abort_all()
    try:
        made.loop.until(lambda: drained.called)
    finally:
        for link in made.links:
            link.socket.close()
    assert not made.loop.readers
    assert not made.loop.writers
    assert not made.loop.getDelayedCalls()
