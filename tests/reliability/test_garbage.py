"""A closed connection is freed at once: no reference cycle leaves the connection or its zlib objects to the cyclic
garbage collector.

The tests run in this process, over real sockets, with that collector turned off.
"""

from __future__ import annotations

import gc
import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from pytest_twisted import inlineCallbacks
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from echod.echo import EchoProtocol
from echod.lane.native import Native
from echod.settings import Settings
from echod.upstream.tls_sessions import TLSFactory
from echod.websocket.factory import EchoFactory
from tests import frames
from tests.loop import DEADLINE
from tests.reactor import until
from tests.tls import Certificate

COMPRESSED = frames.client_frame(frames.TEXT, frames.deflated_octets(b"hello " * 100), rsv=4)
CLOSE = frames.client_frame(frames.CLOSE, frames.close_payload(1000))


def _end(sock: socket.socket, how: str) -> None:
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "fin":
        socket.socket.shutdown(sock, socket.SHUT_WR)  # a TLS socket's own method would also end its TLS
    if how != "reset":
        while sock.recv(65536):
            pass
    sock.close()


def _connected(address: tuple[str, int], certificate: Certificate | None) -> socket.socket:
    sock = socket.create_connection(address, 10)
    return sock if certificate is None else certificate.client().wrap_socket(sock, server_hostname="localhost")


def _exchange(address: tuple[str, int], octets: bytes, how: str, certificate: Certificate | None) -> None:
    """Send bytes, over TLS if there is a certificate, and end the connection: by our FIN, by a reset, or (`wait`) by
    the server."""
    sock = _connected(address, certificate)
    sock.sendall(octets)
    if octets:
        assert sock.recv(1)
    _end(sock, how)


HELLO = frames.client_frame(frames.TEXT, b"hello")
PART = frames.client_frame(frames.TEXT, b"hel", fin=False)

UNTAKEN = 12 * 2**20
"""Size of a message whose echo the kernels' buffers cannot hold."""

CASES: dict[str, tuple[bytes, str]] = {
    "plain": (frames.handshake() + HELLO + CLOSE, "wait"),
    "compressed": (frames.handshake("/", frames.DEFLATE) + COMPRESSED + CLOSE, "wait"),
    "reset": (frames.handshake() + HELLO, "reset"),
    "compressed, reset": (frames.handshake("/", frames.DEFLATE) + COMPRESSED, "reset"),
    "FIN": (frames.handshake() + HELLO, "fin"),
    "FIN amid a message": (frames.handshake() + PART, "fin"),
    "compressed, reset amid a message": (frames.handshake("/", frames.DEFLATE) + COMPRESSED + PART, "reset"),
    "refused": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "wait"),
    "refused, head too large": (b"GET / HTTP/1.1\r\nX: " + b"a" * Settings().max_request_head, "wait"),
    "failed, protocol": (frames.handshake() + frames.client_frame(frames.BINARY, b"x", rsv=7), "wait"),
    "failed, UTF-8": (frames.handshake() + frames.client_frame(frames.TEXT, b"\xff"), "wait"),
    "failed, too long": (frames.handshake() + frames.client_frame(frames.BINARY, claim=1 << 40), "wait"),
    "failed, corrupt": (
        frames.handshake("/", frames.DEFLATE) + frames.client_frame(frames.TEXT, b"\xff" * 20, rsv=4),
        "wait",
    ),
    "failed, not JSON": (frames.handshake("/json") + frames.client_frame(frames.TEXT, b"{"), "wait"),
    "no handshake": (b"", "reset"),
    "answer not taken": (frames.handshake() + frames.client_frame(frames.BINARY, bytes(UNTAKEN)), "reset"),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Turn the cyclic garbage collector off for a test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _serve(
    lane: Native | None, certificate: Certificate | None, talk: Callable[[tuple[str, int], list[Any]], None]
) -> Iterator[Deferred[Any]]:
    """Serve clients, which `talk` is in a thread of its own: it gets the address, and a list of the connections that
    have begun. Then assert that nothing of them is left."""
    factory = EchoFactory(EchoProtocol, Settings(), reactor, 100, lane)
    connections: list[Any] = []
    traces: list[weakref.ref[object]] = []
    opened = factory.opened

    def note(connection: Any) -> None:
        traces.extend((weakref.ref(connection), weakref.ref(connection.transport)))
        connections.append(weakref.proxy(connection))
        opened(connection)

    factory.opened = note  # type: ignore[method-assign]
    net: Any = reactor
    served = factory if certificate is None else TLSFactory(cast(Any, certificate.server_options()), False, factory)
    port = net.listenTCP(0, served, interface="127.0.0.1")
    address = ("127.0.0.1", port.getHost().port)
    try:
        yield deferToThread(talk, address, connections)
        yield until(lambda: bool(traces) and not factory.live)
        # The reactor releases what it holds during a turn only in the next turn.
        with suppress(TimeoutError):
            yield until(lambda: not any(trace() for trace in traces), 10.0)
        left = [kept for trace in traces if (kept := trace()) is not None]
        assert not left, [gc.get_referrers(kept) for kept in left]
    finally:
        yield port.stopListening()
        yield factory.drain()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("case", CASES)
@inlineCallbacks
def test_freed_by_reference_counting(case: str, is_secure: bool, certificate: Certificate) -> Iterator[Deferred[Any]]:
    octets, how = CASES[case]
    secured_by = certificate if is_secure else None
    yield from _serve(None, secured_by, lambda address, _: _exchange(address, octets, how, secured_by))


ENDS: dict[str, tuple[bytes, str]] = {
    "Close": (CLOSE, "wait"),
    "reset": (b"", "reset"),
    "FIN": (b"", "fin"),
    "reset amid a message": (PART, "reset"),
    "not ordinary": (frames.client_frame(frames.BINARY, b"x", rsv=7), "wait"),
    "answer not taken": (frames.client_frame(frames.BINARY, bytes(UNTAKEN)), "reset"),
}
"""How a leased connection ends: what the client sends, and what it does then."""


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("case", ENDS)
@inlineCallbacks
def test_a_lease_is_freed_by_reference_counting(
    case: str, is_secure: bool, native: Native, certificate: Certificate
) -> Iterator[Deferred[Any]]:
    octets, how = ENDS[case]

    def talk(address: tuple[str, int], connections: list[Any]) -> None:
        with _connected(address, certificate if is_secure else None) as sock:
            sock.sendall(frames.handshake() + HELLO)
            assert sock.recv(1)
            # Over TLS a lease begins a turn after a read, so that it may take another message.
            end = time.monotonic() + DEADLINE
            while not connections or connections[0].lease is None:
                assert time.monotonic() < end
                sock.sendall(HELLO)
                assert sock.recv(1)
            sock.sendall(octets)
            came = 0
            while len(octets) > UNTAKEN and came < 2**20:  # so the server has the whole message, and answers it
                came += len(sock.recv(2**16))
            _end(sock, how)

    yield from _serve(native, certificate if is_secure else None, talk)
