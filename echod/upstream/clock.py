"""The reactor's clock, made one that nobody sets.

Knows how a reactor keeps its delayed calls. Must never know what they are for.
"""

from __future__ import annotations

from time import monotonic
from typing import Any


def make_monotonic(reactor: Any) -> None:
    """Have `reactor` count its seconds by a clock that is never set; the calls that wait already keep the time that is left to them.

    Under every reactor of Twisted's `seconds` is `time.time` (twisted#2424). When the wall clock was put back, no deadline came until it
    was again what it had been; when it was put on, all came at once.
    """
    step = monotonic() - reactor.seconds()
    for call in (*reactor._pendingTimedCalls, *reactor._newTimedCalls):  # the cancelled ones, too, which have a place in the order
        call.time += step
        call.seconds = monotonic
    reactor.seconds = monotonic
