"""Deadlines are never early and at most one tick late, and they leave nothing behind."""

from __future__ import annotations

from twisted.internet.task import Clock

from echod.core.deadlines import TICK, Deadlines, Ticker


def make(seconds: float = 5) -> tuple[Clock, Ticker, Deadlines[str], list[tuple[float, str]]]:
    clock = Clock()
    ticker = Ticker(clock)
    due: list[tuple[float, str]] = []
    queue: Deadlines[str] = Deadlines(ticker, seconds, lambda thing: due.append((clock.seconds(), thing)))
    return clock, ticker, queue, due


def test_each_is_due_once_after_its_time_and_at_most_a_tick_late() -> None:
    clock, _, queue, due = make()
    queue.add("a")
    clock.advance(0.05)
    queue.add("b")
    clock.pump([0.01] * 600)
    assert [thing for _, thing in due] == ["a", "b"]
    assert 5 <= due[0][0] <= 5 + 2 * TICK
    assert 5.05 <= due[1][0] <= 5.05 + 2 * TICK


def test_to_add_again_begins_anew_and_to_discard_ends() -> None:
    clock, _, queue, due = make()
    queue.add("a")
    queue.add("b")
    clock.pump([1] * 4)
    queue.add("a")
    queue.discard("b")
    queue.discard("never there")
    assert "a" in queue
    assert "b" not in queue
    clock.pump([1] * 3)
    assert due == []
    clock.pump([1] * 3)
    assert [thing for _, thing in due] == ["a"]


def test_a_queue_of_no_seconds_takes_nothing() -> None:
    clock, _, queue, _ = make(0)
    queue.add("a")
    assert not queue
    assert not clock.getDelayedCalls()


def test_one_that_fails_holds_up_no_other() -> None:
    clock = Clock()
    ticker = Ticker(clock)
    due: list[str] = []
    broken: Deadlines[str] = Deadlines(ticker, 1, lambda _: due.append("broken") or 1 / 0)  # type: ignore[arg-type,func-returns-value]
    whole: Deadlines[str] = Deadlines(ticker, 1, due.append)
    for thing in ("a", "b"):
        broken.add(thing)
        whole.add(thing)
    clock.pump([TICK] * 15)
    assert sorted(due) == ["a", "b", "broken", "broken"]


def test_nothing_ticks_when_nothing_waits() -> None:
    clock, ticker, queue, _ = make()
    queue.add("a")
    assert len(clock.getDelayedCalls()) == 1
    queue.discard("a")
    clock.advance(TICK)
    assert not clock.getDelayedCalls()
    queue.add("a")
    ticker.stop()
    assert not queue
    assert not clock.getDelayedCalls()
    ticker.stop()


def test_a_thing_may_be_added_again_when_it_is_due() -> None:
    clock = Clock()
    times: list[float] = []
    queue: Deadlines[str]

    def again(thing: str) -> None:
        times.append(clock.seconds())
        queue.add(thing)

    queue = Deadlines(Ticker(clock), 1, again)
    queue.add("a")
    clock.pump([TICK] * 35)
    assert len(times) == 3
