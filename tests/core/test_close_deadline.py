"""How long a close may take: a peer that takes nothing has the timeout, and a peer that takes bytes has the longest
time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from echod.core.close_deadline import CloseDeadlines
from echod.core.deadlines import TICK, Ticker


class Leaving:
    """A connection that closes, with as many bytes pending as the test says."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.pending = 0
        self.looks = 0
        self.end: float | None = None

    def count_pending(self) -> int:
        self.looks += 1
        return self.pending

    def give_up(self) -> None:
        assert self.end is None
        self.end = self._clock.seconds()


def make(clock: Clock, longest: float = 60) -> tuple[CloseDeadlines[Leaving], Leaving]:
    closing: CloseDeadlines[Leaving] = CloseDeadlines(Ticker(clock), 4, longest)
    leaving = Leaving(clock)
    closing.begin(leaving)
    assert leaving in closing
    return closing, leaving


def wait(clock: Clock, seconds: float, each: Callable[[], object] = bool) -> None:
    for _ in range(round(seconds / TICK)):
        each()
        clock.advance(TICK)


def test_a_peer_that_takes_nothing_has_the_timeout() -> None:
    for pending in (0, 10**6):
        clock = Clock()
        closing, leaving = make(clock)
        leaving.pending = pending
        wait(clock, 10)
        assert leaving.end == pytest.approx(4, abs=2 * TICK)
        assert leaving not in closing
        assert not clock.getDelayedCalls()


def test_progress_begins_the_timeout_anew() -> None:
    clock = Clock()
    _, leaving = make(clock)
    leaving.pending = 10**6

    def take() -> None:
        leaving.pending -= 1000

    wait(clock, 20, take)
    assert leaving.end is None
    wait(clock, 10)
    assert leaving.end == pytest.approx(24, abs=0.7)


def test_what_is_written_late_is_no_progress() -> None:
    clock = Clock()
    _, leaving = make(clock)

    def write() -> None:
        leaving.pending += 1

    wait(clock, 10, write)
    assert leaving.end == pytest.approx(4, abs=2 * TICK)


def test_an_octet_a_second_lasts_for_the_longest_time() -> None:
    clock = Clock()
    _, leaving = make(clock)
    leaving.pending = 10**6
    for _ in range(100):
        leaving.pending -= 1
        wait(clock, 1)
    assert leaving.end == pytest.approx(60, abs=2 * TICK)


def test_the_longest_time_is_never_less_than_the_timeout() -> None:
    clock = Clock()
    _, leaving = make(clock, longest=1)
    wait(clock, 10)
    assert leaving.end == pytest.approx(4, abs=2 * TICK)


def test_in_a_drain_the_drain_is_the_only_bound() -> None:
    clock = Clock()
    closing, leaving = make(clock)
    late = Leaving(clock)
    closing.leave_longest_to_drain()
    closing.begin(late)
    leaving.pending = late.pending = 10**6
    for _ in range(100):
        leaving.pending -= 1
        late.pending -= 1
        wait(clock, 1)
    assert (leaving.end, late.end) == (None, None)
    wait(clock, 10)
    assert leaving.end == late.end == pytest.approx(104, abs=0.7)


def test_nobody_is_looked_at_who_has_nothing_to_take() -> None:
    clock = Clock()
    closing, leaving = make(clock)
    wait(clock, 3)
    assert leaving.looks == 1
    closing.forget(leaving)
    assert leaving not in closing
    wait(clock, 10)
    assert leaving.end is None
    assert not clock.getDelayedCalls()
