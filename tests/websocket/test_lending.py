"""When a connection lends its carrier to the pump, and when not. tests/lane has what happens in a lease."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from echod.lane.native import Native
from echod.websocket.pauses import Pause
from tests.fakes import Peer
from tests.frames import TEXT, client_frame
from tests.loop import Bed, bed


@pytest.fixture
def made(native: Native) -> Iterator[Bed]:
    with bed(native) as made:
        yield made


def test_a_lease_is_a_pause(made: Bed) -> None:
    connection = made.link().protocol
    assert (connection.lane_name, connection.pauses) == ("pump", Pause.LEASE)
    connection.take_back()
    assert (connection.lane_name, connection.pauses) == ("codec", 0)
    connection.take_back()  # there is no lease
    connection.lend()
    assert connection.lane_name == "pump"
    connection.lend()
    connection.offer()
    assert connection.lane_name == "pump"


def test_any_reason_not_to_read_is_one_not_to_lend(made: Bed) -> None:
    connection = made.link().protocol
    connection.take_back()
    for why in (Pause.BACKLOG, Pause.ROOM, Pause.BEHIND, Pause.FAULT):
        connection.pause(why)
        connection.lend()
        assert connection.lease is None
        connection.resume(why)
    connection.offer()
    assert connection.lease is not None


def test_nothing_is_lent_without_the_lane(peer: Peer) -> None:
    assert not peer.protocol.has_lane
    peer.send(client_frame(TEXT, b"hello"))
    assert (peer.protocol.lane_name, peer.protocol.lease) == ("autobahn", None)
