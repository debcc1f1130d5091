"""What the server sends of its own accord: pings, pongs, and messages that are no echoes.

A method of `Own` has the name of its parameter, and begins when the connection is open. Knows time.
"""

from __future__ import annotations

from echod.faults.stage import Shared
from echod.faults.table import Moment


class Own:
    """What one connection is sent without being asked."""

    __slots__ = ("_it",)

    def __init__(self, shared: Shared) -> None:
        self._it = shared

    def begin(self) -> None:
        """Begin: the connection is open."""
        for name, value in self._it.faults.at(Moment.OWN):
            getattr(self, name)(value)

    def greeting(self, _: str) -> None:
        """Send a message, now or later."""
        if self._it.faults.greeting_delay:
            self._it.timers.call_later(self._it.faults.greeting_delay, self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        self._send(self._it.faults.greeting)

    def _send(self, text: str) -> None:
        payload = text.encode()
        if self._it.connection.in_open_state:
            self._it.connection.do(self._it.connection.answering(payload, False, True), len(payload))

    def ping(self, interval: float) -> None:
        """Send a ping at each interval."""
        if self._it.connection.in_open_state:
            self._it.timers.call_later(interval, self._ping)

    def _ping(self) -> None:
        self._it.connection.ping()
        self.ping(self._it.faults.ping)
