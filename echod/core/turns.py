"""Work that takes long, done in short turns: whoever has more to do than fits in one stands in line with the others.

Python needs some 10 µs for a small frame, so that one read of 64 KiB may be a tenth of a second of work, and a hundred
clients that send such reads ten seconds in which nobody else is served. So a connection works for `SHARE` at a time;
then it stands in line, and in each turn of the reactor those in line have `TURN` together. Work that takes longer than
a share is cut into steps (`Tasks`).

Knows time. Must never know what the work is.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echod.core.quantities import KIB

Busy = TypeVar("Busy")

SHARE = 0.001
"""Seconds that one connection works at a time."""

TURN = 0.005
"""Seconds of one turn for all that are in line, before what came in meanwhile is looked at."""

STEP = 32 * KIB
"""Octets that may be deflated, or parsed as JSON, in one step: zlib needs a millisecond for so many."""


class Tasks:
    """What one connection has still to do, in order.

    Each task is an iterator. A step of it is short, and gives octets to be sent, or none.
    """

    __slots__ = ("_tasks", "size")

    def __init__(self) -> None:
        self._tasks: deque[tuple[Iterator[bytes], int]] = deque()
        self.size = 0
        """Octets that the tasks hold."""

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, task: Iterator[bytes], size: int) -> None:
        """Do `task`, which holds `size` octets, after all others."""
        self._tasks.append((task, size))
        self.size += size

    def clear(self) -> None:
        """Leave all of them undone."""
        self._tasks.clear()
        self.size = 0

    def step(self) -> bytes:
        """Do one step of the first; return the octets that are to be sent."""
        task, size = self._tasks[0]
        for octets in task:
            return octets
        if self._tasks and self._tasks[0][0] is task:  # else its last step has cleared them
            self._tasks.popleft()
            self.size -= size
        return b""


class Turns(Generic[Busy]):
    """The line."""

    def __init__(self, clock: IReactorTime, work: Callable[[Busy], None]) -> None:
        """`work` does a share of what somebody has to do, who comes back into the line by `add`, if something is
        left."""
        self._clock = clock
        self._work = work
        self._line: OrderedDict[Busy, None] = OrderedDict()
        self._call: IDelayedCall | None = None
        self._share_end = 0.0

    def begin(self) -> None:
        """Begin a share: one connection works at a time."""
        self._share_end = self._clock.seconds() + SHARE

    @property
    def is_over(self) -> bool:
        """Whether the share that was begun last is over."""
        return self._clock.seconds() >= self._share_end

    def add(self, busy: Busy) -> None:
        """Let somebody stand in line, at its end. Nobody has two places there, however often it is called for one."""
        self._line[busy] = None
        if self._call is None:
            self._call = self._clock.callLater(0, self._turn)

    def stop(self) -> None:
        """Send all home, and leave no delayed call behind."""
        self._line.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _turn(self) -> None:
        self._call = None
        end = self._clock.seconds() + TURN
        # Who comes back into the line is not served twice in a turn.
        for _ in range(len(self._line)):
            if not self._line:  # all were sent home within the turn
                return
            self._work(self._line.popitem(last=False)[0])
            if self._clock.seconds() >= end:
                break
        if self._line and self._call is None:
            self._call = self._clock.callLater(0, self._turn)
