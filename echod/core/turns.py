"""Long work, done in short turns: a connection with more work than fits into one turn stands in line with the others.

Python needs some 10 µs for a small frame. So one read of 64 KiB may be a tenth of a second of work, and with a hundred
clients that send such reads nobody else would be served for ten seconds. Therefore a connection works for at most
`SHARE` and then stands in line. In each turn of the reactor all connections in line have `TURN` together. Work that
takes longer than a share is cut into steps (`Tasks`).

Knows time. Must never know what the work is.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echod.core.account import Account
from echod.core.quantities import KIB

Busy = TypeVar("Busy")

SHARE = 0.001
"""Seconds for which one connection works at a time."""

TURN = 0.005
"""Seconds of one turn for all connections in line. After that the reactor looks at what has arrived meanwhile."""

STEP = 32 * KIB
"""The most bytes that are deflated, or parsed as JSON, in one step. zlib needs a millisecond for so many."""


class Tasks:
    """The tasks that one connection has still to do, in order.

    Each task is an iterator. Each of its steps is short, and yields bytes to send, which may be empty.
    """

    __slots__ = ("_account", "_tasks")

    def __init__(self, account: Account) -> None:
        """What the tasks hold is entered in `account`."""
        self._account = account
        self._tasks: deque[tuple[Iterator[bytes], int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, task: Iterator[bytes], size: int) -> None:
        """Do `task`, which holds `size` bytes, after all others."""
        self._tasks.append((task, size))
        self._account.tasks += size

    def clear(self) -> None:
        """Drop all tasks."""
        self._tasks.clear()
        self._account.tasks = 0

    def step(self) -> bytes:
        """Do one step of the first task, and return the bytes to send."""
        task, size = self._tasks[0]
        for octets in task:
            return octets
        if self._tasks and self._tasks[0][0] is task:  # otherwise the last step has cleared the tasks
            self._tasks.popleft()
            self._account.tasks -= size
        return b""


class Turns(Generic[Busy]):
    """The line of connections that have work to do."""

    def __init__(self, clock: IReactorTime, work: Callable[[Busy], None]) -> None:
        """`work` does a share of a connection's work, and calls `add` again if some work is left."""
        self._clock = clock
        self._work = work
        self._line: OrderedDict[Busy, None] = OrderedDict()
        self._call: IDelayedCall | None = None
        self._share_end = 0.0

    def begin(self) -> None:
        """Begin a share. Only one connection works at a time."""
        self._share_end = self._clock.seconds() + SHARE

    @property
    def is_over(self) -> bool:
        """Whether the share that was begun last is over."""
        return self._clock.seconds() >= self._share_end

    def add(self, busy: Busy) -> None:
        """Put a connection at the end of the line. A connection that is in line already keeps its one place."""
        self._line[busy] = None
        if self._call is None:
            self._call = self._clock.callLater(0, self._turn)

    def stop(self) -> None:
        """Empty the line, and leave no delayed call behind."""
        self._line.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _turn(self) -> None:
        self._call = None
        end = self._clock.seconds() + TURN
        # A connection that comes back into the line is not served twice in a turn.
        for _ in range(len(self._line)):
            if not self._line:  # `stop` was called within the turn
                return
            self._work(self._line.popitem(last=False)[0])
            if self._clock.seconds() >= end:
                break
        if self._line and self._call is None:
            self._call = self._clock.callLater(0, self._turn)
