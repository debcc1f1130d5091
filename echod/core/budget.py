"""`--max-buffered`: how much all connections may hold together, and which connections are not read when room is tight.

A connection holds the part of a message that has arrived, and answers that the kernel has not taken. Up to half of the
limit no connection has to wait. Above that, room is tight, and each connection has a share: an eighth of the limit
divided by the number of connections. A connection that holds more than its share is not read until there is room. All
others are read in pieces of one share, so that a client with small messages is served while a hundred others do not
read their answers.

The sum stays under the limit. Half of the limit may be held when room gets tight. A quarter is for shares: each
connection may hold one share and read one more. The last quarter is for a few connections whose turn it is to send the
rest of their message. Without such turns all could wait for ever, each with a part of a message.

Knows numbers. Must never know what a connection is: it asks a `Holder`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import Protocol

from echod.core.deadlines import Deadlines, Ticker

READ_SIZE = 64 * 1024
"""Bytes of one read when there is room. Twisted has the same size."""

MIN_READ_SIZE = 512

PATIENCE = 5
"""Recounts in which a connection may make no progress in its turn before the turn goes to another connection."""

RECOUNT_INTERVAL = 0.2
"""Seconds between two recounts while room is tight. They are needed because nobody reports that an answer was sent."""


WORTH_GIVING_BACK = 16 * 1024 * 1024
"""Bytes that connections have let go since memory was last given back to the kernel, and that are worth the time of
doing so again: 0.2 ms, and about 1.7 ms for each 16 MiB; 18 ms for 256 MiB. The C library cannot do it in parts."""


class Holder(Protocol):
    """What the budget needs to know of a connection."""

    held: int
    """What `count` returned last; only the budget writes it."""

    @property
    def is_backlogged(self) -> bool:
        """Whether the client doesn't take its answers, so that the connection is not read anyway."""
        ...

    @property
    def in_open_state(self) -> bool:
        """Whether the connection is between its opening handshake and its Close frame. Only then can a message become
        whole."""
        ...

    def count(self) -> int:
        """Return how many bytes the connection holds now."""
        ...

    def count_missing(self) -> int:
        """Return how many bytes are still to come until the current message is whole.

        If that is not known, return how many may come. The budget asks only a connection that is in the OPEN state.
        """
        ...

    def wait_for_room(self) -> None:
        """Stop reading until `go_on` is called."""
        ...

    def go_on(self, read_size: int) -> None:
        """Read, at most `read_size` bytes at a time."""
        ...


class Holders(Protocol):
    """All holders."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __iter__(self) -> Iterator[Holder]:
        """Walk through them, the oldest first."""
        ...


class Together:
    """The holders of several kinds."""

    def __init__(self, *kinds: Collection[Holder]) -> None:
        self._kinds = kinds

    def __len__(self) -> int:
        return sum(map(len, self._kinds))

    def __iter__(self) -> Iterator[Holder]:
        return chain.from_iterable(self._kinds)


class _Turn:
    """A connection's turn to send the rest of its message."""

    __slots__ = ("held", "is_over", "most", "patience")

    def __init__(self, held: int, most: int) -> None:
        self.held = held
        """How many bytes the connection held when it last made progress."""
        self.most = most
        """How many bytes the connection may hold at most: its whole message, or the frame that has begun."""
        self.patience = PATIENCE
        self.is_over = False


class Budget:
    """The sum of what all `holders` hold, and which of them are read."""

    def __init__(
        self,
        limit: int,
        holders: Holders,
        ticker: Ticker,
        on_tight: Callable[[bool], object] = bool,
        give_back: Callable[[], object] = bool,
    ) -> None:
        """`limit` is in bytes. `on_tight` is told when room gets tight and when that is over. `give_back` is called to
        give freed memory back to the kernel."""
        self._limit = limit
        self._give_back = give_back
        self._on_tight = on_tight
        self._holders = holders
        self.unowned: Callable[[], int] = int
        """Returns how many bytes leases hold that belong to no holder."""
        self._recounts: Deadlines[Budget] = Deadlines(ticker, RECOUNT_INTERVAL, Budget._recount)
        self._trims: Deadlines[Budget] = Deadlines(ticker, RECOUNT_INTERVAL, Budget._trim)
        self._most = 0
        """The most that was held at any time since memory was last given back to the kernel."""
        self.held = 0
        self.is_tight = False
        self._turns: dict[Holder, _Turn] = {}
        # Connections that made no progress in their turn.
        self._idle: set[Holder] = set()
        # The lane reports what all leased connections hold together. The part of each one is counted at a recount.
        self._leased = 0
        self._leased_counted = 0

    @property
    def total(self) -> int:
        """How many bytes all connections hold together, as far as is known. `held` includes what leased connections
        held at the last recount; the difference since then is added here."""
        return max(0, self.held + self._leased - self._leased_counted)

    def settle(self, holder: Holder) -> None:
        """Note what `holder` holds now. Call this after each read."""
        self._count(holder)
        self._note_total()
        if self.is_tight:
            self._ration(holder)
        else:
            self._check()

    def note_leased(self, octets: int) -> None:
        """Note how many bytes all leased connections hold together now. The number falls when a lease ends, which may
        happen during a recount."""
        is_more, self._leased = octets > self._leased, octets
        self._note_total()
        if is_more and not self.is_tight:
            self._check()

    def release(self, holder: Holder) -> None:
        """Note that `holder` has gone."""
        self.held -= holder.held
        holder.held = 0
        self._note_total()
        self._turns.pop(holder, None)
        self._idle.discard(holder)

    def _count(self, holder: Holder) -> None:
        octets = holder.count()
        self.held += octets - holder.held
        holder.held = octets

    def _note_total(self) -> None:
        """Give memory back to the kernel soon if much has been let go.

        The C library would keep it for the next large message, which may never come. It would be in nobody's account.
        """
        total = self.total
        self._most = max(self._most, total)
        if self._most - total >= WORTH_GIVING_BACK and self not in self._trims:
            self._trims.add(self)

    def _trim(self) -> None:
        self._trims.discard(self)  # a recount may come before it
        self._most = self.total
        self._give_back()

    def _check(self) -> None:
        if self.total > self._limit // 2:
            self._recount()

    def _recount(self) -> None:
        for holder in self._holders:
            self._count(holder)
        self._leased_counted = self._leased - self.unowned()
        # Room gets tight at one half of the limit, and stays so down to one quarter: not each read may walk through all
        # connections.
        was_tight, self.is_tight = self.is_tight, self.total > self._limit // (4 if self.is_tight else 2)
        if self.is_tight:
            self._recounts.add(self)
        if self.is_tight != was_tight:
            self._on_tight(self.is_tight)
        self._choose()
        if self.is_tight or was_tight:
            self._trim()
            for holder in list(self._holders):
                self._ration(holder)

    def _choose(self) -> None:
        """Choose whose turn it is: first the connections that need the least room until their message is whole."""
        share = self.share
        greedy = (
            [holder for holder in self._holders if holder.held > share and holder.in_open_state]
            if self.is_tight
            else []
        )
        self._idle.intersection_update(greedy)
        turns, self._turns = self._turns, {}
        room = self._limit * 3 // 4 - self.total
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
            # If nobody has a turn, one connection may use the last quarter, too. Its answer makes room again, unless
            # its client reads nothing.
            if missing > room and (self._turns or self.total + missing > self._limit):
                break
            room -= missing
            self._turns[holder] = _Turn(holder.held, holder.held + missing)

    @property
    def share(self) -> int:
        """How many bytes each connection may hold while room is tight."""
        return self._limit // (8 * max(1, len(self._holders)))

    def _ration(self, holder: Holder) -> None:
        share = self.share
        turn = self._turns.get(holder)
        if turn is not None and (holder.held > turn.most or holder.is_backlogged):
            turn.is_over = True
        if not self.is_tight or (turn is not None and not turn.is_over):
            holder.go_on(READ_SIZE)
        elif holder.held > share:
            holder.wait_for_room()
        else:
            holder.go_on(max(MIN_READ_SIZE, min(READ_SIZE, share)))
