"""Gives the reactor a monotonic clock, which nobody can set.

Knows how a reactor keeps its delayed calls. Must never know what the calls are for.
"""

from __future__ import annotations

from time import monotonic
from typing import Any


def make_monotonic(reactor: Any) -> None:
    """Make `reactor` count seconds with a monotonic clock. Each delayed call keeps the time that it has left.

    Every reactor of Twisted uses `time.time` for `seconds` (twisted#2424). When the wall clock was set back, no
    deadline came until the clock had caught up; when it was set forward, all deadlines came at once.

    The reactor must not be in a turn: the asyncio reactor compares new calls with the time at which its turn began, and
    would find them due again and again.
    """
    step = monotonic() - reactor.seconds()
    # Cancelled calls change, too, because they still have a place in the order.
    for call in (*reactor._pendingTimedCalls, *reactor._newTimedCalls):
        call.time += step
        call.seconds = monotonic
    reactor.seconds = monotonic
