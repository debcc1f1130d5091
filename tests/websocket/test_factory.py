"""The factory: which connections are admitted, what is counted, and how a drain ends."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from echod.core.deadlines import TICK
from echod.http.refusals import ADDRESS_FULL
from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, TEXT, client_frame, close_payload, handshake, server_frame

GOING_AWAY = server_frame(CLOSE, close_payload(1001, "going away"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_options_are_attributes_of_one_class(clock: Clock) -> None:
    factory = make_factory(clock, max_message_size=1000)
    first, second = Peer(factory), Peer(factory)
    assert type(first.protocol) is type(second.protocol)
    for name, value in {
        "maxMessagePayloadSize": 1000,
        "failByDrop": False,
        "echoCloseCodeReason": True,
        "tcpNoDelay": True,
    }.items():
        assert getattr(first.protocol, name) == value
        assert name not in vars(first.protocol)


def test_a_message_that_could_never_be_held_is_not_begun(clock: Clock) -> None:
    peer = Peer(make_factory(clock, max_message_size=1000, max_buffered=1000))
    peer.open()
    assert peer.frames(client_frame(TEXT, bytes(500)))[0].opcode == TEXT
    assert peer.frames(client_frame(TEXT, bytes(501)))[0].payload[:2] == (1009).to_bytes(2, "big")


def test_more_connections_than_there_may_be_get_503_and_then_nothing(clock: Clock) -> None:
    factory = make_factory(clock, max_connections=2, reserved_descriptors=2)
    peers = [Peer(factory) for _ in range(4)]
    assert peers[2].take() == b"", "not before it is asked"
    assert peers[2].send(b"G")[:12] == b"HTTP/1.1 503"
    assert peers[2].send(b"ET") == b""
    assert [peer.transport.aborted for peer in peers] == [False, False, False, True]
    for peer in peers[1:]:
        peer.lose()
    Peer(factory).open()


def test_an_address_has_its_limit_and_gets_it_back(clock: Clock) -> None:
    factory = make_factory(clock, max_connections_per_address=2)
    first, second, third = (Peer(factory) for _ in range(3))
    first.open()
    second.open()
    assert third.send(handshake()).startswith(b"HTTP/1.1 429 ")
    third.lose()
    Peer(factory, "192.0.2.2").open()
    first.lose()
    Peer(factory).open()
    assert Peer(factory).send(handshake()).startswith(b"HTTP/1.1 429 ")
    second.lose()
    assert factory._addresses.keys() == {"192.0.2.1", "192.0.2.2"}


def test_who_sends_nothing_counts_and_keeps_no_other_address_out(clock: Clock) -> None:
    factory = make_factory(clock, max_connections=40, max_connections_per_address=5)
    silent = [Peer(factory) for _ in range(40)]
    # Five have a place, 32 wait to be told that there is none, and the rest is reset.
    assert [peer.transport.aborted for peer in silent] == [False] * 37 + [True] * 3
    assert factory.counts.refusals["none", ADDRESS_FULL.why] == 3
    others = [Peer(factory, f"192.0.2.{10 + number}") for number in range(35)]
    for other in others:
        other.open()
    assert Peer(factory, "192.0.2.99").transport.aborted, "there are 40, and no place left in which to be told"
    assert silent[5].send(b"G").startswith(b"HTTP/1.1 429 ")
    assert silent[4].send(handshake()).startswith(b"HTTP/1.1 101 ")
    clock.pump([TICK] * 52)
    assert [peer.transport.aborted for peer in silent[:6]] == [True] * 4 + [False, True], (
        "no time but that of the opening handshake"
    )
    for peer in silent:
        if peer.transport.aborted:
            peer.lose()
    Peer(factory).open()
    others[0].lose()
    Peer(factory, "192.0.2.99").open()


def test_a_network_of_ipv6_has_the_limit_of_an_address(clock: Clock) -> None:
    factory = make_factory(clock, max_connections_per_address=1)
    Peer(factory, "2001:db8:1:2::1").open()
    assert Peer(factory, "2001:db8:1:2:ffff:ffff:ffff:ffff").send(handshake()).startswith(b"HTTP/1.1 429 ")
    Peer(factory, "2001:db8:1:3::1").open()
    Peer(factory, "fe80::1%eth0").open()
    assert Peer(factory, "fe80::2%eth0").send(handshake()).startswith(b"HTTP/1.1 429 ")
    assert factory._addresses.keys() == {"2001:db8:1:2::/64", "2001:db8:1:3::/64", "fe80::/64"}


def test_behind_a_proxy_it_is_the_head_that_tells_the_address(clock: Clock) -> None:
    factory = make_factory(clock, max_connections_per_address=1, trust_proxy=1)
    for _ in range(5):
        assert not Peer(factory).transport.aborted
    assert not factory._addresses
    Peer(factory).open("/", "X-Forwarded-For: 2001:db8::1")
    assert Peer(factory).send(handshake("/", "X-Forwarded-For: 2001:db8::2")).startswith(b"HTTP/1.1 429 ")


def test_the_address_is_the_one_the_trusted_proxy_tells(clock: Clock) -> None:
    factory = make_factory(clock, max_connections_per_address=1, trust_proxy=1)
    Peer(factory).open("/", "X-Forwarded-For: 10.0.0.1")
    Peer(factory).open("/", "X-Forwarded-For: 10.0.0.2")
    assert Peer(factory).send(handshake("/", "X-Forwarded-For: 6.6.6.6, 10.0.0.1")).startswith(b"HTTP/1.1 429 ")


def test_a_client_of_ipv4_has_one_name_whatever_it_comes_over(clock: Clock) -> None:
    """The same address comes over a socket for IPv6 and IPv4, over one for IPv4 only, and through a proxy."""
    factory = make_factory(clock, max_connections_per_address=1, trust_proxy=1)
    with capturedLogs() as events:
        Peer(factory, "::ffff:192.0.2.1").open()
        assert Peer(factory, "192.0.2.1").send(handshake()).startswith(b"HTTP/1.1 429 ")
        assert (
            Peer(factory, "10.0.0.1")
            .send(handshake("/", "X-Forwarded-For: ::ffff:192.0.2.1"))
            .startswith(b"HTTP/1.1 429 ")
        )
        assert Peer(factory, "::ffff:192.0.2.1").send(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    told = [formatEvent(event) for event in events]
    assert told[-1] == "#3: refused a handshake from 192.0.2.1: 400 the Host header"


def test_a_drain_without_connections_is_over_at_once(clock: Clock) -> None:
    drained = make_factory(clock).drain()
    assert drained.called
    assert not clock.getDelayedCalls()


def test_a_drain_is_over_once_when_the_last_connection_goes_within_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens to a connection whose lease ends with the client's Close frame."""
    factory = make_factory(clock)
    peer = Peer(factory)
    peer.open()
    monkeypatch.setattr(peer.protocol, "go_away", lambda _at_once: peer.lose())
    assert factory.drain().called
    assert not clock.getDelayedCalls()


def test_a_drain_closes_all_and_waits_for_them(clock: Clock) -> None:
    factory = make_factory(clock)
    idle, busy, opening, silent, late = (Peer(factory) for _ in range(5))
    opening.send(b"GET ")
    idle.open()
    busy.open()
    busy.send(client_frame(TEXT, b"x")[:-1])
    drained = factory.drain()
    assert idle.take() == GOING_AWAY
    assert busy.take() == b""
    assert opening.take().startswith(b"HTTP/1.1 503 ")
    assert (silent.take(), late.take()) == (b"", b""), "nothing was asked"
    assert late.send(handshake()).startswith(b"HTTP/1.1 503 ")
    clock.advance(factory.settings.drain_grace)
    assert silent.take().startswith(b"HTTP/1.1 503 ")
    assert busy.send(client_frame(TEXT, b"x")[-1:]) == server_frame(TEXT, b"x") + GOING_AWAY
    for peer in (idle, busy, opening, silent, late):
        assert not drained.called
        peer.lose()
    assert drained.called
    assert not clock.getDelayedCalls()


def test_who_does_not_come_to_an_end_is_cut_off(clock: Clock) -> None:
    factory = make_factory(clock, drain_timeout=10, close_timeout=60)
    peer = Peer(factory)
    peer.open()
    peer.send(client_frame(TEXT, b"x")[:-1])
    drained = factory.drain()
    clock.pump([1] * 4)
    assert peer.take() == b""
    clock.pump([1] * 2)
    assert peer.take() == GOING_AWAY
    clock.pump([1] * 5)
    assert peer.transport.aborted
    assert not drained.called
    peer.lose()
    assert drained.called
    assert not clock.getDelayedCalls()
