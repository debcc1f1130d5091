"""Which connections get a ping, and which are dead.

A sign of life is any byte received, and any sent byte that the peer's side has taken. So a slow but honest reader,
whose pong waits behind megabytes of echoes, is never dropped. Each connection gets eight looks in an interval. Each
look costs little, and a dead peer is found within the interval, an eighth of the interval, and the timeout. Without a
timeout no connection is dropped, and a silent peer gets a ping after each interval, so that a NAT or a proxy on the way
keeps the connection.

Knows time and signs of life. Must never touch a transport: it asks a `Watched`.
"""

from __future__ import annotations

from typing import Protocol

from echod.core.deadlines import Deadlines, Ticker

LOOKS = 8
"""Looks at each connection in one ping interval."""


class Watched(Protocol):
    """What keepalive needs to know of a connection."""

    last_seen: float
    """When the last sign of life came. Each read sets it, and keepalive sets it when fewer bytes are pending."""

    pending: int
    """What `count_pending` returned last; only keepalive writes it."""

    def count_pending(self) -> int:
        """Return how many written bytes the peer's side has not taken yet."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether the connection is not read because there is no room for what it would send."""
        ...

    @property
    def is_paused_by_url(self) -> bool:
        """Whether the connection is not read because its URL asked for that."""
        ...

    def ping(self) -> None:
        """Send a ping."""
        ...

    def give_up(self) -> None:
        """Drop the connection: the peer is dead."""
        ...


class Keepalive:
    """Looks at all open connections, one after the other."""

    def __init__(self, ticker: Ticker, interval: float, timeout: float) -> None:
        self._clock = ticker.clock
        self._interval = interval
        self._timeout = timeout
        # This queue comes first, so that without a timeout the look of the same tick sends the next ping.
        self._pinged: Deadlines[Watched] = Deadlines(ticker, timeout or interval, self._judge)
        self._looks: Deadlines[Watched] = Deadlines(ticker, interval / LOOKS, self._look)

    def watch(self, connection: Watched) -> None:
        """Begin to look at `connection`."""
        self._looks.add(connection)

    def forget(self, connection: Watched) -> None:
        """Stop looking at `connection`."""
        self._looks.discard(connection)
        self._pinged.discard(connection)

    def _look(self, connection: Watched) -> None:
        now = self._clock.seconds()
        is_pinged = connection in self._pinged
        silent = now - connection.last_seen
        if not is_pinged and (silent >= self._interval or not self._has_rested(connection, silent)):
            _note_progress(connection, now)
            silent = now - connection.last_seen
        if silent < self._interval:
            # This is also the way after a pong. The pong was the last sign of life, and a proxy counts its idle time
            # from then on, too.
            if is_pinged:
                self._pinged.discard(connection)
        elif not is_pinged:
            # The ping is not counted as pending, because only the pong is a sign of life. That the peer's kernel takes
            # the ping is none.
            connection.ping()
            self._pinged.add(connection)
        self._looks.add(connection)

    def _has_rested(self, connection: Watched, silent: float) -> bool:
        """Tell whether nothing was pending at the last look, and nothing was read since, if the last sign of life was
        `silent` seconds ago.

        Then nothing should be pending now, and counting, which asks the kernel, is not needed. If something is pending
        all the same, it is counted first when the ping is due, and the ping may be superfluous then.
        """
        return not connection.pending and silent >= 2 * self._interval / LOOKS

    def _judge(self, connection: Watched) -> None:
        if not self._timeout:
            return
        now = self._clock.seconds()
        _note_progress(connection, now)
        if now - connection.last_seen >= self._timeout:
            self._looks.discard(connection)
            connection.give_up()


def _note_progress(connection: Watched, now: float) -> None:
    """Note a sign of life if fewer bytes are pending than before, or if the connection is not read.

    A connection that is not read could not show a sign of life. Bytes that were added to the pending ones do no harm:
    they answer something that was read, which was a sign of life already.
    """
    pending = connection.count_pending()
    if pending < connection.pending or connection.is_waiting or connection.is_paused_by_url:
        connection.last_seen = now
    connection.pending = pending
