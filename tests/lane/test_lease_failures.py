"""A fault in one lease, or in what the lane calls, costs one connection or one turn, and never the pump."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import capturedLogs, eventAsText

from echod.core.counts import Closer, Outcome
from echod.echo import EchoProtocol
from echod.lane.ended import Ended
from echod.lane.native import Native
from echod.upstream import transports
from echod.websocket.factory import EchoFactory
from tests.frames import (
    BINARY,
    CLOSE,
    TEXT,
    client_frame,
    server_frame,
)
from tests.lane.links import (
    UNWANTED,
    echoed,
    is_leased,
    lane_of,
    noise,
    with_library,
)
from tests.loop import Bed, Link, bed


def test_a_lost_read_aborts_the_connection(native: Native) -> None:
    lost: list[Any] = []

    def turn(pump: Any, budget: int) -> Any:
        for lease in lost:
            native.lib.echod_pump_recall(pump, lease)
            lease.why = native.lib.ECHOD_END_NO_MEMORY
            return lost.pop()
        return native.lib.echod_pump_turn(pump, budget)

    with bed(with_library(native, echod_pump_turn=turn)) as made:
        link = made.link()
        lost.append(link.protocol.lease)
        lane_of(made).doRead()
        assert not is_leased(link)
        link.receive_all()
        assert link.was_reset
        made.loop.until(lambda: not made.factory.live)
        assert_failed(made.factory)


def assert_failed(factory: EchoFactory) -> None:
    """Assert that echod ended a connection without a Close frame, and not because of a deadline."""
    assert factory.counts.outcomes == {Outcome.FAILED: 1}
    assert factory.counts.closes == {("1006", Closer.SERVER): 1}


def test_a_connection_that_gets_its_lease_back_may_end_another_lease_that_has_ended(
    lane_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [lane_bed.link() for _ in range(3)]
    returned: list[EchoProtocol] = []
    lease_ended = EchoProtocol.lease_ended

    def meddle(protocol: EchoProtocol, ended: Ended) -> None:
        returned.append(protocol)
        if len(returned) == 1:
            recalled, dropped = (link.protocol for link in links if link.protocol is not protocol)
            lane_of(lane_bed).recall(recalled)
            dropped.give_up()
        lease_ended(protocol, ended)

    monkeypatch.setattr(EchoProtocol, "lease_ended", meddle)
    for link in links:
        link.push(client_frame(CLOSE))
        assert transports.unread([link.transport]) == 6
    lane_of(lane_bed).doRead()
    assert returned == [links[0].protocol, links[1].protocol], "the first to end is the first to be given back"
    assert links[2].receive_all() == b""
    assert links[2].was_reset
    for link in links[:2]:
        assert link.receive_all() == server_frame(CLOSE)


def test_a_lease_that_can_not_be_given_back_costs_one_connection_alone(
    lane_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = lane_bed.link(), lane_bed.link()
    monkeypatch.setattr(broken.protocol, "lease_ended", lambda *_: 1 / 0)
    lane_of(lane_bed).set_tight(True)
    for link in (broken, whole):
        link.push(UNWANTED)
    assert whole.receive(5_004) == server_frame(BINARY, bytes(5_000))
    lane_bed.loop.until(lambda: list(lane_bed.factory.live) == [whole.protocol])
    assert_failed(lane_bed.factory)
    echoed(whole, TEXT, b"still here")


def test_a_lease_that_can_not_be_lost_either_costs_one_connection_alone(
    lane_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reactor drops a descriptor that raises an exception. If memory is short, the log may raise one, too."""
    broken, whole = lane_bed.link(), lane_bed.link()
    monkeypatch.setattr(broken.protocol, "lease_ended", lambda *_: 1 / 0)
    monkeypatch.setattr(broken.protocol, "lease_lost", lambda: 1 / 0)
    monkeypatch.setattr("echod.lane.leases._log", SimpleNamespace(failure=lambda _: 1 / 0))
    lane_of(lane_bed).set_tight(True)
    for link in (broken, whole):
        link.push(UNWANTED)
    assert whole.receive(5_004) == server_frame(BINARY, bytes(5_000))
    assert lane_of(lane_bed) in lane_bed.loop.readers
    echoed(whole, TEXT, b"still here")
    monkeypatch.undo()
    broken.protocol.give_up()


def test_a_turn_that_fails_costs_that_turn_alone(lane_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    link = lane_bed.link()
    with capturedLogs() as events, monkeypatch.context() as patch:
        patch.setattr(lane_bed.loop, "callLater", lambda *_: 1 / 0)
        echoed(link, BINARY, noise(2**20))  # the pump keeps the buffer, and plans to free it later
    assert {event["log_format"] for event in events} == {"a turn of the pump failed"}
    assert lane_of(lane_bed) in lane_bed.loop.readers
    echoed(link, TEXT, b"still here")


def test_the_lane_outlives_a_fault_in_what_it_tells(lane_bed: Bed, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_bed.factory.budget, "_recount", lambda: 1 / 0)
    monkeypatch.setattr(lane_bed.factory.budget, "_limit", 1000)
    message = client_frame(BINARY, noise(100_000))
    with capturedLogs() as events:
        link.send(message[:-1])
        lane_bed.loop.until(lambda: bool(events))
    assert "ZeroDivisionError" in eventAsText(events[0])
    link.send(message[-1:])
    expected = server_frame(BINARY, noise(100_000))
    assert link.receive(len(expected)) == expected
    assert is_leased(link)


def test_the_last_connection_may_stop_the_lane_within_a_turn(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    with bed(native, ping_interval=0) as made:
        lane, link = lane_of(made), made.link()
        monkeypatch.setattr(link.protocol, "lease_ended", lambda *_: lane.stop())
        link.push(client_frame(CLOSE))
        made.loop.until(lambda: lane not in made.loop.readers)
        made.factory.lane = None
