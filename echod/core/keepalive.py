"""Which connections get a ping, and which are dead.

A sign of life is any byte received, and any sent byte that the peer's side has taken. So a slow but honest reader,
whose pong waits behind megabytes of echoes, is never dropped. A connection gets a look in each eighth of an interval,
and a dead peer is found within the interval, an eighth of the interval, and the timeout. If a connection has taken all
its answers and has just shown a sign of life, the next look comes when it may be due: an idle connection gets two or
three looks in an interval. Without a timeout no connection is dropped, and a silent peer gets a ping after each
interval, so that a NAT or a proxy on the way keeps the connection.

A guest of the door (lane/native/door.h) gets a look in each eighth of an interval, too. Nobody notes when it was read,
so a sign of life counts from the look that finds it. Therefore its ping may come an eighth later than that of a
connection, and its dead peer is found within the interval, a quarter of the interval, and the timeout.

Knows time and signs of life. Must never touch a transport: it asks a `Watched`.
"""

from __future__ import annotations

from typing import Protocol

from echod.core.deadlines import Deadlines, Ticker

LOOKS = 8
"""Looks in one ping interval at a connection that does not rest."""


class Watched(Protocol):
    """What keepalive needs to know of a connection."""

    last_seen: float
    """When the last sign of life came. Each read sets it, and keepalive sets it when fewer bytes are pending."""

    pending: int
    """What `count_pending` returned last; only keepalive writes it."""

    seen_before_ping: float
    """What `last_seen` was when the last ping was sent; only keepalive writes it."""

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
        self._rests: Deadlines[Watched] = Deadlines(ticker, interval * (LOOKS - 1) / LOOKS, self._look)

    def watch(self, connection: Watched) -> None:
        """Begin to look at `connection`."""
        self._looks.add(connection)

    def forget(self, connection: Watched) -> None:
        """Stop looking at `connection`."""
        self._looks.discard(connection)
        self._rests.discard(connection)
        self._pinged.discard(connection)

    def _look(self, connection: Watched) -> None:
        now = self._clock.seconds()
        if connection in self._pinged:
            if not _has_shown_life(connection):
                # The ping is not counted as pending, because only the pong is a sign of life. That the peer's kernel
                # takes the ping is none.
                self._looks.add(connection)
                return
            # The pong was the last sign of life, and a proxy counts its idle time from then on, too.
            self._pinged.discard(connection)
        _note_progress(connection, now)
        silent = now - connection.last_seen
        (self._rests if self._may_rest(connection, silent) else self._looks).add(connection)
        if silent >= self._interval:
            connection.seen_before_ping = connection.last_seen
            self._pinged.add(connection)
            # Last, because the ping may end a lease, and with what the lease leaves the connection may begin to close.
            # Then it is forgotten here.
            connection.ping()

    def _may_rest(self, connection: Watched, silent: float) -> bool:
        """Tell whether a connection that was counted now needs no look until it may be due. Its last sign of life was
        `silent` seconds ago.

        It has taken all its answers, so only a read can be its next sign of life, and each read tells its time. If it
        reads nothing, the look after its rest finds it silent for an interval and an eighth at most. If something is
        written without a read, it is counted first when the ping is due, and the ping may be superfluous then.
        """
        is_unread = connection.is_waiting or connection.is_paused_by_url
        return silent < 2 * self._interval / LOOKS and not connection.pending and not is_unread

    def _judge(self, connection: Watched) -> None:
        if not self._timeout:
            return
        _note_progress(connection, self._clock.seconds())
        if not _has_shown_life(connection):
            self._looks.discard(connection)
            connection.give_up()


def _has_shown_life(connection: Watched) -> bool:
    """Tell whether there was a sign of life since the last ping.

    How long ago it was does not matter. The pong of a near client comes at once, so it is about as old as the timeout
    when that is over.
    """
    return connection.last_seen > connection.seen_before_ping


def _note_progress(connection: Watched, now: float) -> None:
    """Note a sign of life if fewer bytes are pending than before, or if the connection is not read.

    A connection that is not read could not show a sign of life. Bytes that were added to the pending ones do no harm:
    they answer something that was read, which was a sign of life already.
    """
    pending = connection.count_pending()
    if pending < connection.pending or connection.is_waiting or connection.is_paused_by_url:
        connection.last_seen = now
    connection.pending = pending
