"""A closed connection is freed at once: no reference cycle leaves the connection or its zlib objects to the cyclic
garbage collector.

The tests run in this process, over real sockets, with that collector turned off.
"""

from __future__ import annotations

import gc
import socket
import struct
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from pytest_twisted import inlineCallbacks
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from echod.echo import EchoProtocol
from echod.settings import Settings
from echod.upstream.tls_sessions import TLSFactory
from echod.websocket.factory import EchoFactory
from tests import frames
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


def _exchange(address: tuple[str, int], octets: bytes, how: str, certificate: Certificate | None) -> None:
    """Send bytes, over TLS if there is a certificate, and end the connection: by our FIN, by a reset, or (`wait`) by
    the server."""
    sock = socket.create_connection(address, 10)
    if certificate is not None:
        sock = certificate.client().wrap_socket(sock, server_hostname="localhost")
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


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("case", CASES)
@inlineCallbacks
def test_freed_by_reference_counting(case: str, is_secure: bool, certificate: Certificate) -> Iterator[Deferred[Any]]:
    octets, how = CASES[case]
    factory = EchoFactory(EchoProtocol, Settings(), reactor, 100)
    traces: list[weakref.ref[object]] = []
    opened = factory.opened

    def note(connection: Any) -> None:
        traces.extend((weakref.ref(connection), weakref.ref(connection.transport)))
        opened(connection)

    factory.opened = note  # type: ignore[method-assign]
    net: Any = reactor
    creator: Any = certificate.server_options()
    port = net.listenTCP(0, TLSFactory(creator, False, factory) if is_secure else factory, interface="127.0.0.1")
    address = ("127.0.0.1", port.getHost().port)
    try:
        yield deferToThread(_exchange, address, octets, how, certificate if is_secure else None)
        yield until(lambda: bool(traces) and not factory.live)
        # The reactor releases what it holds during a turn only in the next turn.
        with suppress(TimeoutError):
            yield until(lambda: not any(trace() for trace in traces), 10.0)
        left = [kept for trace in traces if (kept := trace()) is not None]
        assert not left, [gc.get_referrers(kept) for kept in left]
    finally:
        yield port.stopListening()
        yield factory.drain()
