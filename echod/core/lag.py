"""How late the event loop is: a call that comes back twice a second, and notes by how much it was late.

Knows time. Must never know what held the loop up.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL = 0.5
"""Seconds between two calls: a call costs some 20 µs."""


class LagMeter:
    """Tells `note` the seconds by which each call was late."""

    def __init__(self, clock: IReactorTime, note: Callable[[float], None]) -> None:
        self._clock = clock
        self._note = note
        self._call: IDelayedCall | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.seconds() + INTERVAL
        self._call = self._clock.callLater(INTERVAL, self._measure)

    def stop(self) -> None:
        """Measure no longer, and leave no delayed call behind."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _measure(self) -> None:
        self._note(max(0.0, self._clock.seconds() - self._due))
        self.start()
