"""What the admin site tells of one connection, and the parts of it that a client chose."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from echod.web.connections import SHOWN, describe, describe_peer
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, CLOSE, TEXT, client_frame
from tests.h2_client import exchange


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> EchoFactory:
    return make_factory(clock, max_connections=1000, max_page=50, trust_proxy=1)


def told(factory: EchoFactory) -> list[dict[str, Any]]:
    return [describe(connection.snapshot(), factory.clock.seconds()) for connection in factory.live]


def test_the_facts_of_a_connection(factory: EchoFactory, clock: Clock) -> None:
    peer = Peer(factory, "2001:db8::1")
    peer.open("/chat?x=1", "X-Forwarded-For: 10.0.0.1", "Sec-WebSocket-Protocol: chat, other")
    peer.send(client_frame(TEXT, b"hello") + client_frame(BINARY, bytes(100))[:-1])
    clock.advance(1.5)
    (shown,) = told(factory)
    assert shown == {
        "number": "1",
        "traced": False,
        "peer": "[2001:db8::1]:1234",
        "client": "10.0.0.1",
        "http": "1.1",
        "stream": None,
        "path": "/chat",
        "age": 1.5,
        "state": "open",
        "received": {"messages": 1, "octets": 5},
        "sent": {"messages": 1, "octets": 5},
        "buffered": 99,
        "backpressured": False,
        "lane": "autobahn",
        "subprotocol": "chat",
        "extensions": [],
        "compression": "off",
    }
    peer.protocol.pauseProducing()
    assert told(factory)[0]["backpressured"]


def test_the_states(factory: EchoFactory, clock: Clock) -> None:
    peers = [Peer(factory) for _ in range(4)]
    for peer in peers[1:]:
        peer.open()
    peers[2].protocol.sendCloseFrame(1000, b"")
    peers[3].send(client_frame(CLOSE))
    clock.advance(0.05)
    states = told(factory)
    assert [connection["state"] for connection in states] == ["connecting", "open", "closing", "closed"]
    assert [connection["age"] for connection in states] == [0.05] * 4
    assert states[0]["client"] is None


def test_a_stream(clock: Clock) -> None:
    factory = make_factory(clock)
    made = exchange(clock, factory)
    made.opened()
    made.opened("/a")
    assert [(shown["http"], shown["stream"], shown["path"]) for shown in told(factory)] == [
        ("2", 1, "/"),
        ("2", 3, "/a"),
    ]


def test_what_a_client_chose_is_escaped_and_cut(factory: EchoFactory) -> None:
    Peer(factory).open("/" + "a" * 5000, f"Sec-WebSocket-Protocol: {'b' * 2000}")
    Peer(factory).open('/"<script>\\x1b[31m%0a', "Sec-WebSocket-Protocol: $x'")
    long, odd = told(factory)
    assert long["path"] == "/" + "a" * (SHOWN - 1) + "…"
    assert long["subprotocol"] == "b" * SHOWN + "…"
    assert odd["path"] == '/"<script>\\\\x1b[31m%0a'
    assert odd["subprotocol"] == "$x'"
    held = next(iter(factory.live)).path
    assert len(held) < 1000, "nobody keeps more than may be shown"


def test_an_ipv4_peer_on_a_dual_stack_socket(factory: EchoFactory) -> None:
    peer = Peer(factory, "::ffff:192.0.2.1")
    peer.open()
    (shown,) = told(factory)
    assert (shown["peer"], shown["client"]) == ("192.0.2.1:1234", "192.0.2.1")


def test_a_peer_without_an_address() -> None:
    assert describe_peer(None) == "unix"
