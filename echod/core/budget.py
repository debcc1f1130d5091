"""`--max-buffered`: how much all connections together may hold, and who is not read when it gets tight.

What a connection holds is a message that is not whole yet and answers that the kernel has not taken. Below half of the
limit nobody is asked to wait. Above it, a quarter is shared out evenly: who holds more than its share is not read until
there is room, and all others are read in pieces of a share, so that an honest client with small messages is served
while a hundred others sit on what they will never read. So the sum stays under the limit: half of it before anyone is
asked to wait, for each connection a share held and a share read, each an eighth of the limit divided by their number,
and a quarter for a few whose turn it is to send the rest of their message: else all would wait, each with a part of
one, for room that none of them makes.

Knows numbers. Must never know what a connection is: it asks a `Holder`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from echod.core.deadlines import Deadlines, Ticker

READ_SIZE = 64 * 1024
"""Octets of one read when there is room: Twisted's own."""

MIN_READ_SIZE = 512

PATIENCE = 5
"""Recounts for which one whose turn it is may send nothing; then it is another's."""

RECOUNT_INTERVAL = 0.2
"""Seconds between two recounts while it is tight: that an answer was sent is not announced."""


class Holder(Protocol):
    """A connection, as far as the budget is concerned."""

    held: int
    """What `count` returned last; the budget's to write."""

    is_backlogged: bool
    """Whether it doesn't take its answers, so that it is not read anyway."""

    @property
    def in_open_state(self) -> bool:
        """Whether it is between its opening handshake and its Close frame: before and behind them no message is to
        become whole."""
        ...

    def count(self) -> int:
        """Return the octets that are held now."""
        ...

    def count_missing(self) -> int:
        """Return the octets that are to come until its message is whole, as far as that is known, else as many as may
        come.

        Asked only of one that is in an OPEN state.
        """
        ...

    def wait_for_room(self) -> None:
        """Don't read until told otherwise."""
        ...

    def go_on(self, read_size: int) -> None:
        """Read, at most `read_size` octets at a time."""
        ...


class _Turn:
    """A connection's turn to send the rest of its message."""

    __slots__ = ("held", "is_over", "most", "patience")

    def __init__(self, held: int, most: int) -> None:
        self.held = held
        """What it held when it last made progress."""
        self.most = most
        """What it may hold at most: its message, or the frame of it that has begun."""
        self.patience = PATIENCE
        self.is_over = False


class Budget:
    """The sum of what all `holders` hold, and what follows from it."""

    def __init__(
        self,
        limit: int,
        holders: Collection[Holder],
        ticker: Ticker,
        on_tight: Callable[[bool], object] = bool,
        give_back: Callable[[], object] = bool,
    ) -> None:
        """`on_tight` is told when it gets tight, and when that is over; `give_back` is called for memory that was
        freed."""
        self._limit = limit
        self._give_back = give_back
        self._on_tight = on_tight
        self._holders = holders
        self._recounts: Deadlines[Budget] = Deadlines(ticker, RECOUNT_INTERVAL, Budget._recount)
        self.held = 0
        self.is_tight = False
        self._turns: dict[Holder, _Turn] = {}
        # Who had its turn and made nothing of it.
        self._idle: set[Holder] = set()
        # What leased connections hold is told for all of them together; each one's part is counted at a recount.
        self._leased = 0
        self._leased_counted = 0

    @property
    def total(self) -> int:
        """The octets that all hold together, as far as is known: of what leases hold, `held` has what they held at the
        last recount."""
        return max(0, self.held + self._leased - self._leased_counted)

    def settle(self, holder: Holder) -> None:
        """Take note of what `holder` holds now, after each read."""
        self._count(holder)
        if self.is_tight:
            self._ration(holder)
        else:
            self._check()

    def note_leased(self, octets: int) -> None:
        """Take note of what all leased connections together hold now. That is less when a lease is ended, within a
        recount perhaps."""
        is_more, self._leased = octets > self._leased, octets
        if is_more and not self.is_tight:
            self._check()

    def release(self, holder: Holder) -> None:
        """Take note that `holder` has gone."""
        self.held -= holder.held
        holder.held = 0
        self._turns.pop(holder, None)
        self._idle.discard(holder)

    def _count(self, holder: Holder) -> None:
        octets = holder.count()
        self.held += octets - holder.held
        holder.held = octets

    def _check(self) -> None:
        if self.total > self._limit // 2:
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
        self._choose()
        if self.is_tight or was_tight:
            self._give_back()
            for holder in list(self._holders):
                self._ration(holder)

    def _choose(self) -> None:
        """Choose whose turn it is: first those who need the least room until their message is whole."""
        share = self._share
        greedy = (
            [holder for holder in self._holders if holder.held > share and holder.in_open_state]
            if self.is_tight
            else []
        )
        self._idle.intersection_update(greedy)
        turns, self._turns = self._turns, {}
        room = self._limit * 3 // 4 - self.held
        for holder in greedy:
            if holder in turns:
                turn = turns[holder]
                if holder.held != turn.held:
                    turn.held, turn.patience = holder.held, PATIENCE
                turn.patience -= 1
                if turn.patience < 0:
                    self._idle.add(holder)
                elif not turn.is_over:
                    self._turns[holder] = turn
                    room -= turn.most - holder.held
        waiting = [
            holder
            for holder in greedy
            if holder not in self._turns and holder not in self._idle and not holder.is_backlogged
        ]
        for missing, _, holder in sorted((holder.count_missing(), i, holder) for i, holder in enumerate(waiting)):
            # One at a time there is room for also in the last quarter: it makes some, unless its client reads nothing.
            if missing > room and (self._turns or self.held + missing > self._limit):
                break
            room -= missing
            self._turns[holder] = _Turn(holder.held, holder.held + missing)

    @property
    def _share(self) -> int:
        return self._limit // (8 * max(1, len(self._holders)))

    def _ration(self, holder: Holder) -> None:
        share = self._share
        turn = self._turns.get(holder)
        if turn is not None and (holder.held > turn.most or holder.is_backlogged):
            turn.is_over = True
        if not self.is_tight or (turn is not None and not turn.is_over):
            holder.go_on(READ_SIZE)
        elif holder.held > share:
            holder.wait_for_room()
        else:
            holder.go_on(max(MIN_READ_SIZE, min(READ_SIZE, share)))
