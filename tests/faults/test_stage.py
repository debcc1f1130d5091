"""The timers of a connection: an action waits once, can be taken back, and goes with the connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.task import Clock

from echod.core.turns import TURN
from echod.faults.stage import Timers, line


class Performer:
    """A connection that performs actions."""

    def __init__(self) -> None:
        self.performed: list[Callable[[], None]] = []

    def perform(self, action: Callable[[], None]) -> None:
        self.performed.append(action)


class SlowPerformer(Performer):
    """One that takes a millisecond for each."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def perform(self, action: Callable[[], None]) -> None:
        super().perform(action)
        self.clock.rightNow += 0.001


class Reactor(Clock):
    """A clock that does not call in a turn what becomes due within it, as a reactor."""

    def turn(self) -> None:
        """Call what is due now."""
        due = [call for call in self.calls if call.getTime() <= self.rightNow]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


def test_timers() -> None:
    clock, connection = Clock(), Performer()
    timers = Timers(clock, cast(Any, connection), line(clock))

    def one() -> None: ...

    def other() -> None: ...

    timers.call_later(1, one)
    timers.call_later(2, other)
    timers.cancel(other)
    timers.cancel(other)
    clock.advance(2)
    assert connection.performed == [one]
    timers.call_later(1, one)
    timers.stop()
    assert not clock.getDelayedCalls()


def test_what_is_due_at_once_is_done_in_turns() -> None:
    """Otherwise everybody else would wait until a thousand connections with `slice` have sent a piece each."""
    clock = Reactor()
    connection = SlowPerformer(clock)
    timers = Timers(clock, cast(Any, connection), line(clock))

    def one_of(_: int) -> None: ...

    actions = [partial(one_of, number) for number in range(20)]
    for action in actions:
        timers.call_later(1, action)
    clock.rightNow = 1.0
    while clock.getDelayedCalls():
        began = clock.rightNow
        clock.turn()
        assert clock.rightNow - began < TURN + 0.0015
    assert connection.performed == actions


def test_what_stands_in_line_can_be_taken_back_and_asked_for_again() -> None:
    clock, connection = Reactor(), Performer()
    timers = Timers(clock, cast(Any, connection), line(clock))

    def one() -> None: ...

    timers.call_later(1, one)
    clock.rightNow = 1.0
    clock.turn()
    timers.cancel(one)
    clock.turn()
    assert not connection.performed
    timers.call_later(1, one)
    clock.rightNow = 2.0
    clock.turn()
    timers.cancel(one)
    timers.call_later(1, one)
    clock.turn()
    assert not connection.performed
    clock.rightNow = 3.0
    clock.turn()
    clock.turn()
    assert connection.performed == [one]
