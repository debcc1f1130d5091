"""The facts about a connection."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from echod.core.counts import Outcome
from echod.websocket.base import ConnectionBase
from echod.websocket.connection import Connection
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, TEXT, client_frame


def test_the_first_word_on_how_it_ends_counts(peer: Peer) -> None:
    outcomes = [peer.protocol.outcome]
    for outcome in (Outcome.FAILED, Outcome.TIMEOUT):
        peer.protocol.note_outcome(outcome)
        outcomes.append(peer.protocol.outcome)
    assert outcomes == [Outcome.LOST, Outcome.FAILED, Outcome.FAILED]


@pytest.mark.parametrize(("host", "who"), [("::ffff:192.0.2.7", "192.0.2.7"), (None, "a local client")])
def test_who_it_is(clock: Clock, host: str | None, who: str) -> None:
    connection = Peer(make_factory(clock), host).protocol
    assert (connection.who, connection.comes_through_proxy) == (who, False)


def test_a_proxy_is_trusted_if_told(clock: Clock) -> None:
    assert Peer(make_factory(clock, trust_proxy=1)).protocol.comes_through_proxy


def test_traffic_is_a_value(peer: Peer) -> None:
    before = peer.protocol.traffic
    peer.send(client_frame(TEXT, b"12"))
    between = peer.protocol.traffic
    peer.send(client_frame(BINARY, b"345"))
    numbers = [(t.received_messages, t.received_octets, t.sent_octets) for t in (before, between)]
    assert numbers == [(0, 0, 0), (1, 2, 2)]
    assert peer.protocol.traffic.sent_octets == 5


def test_the_two_hooks_are_written_by_the_whole() -> None:
    assert [name for name in ("receive", "act") if getattr(Connection, name) is getattr(ConnectionBase, name)] == []
