"""What happens after a number of echoes: frames that are wrong, and the end of the connection.

A method of `Ending` has the name of its parameter, and acts once. `after` counts the echoes that were sent. Must never
know which messages were lost.
"""

from __future__ import annotations

from typing import Any

from echod.core.counts import NO_CLOSE_FRAME, NO_CODE
from echod.faults.bad import BAD, bomb
from echod.faults.stage import Shared
from echod.faults.table import Moment

LOOK = 0.01
"""Before a reset, echod looks whether the peer has taken everything. This is the time in seconds until the second look.
Each wait is twice as long as the one before, so that thousands of peers that take nothing cost nine looks each, not
hundreds."""

ROOM_PAUSE = 0.5
"""Seconds until the next look whether memory has room for a bomb."""


class Ending:
    """The end of one connection."""

    __slots__ = ("_echoed", "_it", "_look", "_owes_goaway", "is_over", "is_stalled", "will_reset")

    def __init__(self, shared: Shared) -> None:
        self._it = shared
        self._echoed = 0
        self._look = LOOK
        self._owes_goaway = False
        self.is_over = False
        """Whether no more messages are echoed. Held ones are dropped."""
        self.is_stalled = False
        self.will_reset = False
        """Whether the connection is reset as soon as the peer has taken everything."""

    def begin(self) -> None:
        """Begin: the connection is open."""
        self._act_if_due()

    def count_echo(self) -> None:
        """Note that an echo was sent."""
        self._echoed += 1
        self._act_if_due()

    def stop(self) -> None:
        """The connection is over, and its timers stop. What others of the same HTTP/2 connection are to see is sent."""
        if self._owes_goaway:
            self._send_goaway()

    def _act_if_due(self) -> None:
        if self._echoed != self._it.faults.after or not self._it.connection.in_open_state:
            return
        for name, value in self._it.faults.at(Moment.FRAMES):
            getattr(self, name)(value)
        ends = tuple((name, value) for name, value in self._it.faults.at(Moment.END) if self._ends(name))
        self.is_over = self.is_over or any(name != "goaway" for name, _ in ends)
        for name, value in ends:
            getattr(self, name)(value)

    def _ends(self, name: str) -> bool:
        """Tell whether a parameter ends the connection now: `cut` says where an `abort` does."""
        return name != "abort" or self._it.faults.cut is None

    # Frames that are wrong.

    def raw(self, octets: bytes) -> None:
        """Send bytes as they are."""
        self._it.connection.send_wrong(iter((octets,)), len(octets))

    def bad(self, name: str) -> None:
        """Send a frame that breaks the rules."""
        wrong = BAD[name]
        self.is_over = wrong.is_last  # before a Close frame, which would let held messages out
        if wrong.begins_close:
            self._it.connection.begin_close(1000, "")
        octets = wrong.make(*self._it.connection.agreed_window)
        self._it.connection.send_wrong(iter((octets,)), len(octets))

    def bomb(self, size: int) -> None:
        """Send a message that inflates to much more, once memory has room for it: clients may take nothing of it."""
        if self._it.connection.lacks_room:
            self._it.timers.call_later(ROOM_PAUSE, self._bomb_late)
        else:
            self._it.connection.send_wrong(bomb(size), 0)

    def _bomb_late(self) -> None:
        if self._it.connection.in_open_state:
            self.bomb(self._it.faults.bomb)

    # The end.

    def close(self, code: int) -> None:
        """Close with a code, or without one, or without a Close frame."""
        if code == NO_CLOSE_FRAME:
            self._it.connection.end_without_close_frame()
        else:
            self._it.connection.begin_close(None if code == NO_CODE else code, self._it.faults.reason)

    def abort(self, _: Any) -> None:
        """Reset the connection once the peer has taken what was sent."""
        self.will_reset = True
        self._it.connection.prepare_reset()
        # Not now, because the answers to this read are not written yet.
        self._it.timers.call_later(0, self._reset_when_taken)

    def _reset_when_taken(self) -> None:
        # A reset overtakes bytes that are under way, and the peer's kernel drops what was not read there.
        if self._it.connection.count_pending():
            self._it.timers.call_later(self._look, self._reset_when_taken)
            self._look *= 2
        else:
            self._it.connection.give_up()

    def goaway(self, _: Any) -> None:
        """Send GOAWAY. This connection goes on, as all streams do that are open."""
        # Not now, because the answers to this read are not written yet.
        self._owes_goaway = True
        self._it.timers.call_later(0, self._send_goaway)

    def _send_goaway(self) -> None:
        self._owes_goaway = False
        self._it.connection.send_goaway()

    def stall(self, _: Any) -> None:
        """Read no more."""
        self.is_stalled = True
        self._it.connection.stall()
