"""When a connection lends its carrier to the pump, and when it does not. tests/lane tests what happens in a lease."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from echod.core.counts import Outcome
from echod.echo import EchoProtocol
from echod.lane.ended import Ended
from echod.lane.native import Native
from echod.websocket.pauses import Pause
from tests.fakes import Peer
from tests.frames import CLOSE, TEXT, client_frame
from tests.loop import Bed, bed


@pytest.fixture
def made(native: Native) -> Iterator[Bed]:
    with bed(native) as made:
        yield made


def test_a_lease_is_a_pause(made: Bed) -> None:
    connection = made.link().protocol
    assert (connection.served_by, connection.pauses) == ("pump", Pause.LEASE)
    connection.take_back()
    assert (connection.served_by, connection.pauses) == ("codec", 0)
    connection.take_back()  # there is no lease
    connection.lend()
    assert connection.served_by == "pump"
    connection.lend()
    connection.lend_after_read()
    assert connection.served_by == "pump"


def test_any_reason_not_to_read_is_one_not_to_lend(made: Bed) -> None:
    connection = made.link().protocol
    connection.take_back()
    for why in (Pause.BACKLOG, Pause.ROOM, Pause.BEHIND, Pause.FAULT):
        connection.pause(why)
        connection.lend()
        assert connection.lease is None
        connection.resume(why)
    connection.lend_after_read()
    assert connection.lease is not None


def test_nothing_is_lent_without_the_lane(peer: Peer) -> None:
    assert not peer.protocol.pump_can_serve
    peer.send(client_frame(TEXT, b"hello"))
    assert (peer.protocol.served_by, peer.protocol.lease) == ("autobahn", None)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_lease_that_leaves_a_close_frame_ends_before_the_connection_goes_away(
    made: Bed, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """The pump has put the frame off behind messages that took long. The connection is lost within `take_back`."""
    connection = made.link().protocol
    lane = made.factory.lane
    assert lane is not None

    def recall(borrower: EchoProtocol) -> None:
        lane.drop(borrower)
        borrower.lease_ended(Ended(b"", client_frame(CLOSE, b"\x03\xe8"), is_over=False, is_lost=False))

    monkeypatch.setattr(lane, "recall", recall)
    connection.go_away(at_once)
    assert not made.factory.live
    assert made.factory.counts.outcomes == {Outcome.CLEAN: 1}
    made.loop.advance(made.factory.settings.close_timeout + 1)  # no deadline was started for it


@pytest.mark.parametrize(
    ("rest", "is_watched"),
    [
        (client_frame(CLOSE, b"\x03\xe8"), False),
        (client_frame(TEXT, b"hello"), False),
        (client_frame(TEXT, b"hello")[:4], True),
        (b"", True),
    ],
    ids=["a close", "a message", "half a frame", "nothing"],
)
def test_a_socket_is_watched_again_only_if_python_reads_on(
    made: Bed, monkeypatch: pytest.MonkeyPatch, rest: bytes, is_watched: bool
) -> None:
    """What the lease left closes the connection, or is answered and leased again, or waits for more."""
    link = made.link()
    lane, loop = made.factory.lane, made.loop
    assert lane is not None
    assert link.transport not in loop.readers
    watched: list[object] = []
    monkeypatch.setattr(loop, "addReader", watched.append)
    lane.drop(link.protocol)
    link.protocol.lease_ended(Ended(b"", rest, is_over=False, is_lost=False))
    assert watched == [link.transport] * is_watched
    assert (link.protocol.lease is not None) == (rest == client_frame(TEXT, b"hello"))
