"""Connections that somebody else has accepted at a port of Twisted's."""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Port
from twisted.python.failure import Failure

from echod.upstream import adopt
from tests.loop import DEADLINE
from tests.reactor import until


class Noting(Protocol):
    """Notes what it gets."""

    ends_at_once = False

    def connectionMade(self) -> None:
        self.seen: list[bytes] = []
        self.is_lost = False
        if self.ends_at_once:
            cast(Any, self.transport).abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.seen.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002  # Twisted passes it
        self.is_lost = True


@pytest.fixture
def factory() -> Factory:
    return Factory.forProtocol(Noting)


KINDS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_UNIX, ""))


@pytest_twisted.inlineCallbacks
def test_a_connection_that_somebody_else_has_accepted(factory: Factory, tmp_path: Path) -> Generator[Any, Any, None]:
    """Its transport is as if its port had accepted it, and what was read already comes first."""
    for family, interface in KINDS:
        any_reactor = cast(Any, reactor)
        path = str(tmp_path / "socket")
        port = (
            any_reactor.listenTCP(0, factory, interface=interface)
            if interface
            else any_reactor.listenUNIX(path, factory)
        )
        assert adopt.can_adopt(port, factory)
        assert not adopt.can_adopt(port, Factory())
        port.stopReading()
        with socket.socket(family) as client:
            client.connect((interface, port.getHost().port) if interface else path)
            client.sendall(b"late")
            accepted, _ = port.socket.accept()
            protocol = adopt.adopt(port, accepted.detach(), b"early")
            assert protocol.seen == [b"early"]
            if interface:
                assert (protocol.transport.getPeer().host, protocol.transport.getPeer().port) == client.getsockname()[
                    :2
                ]
            yield until(lambda protocol=protocol: protocol.seen == [b"early", b"late"])
            told = adopt.peer_of(protocol.transport.fileno())
            assert told == (client.getsockname()[:2] if interface else None)
            client.close()
            yield until(lambda protocol=protocol: protocol.is_lost)
        yield port.stopListening()


@pytest_twisted.inlineCallbacks
def test_one_that_is_reset_at_once(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> Generator[Any, Any, None]:
    """It gets nothing of what was read."""
    monkeypatch.setattr(Noting, "ends_at_once", True)
    port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
    port.stopReading()
    with socket.create_connection(("127.0.0.1", port.getHost().port)):
        accepted, _ = port.socket.accept()
        protocol = adopt.adopt(port, accepted.detach(), b"early")
        yield until(lambda: protocol.is_lost)
    assert protocol.seen == []
    yield port.stopListening()


@pytest_twisted.inlineCallbacks
def test_nobody_is_there_any_more(factory: Factory) -> Generator[Any, Any, None]:
    """The descriptor is closed."""
    port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
    assert adopt.peer_of(2**20) is None
    with socket.socket() as never_connected:
        descriptor = never_connected.detach()
    with pytest.raises(OSError, match="not connected"):
        adopt.adopt(port, descriptor, b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    yield port.stopListening()


def test_no_memory_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is closed, because nobody else knows of it."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    one, other = socket.socketpair()
    monkeypatch.setattr(adopt, "socket", SimpleNamespace(socket=fail))
    with other:
        with pytest.raises(MemoryError):
            adopt.adopt(None, one.detach(), b"")
        other.settimeout(DEADLINE)
        assert other.recv(1) == b""


def test_how_a_port_makes_a_connection() -> None:
    source = inspect.getsource(Port.doRead)
    assert "transport = self.transport(" in source
    assert "skt, protocol, addr, self, s, self.reactor" in " ".join(source.split())
    assert "protocol.makeConnection(transport)" in source
