"""How pings and a Close frame are answered: later, or not at all.

Knows time. Must never know what a Close frame says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from echod.faults.stage import Shared

OVERHEAD = 125
"""Bytes that a pong that waits takes in addition to its payload."""


class Replies:
    """The replies of one connection."""

    __slots__ = ("_it", "_pongs", "_reply", "has_close")

    def __init__(self, shared: Shared) -> None:
        self._it = shared
        self._pongs: deque[tuple[float, bytes]] = deque()
        self._reply: Callable[[], None] | None = None
        self.has_close = False
        """Whether a Close frame has come whose reply is held back."""

    def holds_pong(self, payload: bytes) -> bool:
        """Take a pong, and tell whether it is held back. Behind a Close frame none is sent. If there are too many, only
        the latest are sent, which RFC 6455 section 5.5.3 allows."""
        delay = self._it.faults.pong
        if self.has_close:
            return True
        if delay is None:
            return False
        if delay == "no":
            return True
        self._pongs.append((self._it.clock.seconds() + delay, payload))
        self._it.account.replies += len(payload) + OVERHEAD
        if self._it.account.replies > self._it.settings.max_delayed:
            self._drop_first()
        if len(self._pongs) == 1:
            self._it.timers.call_later(delay, self._send_pongs)
        return True

    def _drop_first(self) -> bytes:
        _, payload = self._pongs.popleft()
        self._it.account.replies -= len(payload) + OVERHEAD
        return payload

    def _send_pongs(self) -> None:
        now = self._it.clock.seconds()
        while self._pongs and self._pongs[0][0] <= now:
            self._it.connection.pong(self._drop_first())
        if self._pongs:
            self._it.timers.call_later(max(0, self._pongs[0][0] - now), self._send_pongs)

    def holds_close(self, reply: Callable[[], None]) -> bool:
        """Take what replies to a Close frame, and tell whether it is held back."""
        delay = self._it.faults.close_reply
        if delay is None:
            return False
        if not self.has_close:
            self.has_close = True
            self._it.connection.await_nothing()
            if delay != "no":
                self._it.timers.call_later(delay, reply)
        return True

    def stop(self) -> None:
        """Drop everything: the connection is over."""
        self._pongs.clear()
        self._it.account.replies = 0
