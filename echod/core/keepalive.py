"""Which connections get a ping, and which are dead.

A sign of life is any octet received, and any octet that the peer's end has taken of what was sent: a slow but honest
reader, whose pong waits behind megabytes of echoes, is never dropped. A connection is looked at eight times in an
interval, so that each look costs little and a dead peer is found within the interval, an eighth of it, and the timeout.
Without a timeout nobody is dropped, and who stays silent is pinged again after each interval: what is between, a NAT or
a proxy, is to keep the connection.

Knows time and signs of life. Must never touch a transport: it asks a `Watched`.
"""

from __future__ import annotations

from typing import Protocol

from echod.core.deadlines import Deadlines, Ticker

LOOKS = 8
"""Looks at each connection in one ping interval."""


class Watched(Protocol):
    """A connection, as far as keepalive is concerned."""

    last_seen: float
    """When there was a sign of life; each read notes it, and keepalive does when less is pending than was."""

    pending: int
    """What `count_pending` returned last; keepalive's to write."""

    def count_pending(self) -> int:
        """Return the octets that were written and that the peer's end has not taken yet."""
        ...

    is_waiting: bool
    """Whether it is not read because there is no room for what it would send."""

    @property
    def is_held_up(self) -> bool:
        """Whether it is not read because its URL says so."""
        ...

    def ping(self) -> None:
        """Send a ping."""
        ...

    def give_up(self) -> None:
        """Drop the connection: the peer is dead."""
        ...


class Keepalive:
    """Looks at all open connections in turn."""

    def __init__(self, ticker: Ticker, interval: float, timeout: float) -> None:
        self._clock = ticker.clock
        self._interval = interval
        self._timeout = timeout
        # The first to be looked at, so that who is no longer waited for is pinged again by the look of the same tick.
        self._pinged: Deadlines[Watched] = Deadlines(ticker, timeout or interval, self._judge)
        self._looks: Deadlines[Watched] = Deadlines(ticker, interval / LOOKS, self._look)

    def watch(self, connection: Watched) -> None:
        """Begin to look at `connection`."""
        self._looks.add(connection)

    def forget(self, connection: Watched) -> None:
        """Look at it no longer."""
        self._looks.discard(connection)
        self._pinged.discard(connection)

    def _look(self, connection: Watched) -> None:
        now = self._clock.seconds()
        is_pinged = connection in self._pinged
        is_due = now - connection.last_seen >= self._interval
        if not is_pinged and (is_due or not self._has_rested(connection, now)):
            _note_progress(connection, now)
            is_due = now - connection.last_seen >= self._interval
        if not is_due:
            # Also after a pong: it was the last sign of life, and so it is from then on that a proxy counts its idle
            # time.
            self._pinged.discard(connection)
        elif not is_pinged:
            # Not counted as pending: that the peer's kernel takes the ping is no sign of life, the pong is.
            connection.ping()
            self._pinged.add(connection)
        self._looks.add(connection)

    def _has_rested(self, connection: Watched, now: float) -> bool:
        """Tell whether nothing was pending at the last look, nor read since, so that there is nothing to count (which
        asks the kernel).

        Should something be pending all the same, it is counted before the ping, which may then be one too many.
        """
        return not connection.pending and now - connection.last_seen >= 2 * self._interval / LOOKS

    def _judge(self, connection: Watched) -> None:
        if not self._timeout:
            return
        now = self._clock.seconds()
        _note_progress(connection, now)
        if now - connection.last_seen >= self._timeout:
            self._looks.discard(connection)
            connection.give_up()


def _note_progress(connection: Watched, now: float) -> None:
    """Take it for a sign of life when less is pending than was, or when nothing can be heard because nothing is read.

    What comes to it was written in answer to something read, which is a sign of life already.
    """
    pending = connection.count_pending()
    if pending < connection.pending or connection.is_waiting or connection.is_held_up:
        connection.last_seen = now
    connection.pending = pending
