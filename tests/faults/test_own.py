"""What the server sends of its own accord, and that it stops."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.task import Clock

from echod.core.deadlines import TICK
from echod.faults.own import BURST_AHEAD, BURST_PAUSE, BURST_SIZE, MAX_BURST_PAUSE
from echod.websocket.pauses import Pausing
from tests.fakes import assert_freed_at_once, make_factory
from tests.faults.peers import come, opened
from tests.frames import CLOSE, PONG, TEXT, Frame, client_frame, close_payload, handshake
from tests.h2_client import Http2Client, exchange


def numbered(*numbers: int) -> list[Frame]:
    return [Frame(TEXT, str(number).encode()) for number in numbers]


def test_a_greeting_comes_with_the_answer_or_later(clock: Clock) -> None:
    assert come(opened(clock, "greeting=gr%C3%BCn")) == [Frame(TEXT, "grün".encode())]
    peer = opened(clock, "greeting=tea&greeting-delay=1s")
    assert come(peer) == []
    clock.advance(1)
    assert come(peer) == [Frame(TEXT, b"tea")]


def test_a_greeting_that_is_too_late_is_not_sent(clock: Clock) -> None:
    peer = opened(clock, "greeting=tea&greeting-delay=1s")
    peer.protocol.go_away(at_once=True)
    assert [frame.opcode for frame in come(peer)] == [CLOSE]
    clock.advance(1)
    assert come(peer) == []


def test_pongs(clock: Clock) -> None:
    peer = opened(clock, "pong-every=1s")
    clock.pump([1, 1])
    assert come(peer) == [Frame(PONG, b"")] * 2
    peer.protocol.go_away(at_once=True)
    peer.take()
    clock.pump([1, 1])
    assert come(peer) == []


def test_numbered_messages(clock: Clock) -> None:
    peer = opened(clock, "every=1s&count=3")
    clock.pump([1] * 5)
    assert come(peer) == numbered(1, 2, 3)
    peer = opened(clock, "every=1s")
    clock.pump([1] * 5)
    assert come(peer) == numbered(1, 2, 3, 4, 5)
    peer.protocol.go_away(at_once=True)
    peer.take()
    clock.pump([1, 1])
    assert come(peer) == []


def test_numbered_messages_wait_for_a_client_that_does_not_read(clock: Clock) -> None:
    peer = opened(clock, "every=1s")
    peer.protocol.pauseProducing()
    clock.pump([1] * 5)
    assert come(peer) == []
    peer.protocol.resumeProducing()
    clock.advance(1)
    assert come(peer) == numbered(1)


def test_a_burst(clock: Clock) -> None:
    sizes = [len(frame.payload) for frame in come(opened(clock, "burst=3"))]
    assert sizes == [BURST_SIZE] * 3
    assert [frame.payload for frame in come(opened(clock, "burst=2&size=3"))] == [b"1 x", b"2 x"]


def test_a_burst_waits_for_a_client_that_does_not_read(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pausing, "is_backlogged", True)
    peer = opened(clock, "burst=2&size=1")
    assert come(peer) == []
    clock.advance(BURST_PAUSE)
    assert come(peer) == []
    monkeypatch.undo()
    clock.advance(2 * BURST_PAUSE)
    assert [frame.payload for frame in come(peer)] == [b"1", b"2"]


def test_a_client_that_never_reads_is_looked_at_less_and_less(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def look(_: Pausing) -> bool:
        looks.append(clock.seconds())
        return True

    monkeypatch.setattr(Pausing, "is_backlogged", property(look))
    opened(clock, "burst=2")
    clock.pump([BURST_PAUSE] * 1000)
    pauses = [after - before for before, after in pairwise(looks)]
    assert pauses[0] == pytest.approx(BURST_PAUSE)
    assert pauses[-1] == pytest.approx(MAX_BURST_PAUSE, abs=BURST_PAUSE)
    assert len(looks) < 30


def test_a_burst_is_made_as_the_client_takes_it(clock: Clock) -> None:
    made = exchange(clock, client=Http2Client(opens_windows=False))
    made.opened("/?burst=100&size=64KiB")
    (stream,) = made.session.streams.values()
    assert stream.unsent <= BURST_AHEAD


def test_a_burst_waits_while_memory_is_short(clock: Clock) -> None:
    factory = make_factory(clock, max_buffered=2**20)
    made = exchange(clock, factory, Http2Client(opens_windows=False))
    numbers = [made.opened("/?burst=200&size=1000") for _ in range(20)]
    assert 2**19 < factory.budget.held < 2**20
    made.client.h2.increment_flow_control_window(2**24)
    for number in numbers:
        made.client.h2.increment_flow_control_window(2**20, number)
    for _ in range(20):
        clock.advance(TICK)
        made.go()
    assert {len(made.client.frames(number)) for number in numbers} == {200}


def test_nothing_of_it_counts_for_after(clock: Clock) -> None:
    peer = opened(clock, "burst=2&size=1&every=1s&greeting=tea&close=4000&after=1")
    clock.advance(1)
    assert len(come(peer)) == 4
    assert [frame.opcode for frame in peer.frames(client_frame(TEXT, b"a"))] == [TEXT, CLOSE]


@pytest.mark.parametrize(
    "query", ["every=1s", "pong-every=1s", "burst=1000&size=64KiB", "greeting=a&greeting-delay=1s"]
)
def test_a_lost_connection_is_freed_at_once(clock: Clock, query: str) -> None:
    assert_freed_at_once(
        clock, lambda peer: peer.send(handshake(f"/?{query}") + client_frame(CLOSE, close_payload(1000)))
    )
