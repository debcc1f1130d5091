"""One clock for all deadlines of all connections: queues of things that fall due after a fixed time.

All things in one queue wait equally long, so the first one added is the first one due. To add, move or drop a thing is
O(1), and a tick looks only at the head of each queue. (Autobahn's own batched timers are rounded to whole seconds, may
fire early, and cost O(n) to cancel.)

Knows time. Must never know what a deadline means.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()

Thing = TypeVar("Thing")

TICK = 0.1
"""Seconds between two looks at the queues. A deadline is late by at most this time, and never early."""


class Ticker:
    """The one delayed call. It ticks while any queue has something in it."""

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._queues: list[Deadlines[Any]] = []
        self._call: IDelayedCall | None = None

    def add(self, queue: Deadlines[Any]) -> None:
        """Let each tick look at `queue`."""
        self._queues.append(queue)

    def wake(self) -> None:
        """Make sure that there will be a tick."""
        if self._call is None:
            self._call = self.clock.callLater(TICK, self._tick)

    def stop(self) -> None:
        """Forget every deadline and leave no delayed call behind."""
        for queue in self._queues:
            queue.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        self._call = None
        now = self.clock.seconds()
        for queue in self._queues:
            try:
                queue.expire(now)
            except Exception:  # one connection failed; the deadlines of the others must hold
                _log.failure("a deadline failed")
        if any(self._queues):
            self.wake()


class Deadlines(Generic[Thing]):
    """Things that fall due `seconds` after they were added. A queue of 0 seconds keeps nothing and never calls
    `on_due`."""

    def __init__(self, ticker: Ticker, seconds: float, on_due: Callable[[Thing], None]) -> None:
        self._ticker = ticker
        self._seconds = seconds
        self._on_due = on_due
        self._due: OrderedDict[Thing, float] = OrderedDict()
        ticker.add(self)

    def __len__(self) -> int:
        """Return how many things wait."""
        return len(self._due)

    def __contains__(self, thing: object) -> bool:
        """Tell whether `thing` waits."""
        return thing in self._due

    def add(self, thing: Thing) -> None:
        """Let `thing` fall due after the queue's time from now. If `thing` already waits, its time begins anew."""
        if self._seconds:
            self._due[thing] = self._ticker.clock.seconds() + self._seconds
            self._due.move_to_end(thing)
            self._ticker.wake()

    def discard(self, thing: Thing) -> None:
        """Drop `thing`, if it waits."""
        self._due.pop(thing, None)

    def pop(self) -> Thing:
        """Remove and return the thing that is due first, without calling `on_due`. The queue must not be empty."""
        return self._due.popitem(last=False)[0]

    def clear(self) -> None:
        """Drop everything."""
        self._due.clear()

    def expire(self, now: float) -> None:
        """Remove everything that is due, and call `on_due` for each thing."""
        while self._due:
            thing, due = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[thing]
            self._on_due(thing)
