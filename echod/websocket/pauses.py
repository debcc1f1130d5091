"""The reasons for not reading a connection. The carrier is read when there is none."""

from __future__ import annotations

from enum import IntFlag

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from echod.websocket.base import ConnectionBase


class Pause(IntFlag):
    """Why a connection is not read."""

    BACKLOG = 1
    """The client does not take its answers."""
    ROOM = 2
    """All connections together hold too much, and this one holds more than its share (`--max-buffered`)."""
    BEHIND = 4
    """What was read before is not done with."""
    LEASE = 8
    """The pump reads the connection."""
    FAULT = 16
    """The connection's URL asks for it."""


_BEHIND, _FAULT = int(Pause.BEHIND), int(Pause.FAULT)

_FOREIGN = int(Pause.BACKLOG | Pause.ROOM | Pause.FAULT)
"""The reasons that a person who looks at the connection wants to know of. The others are echod at work."""


@implementer(IPushProducer)
class Pausing(ConnectionBase):
    """A connection's reasons for not being read."""

    pauses = 0
    """A `Pause` as a number. Python takes a microsecond for one `|` of an `IntFlag`'s."""

    def pause(self, why: Pause) -> None:
        """Read no more, for one reason more."""
        if not self.pauses:
            self.carrier.pause()
        self.pauses |= int(why)

    def resume(self, why: Pause) -> None:
        """Drop a reason, and read again if it was the last one."""
        if self.pauses & int(why):
            self.lift(why)
            self.read_if_may()

    def lift(self, why: Pause) -> None:
        """Drop a reason, and do not read yet."""
        if self.pauses:
            self.pauses &= ~int(why)

    def read_if_may(self) -> None:
        """Read, if there is no reason not to."""
        if not self.pauses:
            self.carrier.resume()

    @property
    def is_behind(self) -> bool:
        """Whether there is something to do before more is read."""
        return bool(self.pauses & _BEHIND)

    # Twisted's names: the carrier is full, or has room again.

    def pauseProducing(self) -> None:
        """Read no more: the client does not take its answers."""
        self.pause(Pause.BACKLOG)

    def resumeProducing(self) -> None:
        """Read again: the client has taken them all."""
        self.resume(Pause.BACKLOG)
        self.factory.budget.settle(self.whole)

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and `connectionLost` follows."""

    # For those who decide about many connections: the budget, keepalive and the admin site.

    @property
    def is_backlogged(self) -> bool:
        """Whether the client does not take its answers."""
        return bool(self.pauses & int(Pause.BACKLOG))

    @property
    def is_waiting(self) -> bool:
        """Whether there is no room for what the client would send."""
        return bool(self.pauses & int(Pause.ROOM))

    @property
    def is_held_up(self) -> bool:
        """Whether the connection's URL asks for not being read now."""
        return bool(self.pauses & _FAULT)

    @property
    def is_backpressured(self) -> bool:
        """Whether the connection is not read because of its client, its URL, or want of room."""
        return bool(self.pauses & _FOREIGN) or (self.lease is not None and self.lease.unsent_size > 0)
