"""How late the event loop is: a delayed call comes twice a second, and notes how late it came.

Knows time. Must never know what delayed the loop.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL = 0.5
"""Seconds between two calls. A call costs some 20 µs."""


class LagMeter:
    """Tells `note` how many seconds each call was late."""

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
        """Stop measuring, and leave no delayed call behind."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _measure(self) -> None:
        self._note(max(0.0, self._clock.seconds() - self._due))
        self.start()
