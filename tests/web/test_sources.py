"""What the admin site asks of a daemon in its own process."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from echod.web.sources import Local
from echod.websocket.factory import EchoFactory, State
from tests.fakes import Peer, make_factory


@pytest.fixture
def factory() -> EchoFactory:
    factory = make_factory()
    for i in range(5):
        Peer(factory, f"192.0.2.{i}")
    return factory


def now(answer: Deferred[Any]) -> Any:
    found: list[Any] = []
    answer.addCallback(found.append)
    return found[0]


def peers(told: list[dict[str, Any]]) -> list[str]:
    return [connection["peer"] for connection in told]


def test_a_part_of_the_connections_in_the_order_of_acceptance(factory: EchoFactory) -> None:
    total, told = now(Local(factory).connections(1, 3))
    assert (total, peers(told)) == (5, ["192.0.2.1:1234", "192.0.2.2:1234", "192.0.2.3:1234"])
    assert now(Local(factory).connections(5, 3)) == (5, [])


def test_the_newest_connections_come_first(factory: EchoFactory) -> None:
    assert peers(now(Local(factory).newest(2))) == ["192.0.2.4:1234", "192.0.2.3:1234"]


def test_a_daemon_in_one_process(factory: EchoFactory) -> None:
    source = Local(factory)
    assert (source.settings, source.processes(), source.state) == (factory.settings, {}, factory.state)
    assert isinstance(source.state, State)
    assert now(source.values())["echod_connections_open"] == {(): 5}
