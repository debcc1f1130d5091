"""What a lease holds: large messages, answers that a slow client has not taken, and the budget over all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from echod.core import memory
from echod.core.budget import RECOUNT_INTERVAL, Budget
from echod.core.deadlines import TICK, Ticker
from echod.echo import EchoProtocol
from echod.lane.leases import SPARE_TIME
from echod.lane.native import Native
from tests.core.test_budget import FakeHolder
from tests.frames import (
    BINARY,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    server_frame,
    split,
)
from tests.lane.links import (
    KEY,
    echoed,
    has_taken_all,
    held,
    is_leased,
    lane_of,
    noise,
    stuff,
)
from tests.loop import Bed, Link, Loop, bed

# Large messages, and clients that don't read.


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_large_message_in_pieces_is_held_in_the_lease(lane_bed: Bed, link: Link, opcode: int) -> None:
    octets, lease = client_frame(opcode, noise(2**20, opcode)), link.protocol.lease
    for start in range(0, len(octets) - 1, 100_000):
        piece = octets[start : min(start + 100_000, len(octets) - 1)]
        link.send(piece)
        lane_bed.loop.until(lambda: has_taken_all(link))
    lane_bed.loop.until(lambda: held(lane_bed) >= len(octets) - 1)
    assert held(lane_bed) == lane_bed.factory.budget._leased
    link.send(octets[-1:])
    expected = server_frame(opcode, noise(2**20, opcode))
    assert link.receive(len(expected)) == expected
    lane_bed.loop.turn()
    assert (held(lane_bed), lane_bed.factory.budget._leased, link.protocol.lease) == (0, 0, lease)


def test_the_buffers_of_large_messages_are_kept_for_a_while(lane_bed: Bed, link: Link) -> None:
    lane = lane_of(lane_bed)
    echoed(link, BINARY, noise(2**20, BINARY))
    lane_bed.loop.turn()
    assert lane._lib.echod_pump_spare(lane._pump) >= 2**20
    lane_bed.loop.advance(SPARE_TIME)
    assert lane._lib.echod_pump_spare(lane._pump) == 0
    # The lane's end frees the next ones, if it comes first.
    echoed(link, BINARY, noise(2**20, BINARY))


@pytest.mark.parametrize("size", [100, 60_000, 2**20])
def test_a_client_that_does_not_read_is_not_read_and_gets_all_in_the_end(lane_bed: Bed, size: int) -> None:
    link = lane_bed.link(send_buffer=65_536)
    frame, lease = client_frame(BINARY, noise(size), mask=KEY), link.protocol.lease
    sent = stuff(link, frame, lambda: lease.unsent_size > 0)
    assert lease.unsent_size <= link.protocol.count() == held(lane_bed)
    assert link.protocol.count_pending() >= lease.unsent_size
    assert lease.unsent_size <= max(size + 10, 2 * 65_536)
    messages = -(-sent // len(frame))
    link.send(frame[sent % len(frame) :] if sent % len(frame) else b"")
    expected = server_frame(BINARY, noise(size)) * messages
    assert link.receive(len(expected)) == expected
    lane_bed.loop.until(lambda: held(lane_bed) == 0)
    assert link.protocol.lease is lease
    echoed(link, TEXT, b"as before")


@pytest.mark.parametrize("size", [100, 2**20])
def test_a_client_that_ends_its_half_gets_what_is_unsent(lane_bed: Bed, size: int) -> None:
    link = lane_bed.link(send_buffer=65_536)
    frame = client_frame(BINARY, noise(size), mask=KEY)
    sent = stuff(link, frame, lambda: link.protocol.lease.unsent_size > 0)
    link.send(frame[sent % len(frame) :] if sent % len(frame) else b"")
    link.end()
    assert link.receive_all() == server_frame(BINARY, noise(size)) * -(-sent // len(frame))
    lane_bed.loop.until(lambda: not lane_bed.factory.live)


def test_a_client_that_ends_its_half_within_a_message(lane_bed: Bed) -> None:
    link = lane_bed.link()
    link.send(client_frame(TEXT, b"whole") + client_frame(TEXT, b"not")[:-1])
    link.end()
    assert link.receive_all() == server_frame(TEXT, b"whole")
    lane_bed.loop.until(lambda: not lane_bed.factory.live)


def test_going_away_over_unsent_answers(lane_bed: Bed) -> None:
    link = lane_bed.link(send_buffer=65_536)
    frame = client_frame(BINARY, noise(2**20), mask=KEY)
    sent = stuff(link, frame, lambda: link.protocol.lease.unsent_size > 0)
    link.protocol.go_away(at_once=True)
    link.end()
    found, rest = split(link.receive_all())
    assert rest == b""
    assert found[-1].payload == close_payload(1001, "going away")
    assert found[:-1] == [Frame(BINARY, noise(2**20))] * (len(found) - 1)
    assert 1 <= len(found) - 1 <= -(-sent // len(frame))


# The budget.


def test_a_tight_budget_ends_large_leases_and_the_small_go_on(native: Native, dial: Callable[[Bed], Link]) -> None:
    with bed(native, max_buffered=400_000, ping_interval=0, full_timeout=10) as made:
        hogs, modest = [dial(made) for _ in range(3)], dial(made)
        begun = client_frame(BINARY, bytes(190_000))[:80_000]
        memory.give_back()  # so that a new buffer takes no memory before it is filled
        for hog in hogs:
            hog.send(begun)
        made.loop.until(lambda: made.factory.budget.is_tight)
        # If the pump read all three in one turn, they held too much to go on: all wait until the recount.
        made.loop.advance(RECOUNT_INTERVAL)
        # Now all wait, except the one whose turn it is. Its lease has ended, too, if it had to wait.
        assert sorted(hog.protocol.is_waiting for hog in hogs) == [False, True, True]
        assert not any(is_leased(hog) for hog in hogs if hog.protocol.is_waiting)
        assert is_leased(modest)
        assert made.factory.budget.held >= 150_000
        echoed(modest, TEXT, b"small")
        echoed(modest, TEXT, noise(4_000, TEXT))
        assert is_leased(modest)
        modest.send(client_frame(BINARY, bytes(190_000))[:30_000])
        made.loop.until(lambda: modest.protocol.is_waiting)
        # First each of them has its turn, and makes no progress.
        made.loop.pump([TICK] * 200)
        refused = [link for link in (*hogs, modest) if link.protocol.state != EchoProtocol.STATE_OPEN]
        assert len(refused) >= 2, "until there is room for those who are left"
        for link in refused:
            (close,) = split(link.receive_all())[0]
            assert close.payload[:2] == (1013).to_bytes(2, "big")
        for link in (*hogs, modest):
            link.end()
        made.loop.until(lambda: not made.factory.live)
        made.loop.pump([TICK] * 5)
        assert not made.factory.budget.is_tight
        late = dial(made)
        late.send(client_frame(BINARY, bytes(190_000))[:80_000])
        made.loop.until(lambda: is_leased(late) and late.protocol.count() > 70_000)


@pytest.mark.parametrize("when", ["reading", "writing"])
def test_a_tight_pump_keeps_no_unsent_answers(lane_bed: Bed, when: str) -> None:
    link = lane_bed.link(send_buffer=65_536)
    lease = link.protocol.lease
    if when == "reading":
        lane_of(lane_bed).set_tight(True)
    frame = client_frame(BINARY, noise(2_000), mask=KEY)
    sent = stuff(link, frame, lambda: not is_leased(link) or lease.unsent_size > 0)
    lane_of(lane_bed).set_tight(True)
    link.send(frame[sent % len(frame) :] if sent % len(frame) else b"")
    expected = server_frame(BINARY, noise(2_000)) * -(-sent // len(frame))
    assert link.receive(len(expected)) == expected
    echoed(link, TEXT, b"as before")
    assert is_leased(link)


def test_the_budget_takes_note_of_what_leases_hold() -> None:
    tight: list[bool] = []
    with Loop() as loop:
        holder = FakeHolder()
        budget = Budget(1000, [holder], Ticker(loop), tight.append)
        budget.note_leased(400)
        assert not tight
        holder.octets = 501
        budget.note_leased(501)
        assert (tight, budget.held) == ([True], 501)
        budget.note_leased(600)
        holder.octets = 0
        budget.note_leased(0)
        loop.pump([TICK] * 5)
        assert tight == [True, False]
        assert not loop.getDelayedCalls()


def test_what_a_lease_held_is_not_counted_once_it_is_ended(lane_bed: Bed, link: Link) -> None:
    """This holds even if the pump has nothing more to do, so that no turn of it reports the change."""
    link.send(client_frame(BINARY, noise(100_000))[:-1])
    lane_bed.loop.until(lambda: link.protocol.count() >= 99_999)
    lane_bed.loop.until(lambda: lane_bed.factory.budget.total >= 99_999)
    link.protocol.give_up()
    lane_bed.loop.until(lambda: not lane_bed.factory.live)
    assert lane_bed.factory.budget.total == 0
