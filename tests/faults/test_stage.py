"""The timers of a connection: an action waits once, can be taken back, and goes with the connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.task import Clock

from echod.faults.stage import Timers


class Performer:
    """A connection that performs actions."""

    def __init__(self) -> None:
        self.performed: list[Callable[[], None]] = []

    def perform(self, action: Callable[[], None]) -> None:
        self.performed.append(action)


def test_timers() -> None:
    clock, connection = Clock(), Performer()
    timers = Timers(clock, cast(Any, connection))

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
