"""The PROXY header: both versions, whole and in pieces, and nothing that is none."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from echod import proxy_header
from echod.factory import EchoFactory
from tests.fakes import Transport, make_factory
from tests.frames import TEXT, client_frame, handshake, server_frame

V1 = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 8080\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 192, 0, 2, 9]) + b"\xdc\x04\x1f\x90"


@implementer(IStreamServerEndpoint)
class Endpoint:
    """Hands a factory over."""

    factory: Any

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        self.factory = protocolFactory
        return succeed(None)


@pytest.fixture
def factory() -> EchoFactory:
    return make_factory(Clock(), max_connections_per_address=1)


def connect(factory: EchoFactory) -> tuple[Any, Transport]:
    endpoint = Endpoint()
    proxy_header.wrap(endpoint).listen(factory)
    transport = Transport("192.0.2.1")
    protocol = endpoint.factory.buildProtocol(None)
    protocol.makeConnection(transport)
    return protocol, transport


@pytest.mark.parametrize("step", [0, 1, 7, 15, 16, 17])
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_the_peer_is_the_one_that_the_header_names(factory: EchoFactory, header: bytes, step: int) -> None:
    protocol, transport = connect(factory)
    octets = header + handshake() + client_frame(TEXT, b"x")
    for start in range(0, len(octets), step or len(octets)):
        protocol.dataReceived(octets[start : start + (step or len(octets))])
    assert transport.value().startswith(b"HTTP/1.1 101 ")
    assert transport.value().endswith(server_frame(TEXT, b"x"))
    assert [connection.address for connection in factory.live] == ["203.0.113.7"]


@pytest.mark.parametrize("step", [0, 1, 15])
def test_a_header_that_names_nobody_leaves_the_proxy_for_the_peer(factory: EchoFactory, step: int) -> None:
    protocol, transport = connect(factory)
    octets = b"PROXY UNKNOWN\r\n" + handshake()
    for start in range(0, len(octets), step or len(octets)):
        protocol.dataReceived(octets[start : start + (step or len(octets))])
    assert transport.value().startswith(b"HTTP/1.1 101 ")
    assert [connection.address for connection in factory.live] == ["192.0.2.1"]


@pytest.mark.parametrize(
    "octets",
    [
        handshake(),
        b"PROXY TCP4 203.0.113.7 192.0.2.9 port 8080\r\n",
        b"PROXY TCP4 \xff 192.0.2.9 1 8080\r\n" + handshake(),
        b"PROXY " + b"x" * 200,
        V2[:12] + b"\x11" + V2[13:],
        b"\x16\x03\x01" * 10,
    ],
    ids=lambda octets: repr(octets[:30]),
)
def test_what_is_no_header_is_dropped(factory: EchoFactory, octets: bytes) -> None:
    protocol, transport = connect(factory)
    protocol.dataReceived(octets)
    assert transport.disconnecting
    assert transport.value() == b""


def test_who_closes_its_half_still_gets_its_answers(factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    protocol.dataReceived(V1 + handshake() + client_frame(TEXT, b"x"))
    protocol.readConnectionLost()
    protocol.writeConnectionLost()
    assert transport.value().endswith(server_frame(TEXT, b"x"))
    assert transport.disconnecting


def test_who_closes_its_half_below_a_protocol_without_halves_is_closed() -> None:
    endpoint, transport = Endpoint(), Transport()
    proxy_header.wrap(endpoint).listen(Factory.forProtocol(Protocol))
    holder = endpoint.factory.buildProtocol(None)
    holder.makeConnection(transport)
    holder.dataReceived(V1)
    holder.readConnectionLost()
    assert transport.disconnecting
