"""A real daemon that misbehaves, over plain TCP and TLS: exactly the bytes that the URL asks for, and then a clean end.

Knows frames and sockets. The expected bytes are written out here. Must never import the code that it tests.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import pytest

from tests.daemon import Daemon
from tests.frames import handshake
from tests.tls import Certificate

PATIENCE = 60.0
"""Time limit in seconds for what takes milliseconds."""


@pytest.fixture(scope="module")
def daemon(certificate: Certificate) -> Iterator[Daemon]:
    loopback = "0:interface=127.0.0.1"
    with Daemon(ports=[f"tcp:{loopback}", f"ssl:{loopback}:privateKey={certificate.path}"]) as started:
        yield started


class Peer:
    """A client's socket."""

    def __init__(self, daemon: Daemon, is_tls: bool, octets: bytes) -> None:
        """Connect, and send `octets`."""
        url = daemon.urls[1 if is_tls else 0]
        plain = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), PATIENCE)
        self.socket: Any = plain
        if is_tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(plain)
        self.socket.sendall(octets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def take(self, count: int) -> bytes:
        """Return so many bytes, or what came before the end."""
        octets = b""
        while len(octets) < count and (piece := self.socket.recv(count - len(octets))):
            octets += piece
        return octets

    def rest(self) -> bytes:
        """Return everything up to the end."""
        octets = b""
        while piece := self.socket.recv(65536):
            octets += piece
        return octets


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def is_tls(request: pytest.FixtureRequest) -> bool:
    is_so: bool = request.param
    return is_so


# The opening handshake.

FIRST = b"HTTP/1.1 101 Switching Protocols\r\n"
UPGRADE = b"Upgrade: websocket\r\n"
CONNECTION = b"Connection: Upgrade\r\n"
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
OTHER = b"Sec-WebSocket-Accept: dGhpcyBpcyBhbm90aGVyIGtleSE=\r\n"
GOOD = FIRST + UPGRADE + CONNECTION + ACCEPT

ANSWERS = {
    "accept=wrong": FIRST + UPGRADE + CONNECTION + OTHER + b"\r\n",
    "accept=missing": FIRST + UPGRADE + CONNECTION + b"\r\n",
    "accept=twice": GOOD + OTHER + b"\r\n",
    "without=upgrade": FIRST + CONNECTION + ACCEPT + b"\r\n",
    "without=connection": FIRST + UPGRADE + ACCEPT + b"\r\n",
    "upgrade=wrong": FIRST + b"Upgrade: echo\r\n" + CONNECTION + ACCEPT + b"\r\n",
    "connection=wrong": FIRST + UPGRADE + b"Connection: close\r\n" + ACCEPT + b"\r\n",
    "subprotocol=b": GOOD + b"Sec-WebSocket-Protocol: b\r\n\r\n",
    "subprotocol=c": GOOD + b"Sec-WebSocket-Protocol: c\r\n\r\n",
    "subprotocol=": GOOD + b"\r\n",
    "extension=foo;+a=1": FIRST
    + UPGRADE
    + CONNECTION
    + b"Sec-WebSocket-Protocol: a\r\n"
    + ACCEPT
    + b"Sec-WebSocket-Extensions: foo; a=1\r\n\r\n",
    "subprotocol=&header=X-Tea:gr%C3%BCn&header=Set-Cookie:+a%3Db": GOOD
    + "X-Tea: grün\r\nSet-Cookie: a=b\r\n\r\n".encode(),
    "subprotocol=&head=bare-lf": (GOOD + b"\r\n").replace(b"\r\n", b"\n"),
    "subprotocol=&head=folded": FIRST + b"Upgrade:\r\n websocket\r\n" + CONNECTION + ACCEPT + b"\r\n",
    "subprotocol=&head=nul": GOOD + b"X-Echod: a\0b\r\n\r\n",
    "subprotocol=&head=no-blank-line": GOOD,
    "subprotocol=&head=http-1.0": (GOOD + b"\r\n").replace(b"1.1", b"1.0"),
    "subprotocol=&head=status-200": b"HTTP/1.1 200 OK\r\n" + UPGRADE + CONNECTION + ACCEPT + b"\r\n",
    "subprotocol=&head=reason-missing": b"HTTP/1.1 101\r\n" + UPGRADE + CONNECTION + ACCEPT + b"\r\n",
    "subprotocol=&head=non-ascii": GOOD + b"X-Echod: gr\xfc\xdfe\r\n\r\n",
    "subprotocol=&head=endless": (GOOD + 700 * (b"X-Echod: " + 89 * b"x" + b"\r\n"))[:65536],
    "subprotocol=&head=junk-before": b"junk\r\n" + GOOD + b"\r\n",
    "subprotocol=&greeting=gr%C3%BCn": GOOD + b"\r\n\x81\x05gr\xc3\xbcn",
    "subprotocol=&greeting=tea&greeting-delay=50ms": GOOD + b"\r\n\x81\x03tea",
    "subprotocol=&greeting=tea&head=nul": GOOD + b"X-Echod: a\0b\r\n\r\n\x81\x03tea",
}
"""The whole answer to a client that offers the subprotocols a and b, by the query."""


@pytest.mark.parametrize("query", ANSWERS)
def test_an_answer_is_wrong_in_the_way_that_was_asked_for(daemon: Daemon, is_tls: bool, query: str) -> None:
    offers = ("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Extensions: permessage-deflate")
    if "subprotocol=" not in query and "extension=" not in query:
        offers = ()
    if "extension=" not in query:
        offers = offers[:1]
    with Peer(daemon, is_tls, handshake(f"/?{query}", *offers)) as peer:
        assert peer.take(len(ANSWERS[query])) == ANSWERS[query]
        # The server itself takes the connection for open, and ends it in order. Nothing else has come meanwhile.
        peer.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert peer.rest() == b"\x88\x02\x03\xe8"


REFUSALS = {
    "status=302&location=/other%3Fa": (b"302 Found", [b"Location: /other?a"], b"The URL asks for this status.\n"),
    "status=503&body=tea+%3Cb%3E": (b"503 Service Unavailable", [b"Retry-After: 5", b"Content-Length: 7"], b"tea <b>"),
    "status=304&body=tea": (b"304 Not Modified", [], b""),
    "status=418&header=X-Tea:green": (b"418 I'm a Teapot", [b"X-Tea: green"], b"The URL asks for this status.\n"),
    "auth=basic:tea:green": (
        b"401 Unauthorized",
        [b'WWW-Authenticate: Basic realm="echod", charset="UTF-8"'],
        b"The URL asks for other credentials.\n",
    ),
    "auth=bearer:tea": (
        b"401 Unauthorized",
        [b'WWW-Authenticate: Bearer realm="echod"'],
        b"The URL asks for other credentials.\n",
    ),
}


@pytest.mark.parametrize("query", REFUSALS)
def test_a_refusal(daemon: Daemon, is_tls: bool, query: str) -> None:
    status, fields, body = REFUSALS[query]
    with Peer(daemon, is_tls, handshake(f"/?{query}")) as peer:
        head, _, rest = peer.rest().partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first.lower() == b"http/1.1 " + status.lower()
    assert set(fields) <= set(lines)
    assert (b"X-Content-Type-Options: nosniff" in lines) == bool(body)
    assert (b"Content-Type: text/plain; charset=utf-8" in lines) == bool(body)
    assert rest == body


@pytest.mark.parametrize(
    ("query", "authorization", "opens"),
    [
        ("auth=basic:tea:gr%C3%BCn", "Basic dGVhOmdyw7xu", True),
        ("auth=basic:tea:gr%C3%BCn", "bAsIc dGVhOmdyw7xu", True),
        ("auth=basic:tea:gr%C3%BCn", "Basic dGVhOmdydW4=", False),
        ("auth=basic:tea:gr%C3%BCn", "Bearer dGVhOmdyw7xu", False),
        ("auth=bearer:t-e.a~_%2B/1=", "Bearer t-e.a~_+/1=", True),
        ("auth=bearer:tea", "Bearer", False),
        ("auth=bearer:tea&status=404", "Bearer tea", False),
    ],
)
def test_credentials(daemon: Daemon, query: str, authorization: str, opens: bool) -> None:
    with Peer(daemon, False, handshake(f"/?{query}", f"Authorization: {authorization}")) as peer:
        assert (peer.take(12) == b"HTTP/1.1 101") == opens


def test_the_first_handshakes_with_a_key_fail(daemon: Daemon, is_tls: bool) -> None:
    def status(query: str) -> bytes:
        with Peer(daemon, is_tls, handshake(f"/?{query}")) as peer:
            return peer.take(12)[-3:]

    found = [status(f"fail=2&key=tea-{is_tls}&status=429") for _ in range(4)]
    assert found == [b"429", b"429", b"101", b"101"]
    assert status(f"fail=1&key=green-{is_tls}") == b"503"
