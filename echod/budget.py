"""`--max-buffered`: how much all connections together may hold, and who is not read when it gets tight.

What a connection holds is a message that is not whole yet and answers that the kernel has not taken. Below half of the limit
nobody is asked to wait. Above it, the other half is shared out evenly: who holds more than its share is not read until there
is room, and all others are read in pieces of a share, so that an honest client with small messages is served while a hundred
others sit on what they will never read. So the sum stays under the limit: half of it before anyone is asked to wait, and for
each connection a share held and a share read, each a quarter of the limit divided by their number.

Knows numbers. Must never know what a connection is: it asks a `Holder`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from echod.deadlines import Deadlines, Ticker

READ_SIZE = 64 * 1024
"""Octets of one read when there is room: Twisted's own."""

MIN_READ_SIZE = 512

RECOUNT_INTERVAL = 0.2
"""Seconds between two recounts while it is tight: that an answer was sent is not announced."""


class Holder(Protocol):
    """A connection, as far as the budget is concerned."""

    held: int
    """What `count` returned last; the budget's to write."""

    def count(self) -> int:
        """Return the octets that are held now."""
        ...

    def wait_for_room(self) -> None:
        """Don't read until told otherwise."""
        ...

    def go_on(self, read_size: int) -> None:
        """Read, at most `read_size` octets at a time."""
        ...


class Budget:
    """The sum of what all `holders` hold, and what follows from it."""

    def __init__(self, limit: int, holders: Collection[Holder], ticker: Ticker, on_tight: Callable[[bool], object] = bool) -> None:
        """`on_tight` is told when it gets tight, and when that is over."""
        self._limit = limit
        self._on_tight = on_tight
        self._holders = holders
        self._recounts: Deadlines[Budget] = Deadlines(ticker, RECOUNT_INTERVAL, Budget._recount)
        self.held = 0
        self.is_tight = False
        # What leased connections hold is told for all of them together; each one's part is counted at a recount.
        self._leased = 0
        self._leased_counted = 0

    def settle(self, holder: Holder) -> None:
        """Take note of what `holder` holds now, after each read."""
        self._count(holder)
        if self.is_tight:
            self._ration(holder)
        else:
            self._check()

    def note_leased(self, octets: int) -> None:
        """Take note of what all leased connections together hold now."""
        self._leased = octets
        if not self.is_tight:
            self._check()

    def release(self, holder: Holder) -> None:
        """Take note that `holder` has gone."""
        self.held -= holder.held
        holder.held = 0

    def _count(self, holder: Holder) -> None:
        octets = holder.count()
        self.held += octets - holder.held
        holder.held = octets

    def _check(self) -> None:
        if self.held + self._leased - self._leased_counted > self._limit // 2:
            self._recount()

    def _recount(self) -> None:
        for holder in self._holders:
            self._count(holder)
        self._leased_counted = self._leased
        # It gets tight at one half and is over at one quarter, so that not every read goes through all connections.
        was_tight, self.is_tight = self.is_tight, self.held > self._limit // (4 if self.is_tight else 2)
        if self.is_tight:
            self._recounts.add(self)
        if self.is_tight != was_tight:
            self._on_tight(self.is_tight)
        if self.is_tight or was_tight:
            for holder in list(self._holders):
                self._ration(holder)

    def _ration(self, holder: Holder) -> None:
        share = self._limit // (4 * max(1, len(self._holders)))
        if self.is_tight and holder.held > share:
            holder.wait_for_room()
        else:
            holder.go_on(max(MIN_READ_SIZE, min(READ_SIZE, share)) if self.is_tight else READ_SIZE)
