"""How often a client may do what costs it nothing and the server some work: reset streams, send pings, and the like.

Pure: numbers and times. Must never know a frame.
"""

from __future__ import annotations

from collections.abc import Mapping


class Allowance:
    """What one client may do, by its kind: `most` times in `seconds`. It may do all of it at once, and then gets it
    back evenly."""

    __slots__ = ("_left", "_most", "_seconds")

    def __init__(self, most: Mapping[str, int], seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._left: dict[str, tuple[float, float]] = {}

    def use(self, kind: str, now: float) -> bool:
        """Note one use at the time `now`, and tell whether there was one left."""
        most = self._most[kind]
        left, before = self._left.get(kind, (float(most), now))
        left = min(float(most), left + (now - before) * most / self._seconds) - 1
        self._left[kind] = max(left, 0.0), now
        return left >= 0
