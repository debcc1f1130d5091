"""How long a close may take, from its first step to the reset of a connection that is still there.

The peer has the close timeout. A look that finds fewer bytes pending than the look before starts the timeout anew, so
that a slow but honest reader gets everything that was written for it. The longest time limits that, because a peer that
takes one byte a second would hold a connection for ever. During a drain the end of the drain is the only limit.

Knows time and progress. Must never touch a transport: it asks a `Leaver`.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from echod.core.deadlines import Deadlines, Ticker

LOOKS = 8
"""Looks at each connection in one close timeout."""


class Leaver(Protocol):
    """What `CloseDeadlines` needs to know of a connection that closes."""

    def count_pending(self) -> int:
        """Return how many written bytes the peer's side has not taken yet."""
        ...

    def give_up(self) -> None:
        """Reset the connection."""
        ...


Leaving = TypeVar("Leaving", bound=Leaver)


class CloseDeadlines(Generic[Leaving]):
    """The connections that are closing."""

    def __init__(self, ticker: Ticker, timeout: float, longest: float) -> None:
        """`timeout` is the time for a peer that takes nothing, `longest` for a peer that does. Both are in seconds."""
        self._ends: Deadlines[Leaving] = Deadlines(ticker, timeout, self._give_up)
        self._longest: Deadlines[Leaving] = Deadlines(ticker, max(timeout, longest), self._give_up)
        self._looks: Deadlines[Leaving] = Deadlines(ticker, timeout / LOOKS, self._look)
        self._pending: dict[Leaving, int] = {}
        """What `count_pending` returned at the last look."""
        self._has_longest = True

    def __contains__(self, connection: object) -> bool:
        """Tell whether `connection` is closing."""
        return connection in self._ends

    def begin(self, connection: Leaving) -> None:
        """Note the first step of a close."""
        # Pending is 0 until the first look, because the last answers and the Close frame may not be written yet.
        self._pending[connection] = 0
        self._ends.add(connection)
        self._looks.add(connection)
        if self._has_longest:
            self._longest.add(connection)

    def forget(self, connection: Leaving) -> None:
        """Drop a connection that is gone, if it was closing."""
        self._pending.pop(connection, None)
        for queue in (self._ends, self._looks, self._longest):
            queue.discard(connection)

    def leave_longest_to_drain(self) -> None:
        """Give every peer that takes bytes time until the drain resets the connections that are left."""
        self._has_longest = False
        self._longest.clear()

    def _look(self, connection: Leaving) -> None:
        before, now = self._pending[connection], connection.count_pending()
        self._pending[connection] = now
        if now < before:
            self._ends.add(connection)
        if now:  # otherwise the peer has taken everything
            self._looks.add(connection)

    def _give_up(self, connection: Leaving) -> None:
        self.forget(connection)
        connection.give_up()
