"""The PROXY header: both versions, whole and in pieces, and what is refused as a header."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.haproxy import proxyEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.core.counts import Outcome
from echod.net import proxy_header
from echod.websocket.factory import EchoFactory
from tests.fakes import Transport, make_factory
from tests.frames import TEXT, client_frame, handshake, server_frame

V1 = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 8080\r\n"
V1_IPV6 = b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 2001:db8::9 56324 8080\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 192, 0, 2, 9]) + b"\xdc\x04\x1f\x90"
V2_IPV6 = (
    V2[:13]
    + b"\x21\x00\x27"
    + bytes.fromhex("20010db8" + "0" * 23 + "7" + "20010db8" + "0" * 23 + "9")
    + b"\xdc\x04\x1f\x90\x04\x00\x00"
)
"""A header with a TLV after the addresses (PP2_TYPE_NOOP)."""


@implementer(IStreamServerEndpoint)
class Endpoint:
    """An endpoint that only keeps the factory."""

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


def feed(protocol: Any, octets: bytes, step: int) -> None:
    """Pass the bytes to the protocol in pieces of `step`; 0 passes them at once."""
    for start in range(0, len(octets), step or len(octets)):
        protocol.dataReceived(octets[start : start + (step or len(octets))])


def test_the_limit_per_address_counts_clients_and_not_the_proxy(factory: EchoFactory) -> None:
    waiting = [connect(factory) for _ in range(3)]
    answers = []
    for (protocol, transport), header in zip(waiting, (V1, V1_IPV6, V2), strict=True):
        feed(protocol, header + handshake(), 0)
        answers.append(transport.value()[:12])
    assert answers == [b"HTTP/1.1 101", b"HTTP/1.1 101", b"HTTP/1.1 429"]


@pytest.mark.parametrize("step", [0, 1, 7, 15, 16, 17])
@pytest.mark.parametrize(
    ("header", "address"),
    [(V1, "203.0.113.7"), (V2, "203.0.113.7"), (V1_IPV6, "2001:db8::7"), (V2_IPV6, "2001:db8::7")],
    ids=["v1", "v2", "v1 over IPv6", "v2 over IPv6"],
)
def test_the_peer_is_the_one_that_the_header_names(
    factory: EchoFactory, header: bytes, address: str, step: int
) -> None:
    protocol, transport = connect(factory)
    feed(protocol, header + handshake() + client_frame(TEXT, b"x"), step)
    assert transport.value().startswith(b"HTTP/1.1 101 ")
    assert transport.value().endswith(server_frame(TEXT, b"x"))
    [connection] = factory.live
    assert connection.address == address
    peer, host = connection.transport.getPeer(), connection.transport.getHost()
    assert (peer.host, peer.port, host.host, host.port) == (
        address,
        56324,
        "2001:db8::9" if ":" in address else "192.0.2.9",
        8080,
    )


def test_one_client_has_one_name_in_both_versions(factory: EchoFactory) -> None:
    answers = []
    for header in (V1_IPV6, V2_IPV6):
        protocol, transport = connect(factory)
        protocol.dataReceived(header + handshake())
        answers.append(transport.value()[:13])
    assert answers == [b"HTTP/1.1 101 ", b"HTTP/1.1 429 "]


@pytest.mark.parametrize("step", [0, 1, 15])
@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 203.0.113.7 nonsense\n99999\r\n",
        V2[:12] + b"\x20\x00\x00\x00",
        V2[:12] + b"\x21\x00\x00\x02xy",
    ],
    ids=["v1", "v1 with words", "v2 LOCAL", "v2 UNSPEC"],
)
def test_a_header_without_addresses_leaves_the_proxy_as_the_peer(
    factory: EchoFactory, header: bytes, step: int
) -> None:
    protocol, transport = connect(factory)
    feed(protocol, header + handshake(), step)
    assert transport.value().startswith(b"HTTP/1.1 101 ")
    assert [connection.address for connection in factory.live] == ["192.0.2.1"]


def v1(
    source: str = "203.0.113.7", destination: str = "192.0.2.9", ports: str = "56324 8080", family: str = "TCP4"
) -> bytes:
    """Return a version 1 header."""
    return f"PROXY {family} {source} {destination} {ports}\r\n".encode("latin-1")


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    "octets",
    [
        handshake(),
        b"\x16\x03\x01" * 10,
        b"PROXYTCP4 203.0.113.7 192.0.2.9 56324 8080\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY " + b"x" * 200,
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",  # one byte too long
        v1("1.2.3.4\n2026-01-01T00:00:00+0000 [echod.connection] FORGED 198.51.100.1"),
        v1("1.2.3.4\n"),
        v1("\x1b[2J"),
        v1("\xff"),
        v1("999.0.2.7"),
        v1("203.0.113.07"),
        v1("localhost"),
        v1(""),
        v1(destination="localhost"),
        v1("2001:db8::7", "2001:db8::9"),
        v1("2001:db8::7"),
        v1(family="TCP6"),
        v1("2001:db8::7", "192.0.2.9", family="TCP6"),
        v1("2001:db8::7%eth0", "2001:db8::9", family="TCP6"),
        v1("2001:db8:::7", "2001:db8::9", family="TCP6"),
        v1(family="TCP5"),
        *(
            v1(ports=ports)
            for ports in (
                "port 8080",
                "99999 8080",
                "1 65536",
                "-1 80",
                "+1 80",
                "1_0 80",
                "01 80",
                "1",
                "1 2 3",
                "9" * 30 + " 80",
            )
        ),
        V2[:12] + b"\x11" + V2[13:],
        V2[:12] + b"\x22" + V2[13:],
        V2[:13] + b"\x41" + V2[14:],
        V2[:13] + b"\x21" + V2[14:],  # IPv6 in 12 bytes
        V2[:14] + b"\x00\x02" + V2[16:],
        V2[:13] + b"\x13" + V2[14:],  # no such transport
        V2[:13] + b"\x31" + V2[14:],  # paths in 12 bytes
        V2[:14] + b"\xff\xff" + V2[16:],
        V2[:14] + b"\x0f\xf1" + V2[16:],  # one byte too long
    ],
    ids=lambda octets: repr(octets[:40]),
)
def test_an_invalid_header_closes_the_connection(factory: EchoFactory, octets: bytes, step: int) -> None:
    protocol, transport = connect(factory)
    feed(protocol, octets, step)
    assert transport.disconnecting
    protocol.dataReceived(V1 + handshake())
    assert transport.value() == b""
    protocol.connectionLost(Failure(ConnectionDone()))
    assert factory.counts.refusals == {("none", "bad PROXY header"): 1}
    assert factory.counts.outcomes == {Outcome.REFUSED: 1}


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (handshake(), "there is none"),
        (b"PROXY " + b"x" * 200, "it is longer than 107 bytes"),
        (v1(family="TCP5"), "it is not a header of version 1"),
        (v1("999.0.2.7"), "Octet 999 (> 255) not permitted in '999.0.2.7'"),
        (v1(ports="1 65536"), "a port is more than 65535"),
        (V2[:14] + b"\x0f\xf1", "it is longer than 4096 bytes"),  # as soon as its length is known
        (V2[:12] + b"\x11" + V2[13:], "it is not a header of version 2"),
        (V2[:13] + b"\x41" + V2[14:], "its addresses are not those of version 2"),
    ],
)
def test_the_log_tells_why(factory: EchoFactory, octets: bytes, why: str) -> None:
    protocol, _ = connect(factory)
    with capturedLogs() as events:
        protocol.dataReceived(octets)
        protocol.connectionLost(Failure(ConnectionDone()))
    assert [formatEvent(event) for event in events] == [
        f"#1: refused a handshake from 192.0.2.1: bad PROXY header: {why}"
    ]


def test_a_connection_without_any_bytes_is_not_counted_as_refused(factory: EchoFactory) -> None:
    """It may be the health check of a proxy, or a scan."""
    protocol, _ = connect(factory)
    protocol.connectionLost(Failure(ConnectionDone()))
    assert (factory.counts.refusals, factory.counts.outcomes) == ({}, {Outcome.LOST: 1})


def test_a_header_of_version_2_may_be_long(factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    protocol.dataReceived(V2[:14] + b"\x0f\xf0" + V2[16:] + b"\x04\x0f\xe1" + bytes(0xFE1) + handshake())
    assert transport.value().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("size", [0, 11, 12, 35, 36, 215, 216])
def test_the_accepted_families_are_those_of_twisted(size: int) -> None:
    """Twisted drops a connection of another family without a word."""
    factory = make_factory(Clock())
    for family in range(0x100):
        header = V2[:13] + bytes([family]) + size.to_bytes(2, "big") + bytes(size)
        dropped = []
        for wrap in (proxy_header.wrap, proxyEndpoint):
            endpoint, transport = Endpoint(), Transport("192.0.2.1")
            wrap(endpoint).listen(factory)
            protocol = endpoint.factory.buildProtocol(None)
            protocol.makeConnection(transport)
            protocol.dataReceived(header)
            dropped.append(transport.disconnecting)
        assert dropped in ([True, True], [False, False]), family


@pytest.mark.parametrize("ports", ["0 0", "65535 65535"])
def test_every_port_number_is_accepted(factory: EchoFactory, ports: str) -> None:
    protocol, transport = connect(factory)
    protocol.dataReceived(v1("0.0.0.0", "255.255.255.255", ports) + handshake())
    assert transport.value().startswith(b"HTTP/1.1 101 ")
    [connection] = factory.live
    assert f"{connection.transport.getPeer().port} {connection.transport.getHost().port}" == ports


def test_an_invalid_address_forges_no_line_of_the_log(factory: EchoFactory) -> None:
    """This holds even if such a name gets past the check."""
    protocol = factory.buildProtocol(None)
    assert protocol is not None
    protocol.makeConnection(Transport("1.2.3.4\nFORGED \x1b[2J"))
    with capturedLogs() as events:
        protocol.dataReceived(b"nonsense\r\n\r\n")
    assert [formatEvent(event).split(": ")[1] for event in events] == [
        r"refused a handshake from 1.2.3.4\nFORGED \x1b[2J"
    ]


def test_a_client_that_half_closes_still_gets_its_answers(factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    protocol.dataReceived(V1 + handshake() + client_frame(TEXT, b"x"))
    protocol.readConnectionLost()
    protocol.writeConnectionLost()
    assert transport.value().endswith(server_frame(TEXT, b"x"))
    assert transport.disconnecting


def test_a_half_close_closes_a_protocol_that_has_none() -> None:
    endpoint, transport = Endpoint(), Transport()
    proxy_header.wrap(endpoint).listen(Factory.forProtocol(Protocol))
    holder = endpoint.factory.buildProtocol(None)
    holder.makeConnection(transport)
    holder.dataReceived(V1)
    holder.readConnectionLost()
    assert transport.disconnecting
