"""A new connection is read once before the reactor watches its socket."""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Port, Server
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

from echod.upstream import eager
from tests.reactor import until


class Early(Protocol):
    """Calls `before`, and then reads at once."""

    before: Callable[[Any], object] = staticmethod(bool)
    made: Deferred[Early]

    def connectionMade(self) -> None:
        self.seen: list[bytes] = []
        self.is_lost = False
        self.before(self.transport)
        eager.read_first(self.transport)
        self.seen_first = list(self.seen)
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.seen.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002  # Twisted passes it
        self.is_lost = True


Connect = Callable[[bytes], socket.socket]


@pytest.fixture
def factory() -> Factory:
    Early.made = Deferred()
    return Factory.forProtocol(Early)


@pytest.fixture
def port(factory: Factory) -> Iterator[Any]:
    port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
    eager.make_eager(port, factory)
    yield port
    pytest_twisted.blockon(port.stopListening())


@pytest.fixture
def connect(port: Any) -> Iterator[Connect]:
    """Return a function that connects and sends before the reactor has a turn."""
    with ExitStack() as clients:

        def connect(octets: bytes) -> socket.socket:
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10))
            client.sendall(octets)
            return client

        yield connect


@pytest_twisted.inlineCallbacks
def test_what_is_there_is_read_at_once_and_the_rest_as_it_comes(connect: Connect) -> Generator[Any, Any, None]:
    client = connect(b"early")
    protocol = yield Early.made
    assert protocol.seen_first == [b"early"]
    client.sendall(b"late")
    yield until(lambda: protocol.seen == [b"early", b"late"])
    client.close()
    yield until(lambda: protocol.is_lost)


@pytest_twisted.inlineCallbacks
def test_nothing_there_yet(connect: Connect) -> Generator[Any, Any, None]:
    client = connect(b"")
    protocol = yield Early.made
    assert protocol.seen_first == []
    client.sendall(b"late")
    yield until(lambda: protocol.seen == [b"late"])
    protocol.transport.pauseProducing()
    assert protocol.transport not in cast(Any, reactor).getReaders()
    protocol.transport.loseConnection()
    yield until(lambda: protocol.is_lost)


@pytest_twisted.inlineCallbacks
def test_an_end_is_the_reactors_to_find(connect: Connect) -> Generator[Any, Any, None]:
    connect(b"").close()
    protocol = yield Early.made
    assert not protocol.is_lost
    yield until(lambda: protocol.is_lost)


@pytest_twisted.inlineCallbacks
def test_a_connection_that_is_paused_is_not_read(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> Generator[Any, Any, None]:
    monkeypatch.setattr(Early, "before", staticmethod(lambda transport: transport.pauseProducing()))
    connect(b"early")
    protocol = yield Early.made
    assert protocol.seen == []
    assert protocol.transport not in cast(Any, reactor).getReaders()
    protocol.transport.resumeProducing()
    yield until(lambda: protocol.seen == [b"early"])
    protocol.transport.abortConnection()
    yield until(lambda: protocol.is_lost)


@pytest_twisted.inlineCallbacks
def test_a_connection_that_is_paused_and_resumed_is_read(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> Generator[Any, Any, None]:
    def waver(transport: Any) -> None:
        transport.pauseProducing()
        transport.resumeProducing()

    monkeypatch.setattr(Early, "before", staticmethod(waver))
    connect(b"early")
    protocol = yield Early.made
    assert protocol.seen == [b"early"]
    protocol.transport.abortConnection()
    yield until(lambda: protocol.is_lost)


@pytest_twisted.inlineCallbacks
def test_an_error_in_it_leaves_nobody_unwatched(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> Generator[Any, Any, None]:
    def fail(protocol: Early, _: bytes) -> None:
        monkeypatch.undo()
        cast(Any, reactor).callLater(0, Early.made.callback, protocol)
        raise RuntimeError

    monkeypatch.setattr(Early, "dataReceived", fail)
    client = connect(b"early")
    protocol = yield Early.made
    client.sendall(b"late")
    yield until(lambda: protocol.seen == [b"late"])
    client.close()
    yield until(lambda: protocol.is_lost)


@pytest_twisted.inlineCallbacks
def test_only_where_nothing_is_between_socket_and_factory(
    port: Any, factory: Factory, tmp_path: Path
) -> Generator[Any, Any, None]:
    assert port.transport is eager._EagerServer
    wrapped = cast(Any, reactor).listenTCP(0, WrappingFactory(factory), interface="127.0.0.1")
    local = cast(Any, reactor).listenUNIX(str(tmp_path / "socket"), factory)
    for other in (wrapped, local):
        before = other.transport
        eager.make_eager(other, factory)
        assert other.transport is before
        yield other.stopListening()


def test_twisted_begins_to_read_before_it_says_connected() -> None:
    source = inspect.getsource(Server.__init__)
    assert source.index("self.startReading()") < source.index("self.connected = 1")
    source = inspect.getsource(Port.doRead)
    assert "transport = self.transport(" in source
    assert "self.factory.buildProtocol(self._buildAddr(addr))" in source


@pytest_twisted.inlineCallbacks
def test_a_connection_that_somebody_else_has_accepted(factory: Factory, tmp_path: Path) -> Generator[Any, Any, None]:
    """Its transport is as if its port had accepted it, and takes what was read already."""
    for family, interface in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_UNIX, "")):
        Early.made = Deferred()
        any_reactor = cast(Any, reactor)
        path = str(tmp_path / "socket")
        port = (
            any_reactor.listenTCP(0, factory, interface=interface)
            if interface
            else any_reactor.listenUNIX(path, factory)
        )
        assert eager.can_adopt(port, factory)
        assert not eager.can_adopt(port, Factory())
        port.stopReading()
        with socket.socket(family) as client:
            client.connect((interface, port.getHost().port) if interface else path)
            client.sendall(b"late")
            accepted, _ = port.socket.accept()
            protocol = eager.adopt(port, accepted.detach(), b"early")
            assert protocol.seen_first == [b"early"]
            if interface:
                assert (protocol.transport.getPeer().host, protocol.transport.getPeer().port) == client.getsockname()[
                    :2
                ]
            yield until(lambda protocol=protocol: protocol.seen == [b"early", b"late"])
            told = eager.peer_of(protocol.transport.fileno())
            assert told == (client.getsockname()[:2] if interface else None)
            client.close()
            yield until(lambda protocol=protocol: protocol.is_lost)
        yield port.stopListening()


def test_nobody_is_there_any_more(port: Any) -> None:
    """The descriptor is closed."""
    assert eager.peer_of(2**20) is None
    with socket.socket() as never_connected:
        descriptor = never_connected.detach()
    with pytest.raises(OSError, match="not connected"):
        eager.adopt(port, descriptor, b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
