"""What is read from a real transport, and what is written to one."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Connection
from twisted.internet.testing import AccumulatingProtocol, StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

from echod.upstream import transports
from tests.fakes import Peer, Transport
from tests.loop import Bed
from tests.reactor import Kept, until
from tests.tls import Certificate


class Wrapping(WrappingFactory):
    """Puts a layer that changes nothing between a protocol and its transport, like a wrapper for the PROXY protocol."""

    noisy = False


@pytest.fixture(params=["tcp", "ssl", "ssl over a wrapper"])
def layers(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[tuple[Any, Any]]:
    """Return a kind of port, and a function that connects a blocking socket to a port of that kind."""
    kept: Any = reactor
    factory: Any = Factory.forProtocol(Kept)
    Kept.made = Deferred()
    if request.param == "tcp":
        port = kept.listenTCP(0, factory, interface="127.0.0.1")
    elif request.param == "ssl":
        port = kept.listenSSL(0, factory, certificate.server_options(), interface="127.0.0.1")
    else:
        factory = Wrapping(TLSMemoryBIOFactory(cast(Any, certificate.server_options()), False, factory, kept))
        port = kept.listenTCP(0, factory, interface="127.0.0.1")
    number = port.getHost().port

    def connect() -> socket.socket:
        plain_socket = socket.create_connection(("127.0.0.1", number), timeout=10)
        if request.param == "tcp":
            return plain_socket
        context = certificate.client()
        return context.wrap_socket(plain_socket, server_hostname="localhost")

    yield request.param, connect
    pytest_twisted.blockon(port.stopListening())


@pytest_twisted.inlineCallbacks
def test_what_is_unsent_unacknowledged_and_unread_is_counted(layers: tuple[Any, Any]) -> Generator[Any, Any, None]:
    kind, connect = layers
    client = yield deferToThread(connect)
    try:
        protocol = yield Kept.made
        transport: ITransport = protocol.transport
        assert isinstance(transport, Connection if kind == "tcp" else BufferingTLSTransport)
        layers_ = transports.layers(transport)
        yield until(lambda: transports.unsent(layers_) == 0)
        yield until(lambda: getattr(transport, "_handshakeDone", True))
        protocol.transport.pauseProducing()
        yield deferToThread(client.sendall, b"x" * 1000)
        yield until(lambda: transports.unread(layers_) >= 1000)
        size = 32 * 2**20
        transports.write_now(layers_, b"y" * size)
        assert size / 2 < transports.unsent(layers_) < size * 1.01, "the kernel takes some of it at once"
        yield until(lambda: transports.unacknowledged(layers_) > 0 and transports.unsent(layers_) < size)
        transports.set_read_size(layers_, 512)
        assert layers_[-1].bufferSize == 512
        transports.half_close(transport)
        yield deferToThread(receive_all, client, size)
    finally:
        client.close()
        lost: Deferred[None] = Deferred()
        protocol.connectionLost = lambda _=None: lost.callback(None)
        protocol.transport.abortConnection()
        yield lost
    assert transports.unread(layers_) == 0


@pytest_twisted.inlineCallbacks
def test_what_the_kernel_does_not_take_is_copied_once(layers: tuple[Any, Any]) -> Generator[Any, Any, None]:
    """Also while it is written: for a moment every further copy takes as much memory as the message, in no account."""
    _, connect = layers
    client = yield deferToThread(connect)
    with client:
        protocol = yield Kept.made
        layers_ = transports.layers(protocol.transport)
        yield until(lambda: getattr(protocol.transport, "_handshakeDone", True) and not transports.unsent(layers_))
        octets = bytes(16 * 2**20)
        tracemalloc.start()
        try:
            transports.write_now(layers_, octets)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 0 < transports.unsent(layers_) <= peak < 1.1 * len(octets)
        lost: Deferred[None] = Deferred()
        protocol.connectionLost = lambda _=None: lost.callback(None)
        protocol.transport.abortConnection()
        yield lost


def test_what_was_sent_of_a_buffer_is_held_until_more_than_half_was() -> None:
    """Twisted's buffer stays whole, however little of it is unsent."""
    client, served = socket.socketpair()
    with client, served:
        transport = Connection(served, Kept(), cast(Any, SimpleNamespace(addWriter=id, removeWriter=id)))
        transport.connected = 1
        found = transports.layers(cast(Any, transport))
        transport.write(bytes(2**20))
        assert transports.held(found) == transports.unsent(found) == 2**20
        while transports.unsent(found) >= 2**19:
            transports.give_back_sent(found)
            assert transports.held(found) == 2**20
            transport.doWrite()
            client.recv(100_000)
        transports.give_back_sent(found)
        assert transports.held(found) == transports.unsent(found) == len(transport.dataBuffer) < 2**19
    transports.give_back_sent([object()])


@pytest_twisted.inlineCallbacks
def test_what_waits_for_the_tls_handshake_is_unsent(certificate: Certificate) -> Generator[Any, Any, None]:
    kept: Any = reactor
    Kept.made = Deferred()
    port = kept.listenSSL(0, Factory.forProtocol(Kept), certificate.server_options(), interface="127.0.0.1")
    client = yield deferToThread(socket.create_connection, ("127.0.0.1", port.getHost().port))
    with client:
        protocol = yield Kept.made
        layers = transports.layers(protocol.transport)
        transports.write_now(layers, b"early")
        assert transports.unsent(layers) == 5
        lost: Deferred[None] = Deferred()
        protocol.connectionLost = lambda _=None: lost.callback(None)
        protocol.transport.abortConnection()
        yield lost
    yield port.stopListening()


@pytest.mark.parametrize("is_tls_on_top", [True, False])
@pytest_twisted.inlineCallbacks
def test_what_is_written_over_tls_and_a_wrapper_waits_nowhere_uncounted(
    is_tls_on_top: bool, certificate: Certificate
) -> Generator[Any, Any, None]:
    """Twisted's TLS joins small writes in a buffer of its own until the next turn."""
    kept: Any = reactor
    Kept.made = Deferred()
    factory: Any = Factory.forProtocol(Kept)
    options: Any = certificate.server_options()
    if is_tls_on_top:
        factory = Wrapping(TLSMemoryBIOFactory(options, False, factory, kept))
    else:
        factory = TLSMemoryBIOFactory(options, False, Wrapping(factory), kept)
    port = kept.listenTCP(0, factory, interface="127.0.0.1")
    plain = yield deferToThread(socket.create_connection, ("127.0.0.1", port.getHost().port), 10)
    client = yield deferToThread(certificate.client().wrap_socket, plain, server_hostname="localhost")
    with client:
        protocol = yield Kept.made
        layers = transports.layers(protocol.transport)
        assert [isinstance(layer, BufferingTLSTransport) for layer in layers] == [
            is_tls_on_top,
            not is_tls_on_top,
            False,
        ]
        yield until(lambda: transports.unsent(layers) == 0)
        transports.write_now(layers, b"a")
        transports.write_now(layers, b"b")
        assert transports.unsent(layers) >= 2
        protocol.transport.loseConnection()
        received = yield deferToThread(receive_to_the_end, client)
        assert received == b"ab"
    yield port.stopListening()


@pytest_twisted.inlineCallbacks
def test_what_is_written_over_a_wrapper_alone_the_kernel_has_at_once() -> Generator[Any, Any, None]:
    kept: Any = reactor
    Kept.made = Deferred()
    port = kept.listenTCP(0, Wrapping(Factory.forProtocol(Kept)), interface="127.0.0.1")
    client = yield deferToThread(socket.create_connection, ("127.0.0.1", port.getHost().port), 10)
    with client:
        protocol = yield Kept.made
        transports.write_now(transports.layers(protocol.transport), b"ab")
        assert client.recv(3) == b"ab", "while the reactor waits here"
        lost: Deferred[None] = Deferred()
        protocol.connectionLost = lambda _=None: lost.callback(None)
        protocol.transport.loseConnection()
        yield lost
    yield port.stopListening()


def test_a_descriptor_that_is_gone_counts_nothing() -> None:
    class Gone(Connection):
        connected = True

        def __init__(self) -> None:
            """Have no socket."""

        def fileno(self) -> int:
            return 10**6

    assert transports.unread([Gone()]) == 0
    assert transports.unread([Transport()]) == 0


def receive_to_the_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(100), b""))


def receive_all(client: socket.socket, size: int) -> None:
    received = 0
    while received < size:
        piece = client.recv(2**20)
        assert piece
        received += len(piece)


# Writing at once.


class Socket:
    """A socket of which each `send` takes a given number of bytes or raises an error."""

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = list(takes)
        self.sent: list[bytes] = []

    def send(self, octets: bytes) -> int:
        take = self.takes.pop(0)
        if isinstance(take, OSError):
            raise take
        self.sent.append(octets[:take])
        return take


class Late(Connection):
    """A transport that keeps the bytes that it is to write later."""

    connected = True

    def __init__(self, socket_: Socket, waiting: bytes = b"") -> None:
        self.socket: Any = socket_
        self.dataBuffer = waiting
        self._tempDataLen = 0
        self.later: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.later.append(data)


@pytest.mark.parametrize(
    ("takes", "waiting", "sent", "later"),
    [
        ([6], b"", [b"octets"], []),
        ([3], b"", [b"oct"], [b"ets"]),
        ([BlockingIOError()], b"", [], [b"octets"]),
        ([BrokenPipeError()], b"", [], [b"octets"]),
        ([], b"first", [], [b"octets"]),
    ],
)
def test_what_the_kernel_does_not_take_at_once_is_written_later(
    takes: list[Any], waiting: bytes, sent: Any, later: Any
) -> None:
    transport = Late(Socket(*takes), waiting)
    transports.write_now([transport], b"octets")
    assert (cast(Socket, transport.socket).sent, transport.later) == (sent, later)
    transport.connected = False
    transports.write_now([transport], b"lost")
    assert transport.later == [*later, b"lost"]


def test_plain_sockets_are_told_from_others(lane_bed: Bed) -> None:
    link = lane_bed.link()
    assert transports.is_plain(transports.layers(cast(Any, link.transport)))
    assert not transports.is_plain(transports.layers(cast(Any, SimpleNamespace(transport=link.transport))))
    peer = Peer(lane_bed.factory)
    assert not transports.is_plain(transports.layers(peer.transport))
    peer.lose()


def test_another_protocol_takes_over() -> None:
    """Bytes go to the new protocol, with a layer between it and the socket and without one."""
    for has_layer in (False, True):
        transport: Any = StringTransport()
        old, new = AccumulatingProtocol(), AccumulatingProtocol()
        outer: Any = Wrapping(Factory()).protocol(Wrapping(Factory()), old) if has_layer else old
        transport.protocol = outer
        outer.makeConnection(transport)
        transports.hand_over(transports.layers(cast(Any, old.transport)), new)
        transport.protocol.dataReceived(b"a")
        assert (old.data, new.data) == (b"", b"a")
        assert new.transport is old.transport
