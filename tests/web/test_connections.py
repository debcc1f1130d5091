"""The list of live connections: its pages, and what a client had a say in."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from echod.web.connections import SHOWN, describe_peer, render
from echod.web.resources import Answer
from echod.web.sources import Local
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, CLOSE, TEXT, client_frame


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> EchoFactory:
    return make_factory(clock, max_connections=1000, max_page=50, trust_proxy=1)


def answered(factory: EchoFactory, arguments: dict[bytes, list[bytes]]) -> Answer:
    answer = render(Local(factory), arguments)
    if isinstance(answer, Answer):
        return answer
    answers: list[Answer] = []
    answer.addCallback(answers.append)
    return answers[0]


def shown(factory: EchoFactory, **arguments: str) -> dict[str, Any]:
    answer = answered(factory, {name.replace("_", "-").encode(): [value.encode()] for name, value in arguments.items()})
    assert (answer.status, answer.content_type) == (200, "application/json")
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_what_is_told(factory: EchoFactory, clock: Clock) -> None:
    peer = Peer(factory, "2001:db8::1")
    peer.open("/chat?x=1", "X-Forwarded-For: 10.0.0.1", "Sec-WebSocket-Protocol: chat, other")
    peer.send(client_frame(TEXT, b"hello") + client_frame(BINARY, bytes(100))[:-1])
    clock.advance(1.5)
    (told,) = shown(factory)["connections"]
    assert told == {
        "peer": "[2001:db8::1]:1234",
        "client": "10.0.0.1",
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
    assert shown(factory)["connections"][0]["backpressured"]


def test_the_states(factory: EchoFactory, clock: Clock) -> None:
    peers = [Peer(factory) for _ in range(4)]
    for peer in peers[1:]:
        peer.open()
    peers[2].protocol.sendCloseFrame(1000, b"")
    peers[3].send(client_frame(CLOSE))
    clock.advance(0.05)
    told = shown(factory)["connections"]
    assert [connection["state"] for connection in told] == ["connecting", "open", "closing", "closed"]
    assert [connection["age"] for connection in told] == [0.05] * 4
    assert told[0]["client"] is None


def test_pages_are_in_the_order_of_acceptance(factory: EchoFactory) -> None:
    for i in range(230):
        Peer(factory, f"192.0.2.{i}")
    seen = []
    for page in range(1, 7):
        told = shown(factory, page=str(page), per_page="45")
        assert (told["total"], told["pages"], told["page"], told["per-page"]) == (230, 6, page, 45)
        seen += [connection["peer"] for connection in told["connections"]]
    assert seen == [f"192.0.2.{i}:1234" for i in range(230)]
    assert shown(factory, page="7", per_page="45")["connections"] == []
    assert len(shown(factory, per_page="100000000")["connections"]) == 50, "no more than the settings say"
    assert len(shown(factory)["connections"]) == 50


@pytest.mark.parametrize("name", ["page", "per-page"])
@pytest.mark.parametrize("values", [[b""], [b"0"], [b"-1"], [b"1e3"], [b"\xd9\xa1"], [b"9999999999"], [b"1", b"2"]])
def test_a_wrong_page_is_told(factory: EchoFactory, name: str, values: list[bytes]) -> None:
    answer = answered(factory, {name.encode(): values})
    assert (answer.status, answer.body) == (
        400,
        f"{name} is to be a whole number of at least 1, given once.\n".encode(),
    )


def test_what_a_client_chose_is_escaped_and_cut(factory: EchoFactory) -> None:
    Peer(factory).open("/" + "a" * 5000, f"Sec-WebSocket-Protocol: {'b' * 2000}")
    Peer(factory).open('/"<script>\\x1b[31m%0a', "Sec-WebSocket-Protocol: $x'")
    long, odd = shown(factory)["connections"]
    assert long["path"] == "/" + "a" * (SHOWN - 1) + "…"
    assert long["subprotocol"] == "b" * SHOWN + "…"
    assert odd["path"] == '/"<script>\\\\x1b[31m%0a'
    assert odd["subprotocol"] == "$x'"
    held = next(iter(factory.live)).path
    assert len(held) < 1000, "nobody keeps more than may be shown"


def test_a_peer_of_ipv4_on_a_socket_for_both(factory: EchoFactory) -> None:
    peer = Peer(factory, "::ffff:192.0.2.1")
    peer.open()
    (told,) = shown(factory)["connections"]
    assert (told["peer"], told["client"]) == ("192.0.2.1:1234", "192.0.2.1")


def test_a_peer_without_an_address() -> None:
    assert describe_peer(SimpleNamespace(name=b"/run/x")) == "unix"
