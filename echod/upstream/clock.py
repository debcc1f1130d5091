"""The reactor's clock, made one that nobody sets.

Knows how a reactor keeps its delayed calls. Must never know what they are for.
"""

from __future__ import annotations

from time import monotonic
from typing import Any


def make_monotonic(reactor: Any) -> None:
    """Have `reactor` count its seconds by a clock that is never set; delayed calls keep the time that is left to them.

    Every reactor of Twisted uses `time.time` for `seconds` (twisted#2424). When the wall clock was set back, no
    deadline came until the clock had caught up; when it was set forward, all came at once.

    The reactor must not be in a turn: the asyncio reactor compares new calls with the time at which the turn began, and
    would find them due without end.
    """
    step = monotonic() - reactor.seconds()
    for call in (
        *reactor._pendingTimedCalls,
        *reactor._newTimedCalls,
    ):  # the cancelled ones, too, which have a place in the order
        call.time += step
        call.seconds = monotonic
    reactor.seconds = monotonic
