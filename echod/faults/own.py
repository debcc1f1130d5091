"""What the server sends of its own accord: pings, pongs, and messages that are no echoes.

A method of `Own` has the name of its parameter, and begins when the connection is open. Knows time.
"""

from __future__ import annotations

from collections.abc import Iterator

from echod.faults.stage import Shared
from echod.faults.table import Moment

BURST_SIZE = 125
"""Bytes of a message of a burst, if the URL does not say: the longest with the shortest header."""

BURST_PAUSE = 0.01
"""Seconds until a burst goes on, if the client does not take it, or memory is short. While that is so, each wait is
twice as long as the one before, so that thousands of such clients do not keep the daemon busy."""

MAX_BURST_PAUSE = 0.64
"""The longest of these waits."""

BURST_AHEAD = 64 * 1024
"""Bytes of a burst that are made before they are written: only then is it known whether the client takes them."""


class Own:
    """What one connection is sent without being asked."""

    __slots__ = ("_ahead", "_it", "_number", "_pause", "_sent")

    def __init__(self, shared: Shared) -> None:
        self._it = shared
        self._number = 0
        """The last of the numbered messages."""
        self._sent = 0
        """How many messages of the burst were sent."""
        self._ahead = 0
        """How many bytes of them may not be written yet."""
        self._pause = BURST_PAUSE

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

    def pong_every(self, interval: float) -> None:
        """Send a pong at each interval."""
        if self._it.connection.in_open_state:
            self._it.timers.call_later(interval, self._pong)

    def _pong(self) -> None:
        self._it.connection.pong(b"")
        self.pong_every(self._it.faults.pong_every)

    def every(self, interval: float) -> None:
        """Send a numbered message at each interval."""
        if self._it.connection.in_open_state and self._number != self._it.faults.count:
            self._it.timers.call_later(interval, self._send_number)

    def _send_number(self) -> None:
        if not self._it.connection.is_backlogged:  # otherwise they would pile up
            self._number += 1
            self._send(str(self._number))
        self.every(self._it.faults.every)

    def burst(self, _: int) -> None:
        """Send messages as fast as the client takes them."""
        self._it.connection.do(self._bursting(), 0)

    def _bursting(self) -> Iterator[bytes]:
        connection, faults = self._it.connection, self._it.faults
        size = faults.size or BURST_SIZE
        while self._sent < faults.burst and connection.in_open_state:
            if self._ahead >= BURST_AHEAD:
                self._ahead = 0
                connection.flush()
            if connection.is_backlogged or connection.lacks_room:
                self._it.timers.call_later(self._pause, self._burst_on)
                self._pause = min(2 * self._pause, MAX_BURST_PAUSE)
                return
            self._pause = BURST_PAUSE
            self._sent += 1
            self._ahead += size
            payload = f"{self._sent} ".encode().ljust(size, b"x")[:size]
            yield from connection.answering(payload, False, True)

    def _burst_on(self) -> None:
        self._it.connection.do(self._bursting(), 0)
