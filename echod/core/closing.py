"""How long a close may take, from its first step to the reset of a connection that is still there.

A peer has the close timeout. Each look that finds fewer octets pending than the look before starts the timeout
anew: a slow but honest reader gets everything that was written for it. The longest time bounds that, so that a peer
that takes one octet a second is not waited for without end; in a drain, the end of the drain is the only bound.

Knows time and progress. Must never touch a transport: it asks a `Leaver`.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from echod.core.deadlines import Deadlines, Ticker

LOOKS = 8
"""Looks at each connection in one close timeout."""


class Leaver(Protocol):
    """A connection that closes, as far as its time is concerned."""

    def count_pending(self) -> int:
        """Return the octets that were written and that the peer's end has not taken yet."""
        ...

    def give_up(self) -> None:
        """Reset the connection."""
        ...


Connection = TypeVar("Connection", bound=Leaver)


class Closing(Generic[Connection]):
    """The connections that are closing."""

    def __init__(self, ticker: Ticker, timeout: float, longest: float) -> None:
        """`timeout` is for a peer that takes nothing, `longest` for one that does; both are in seconds."""
        self._ends: Deadlines[Connection] = Deadlines(ticker, timeout, self._give_up)
        self._longest: Deadlines[Connection] = Deadlines(ticker, max(timeout, longest), self._give_up)
        self._looks: Deadlines[Connection] = Deadlines(ticker, timeout / LOOKS, self._look)
        self._pending: dict[Connection, int] = {}
        """What `count_pending` returned at the last look."""
        self._has_longest = True

    def __contains__(self, connection: object) -> bool:
        """Tell whether `connection` closes."""
        return connection in self._ends

    def begin(self, connection: Connection) -> None:
        """Take note of the first step of a close."""
        # Counted as nothing until the first look: the last answers and the Close frame may still have to be written.
        self._pending[connection] = 0
        self._ends.add(connection)
        self._looks.add(connection)
        if self._has_longest:
            self._longest.add(connection)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is gone, if it was closing."""
        self._pending.pop(connection, None)
        for queue in (self._ends, self._looks, self._longest):
            queue.discard(connection)

    def leave_longest_to_drain(self) -> None:
        """Let a peer that takes octets have until the drain resets what is left."""
        self._has_longest = False
        self._longest.clear()

    def _look(self, connection: Connection) -> None:
        before, now = self._pending[connection], connection.count_pending()
        self._pending[connection] = now
        if now < before:
            self._ends.add(connection)
        if now:  # else there is nothing left to take
            self._looks.add(connection)

    def _give_up(self, connection: Connection) -> None:
        self.forget(connection)
        connection.give_up()
