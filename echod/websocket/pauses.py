"""The reasons for not reading a connection. The carrier is read while there is none."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from echod.websocket.base import ConnectionBase


class Pause:
    """Why a connection is not read. Plain numbers: Python takes a microsecond for one `|` of an `IntFlag`'s."""

    BACKLOG = 1
    """The client does not read its answers."""
    ROOM = 2
    """All connections together hold too much, and this one holds more than its share (`--max-buffered`)."""
    BEHIND = 4
    """What was read before is not processed yet."""
    LEASE = 8
    """The pump reads the connection."""
    FAULT = 16
    """The connection's URL asks for it."""
    RATE = 32
    """The connection was read faster than its URL asks for."""


_FOREIGN = Pause.BACKLOG | Pause.ROOM | Pause.FAULT | Pause.RATE
"""The reasons that are shown to a person. The others are part of echod's ordinary work."""


@implementer(IPushProducer)
class Pausing(ConnectionBase):
    """A connection's reasons for not being read."""

    pauses = 0
    """The sum of the reasons, each of `Pause`."""

    def pause(self, why: int) -> None:
        """Add a reason, and stop reading if it is the first."""
        if not self.pauses:
            self.carrier.pause()
        self.pauses |= why

    def resume(self, why: int) -> None:
        """Drop a reason, and read again if it was the last."""
        if self.pauses & why:
            self.lift(why)
            self.read_if_may()

    def lift(self, why: int) -> None:
        """Drop a reason, and do not read yet."""
        if self.pauses:
            self.pauses &= ~why

    def read_if_may(self) -> None:
        """Read, if there is no reason not to."""
        if not self.pauses:
            self.carrier.resume()

    @property
    def is_behind(self) -> bool:
        """Whether bytes that were read before, or tasks, are waiting."""
        return bool(self.pauses & Pause.BEHIND)

    # Twisted's names: the carrier is full, or has room again.

    def pauseProducing(self) -> None:
        """Stop reading, because the client does not read its answers."""
        self.pause(Pause.BACKLOG)

    def resumeProducing(self) -> None:
        """Read again, because the client has taken all its answers."""
        self.resume(Pause.BACKLOG)
        self.factory.budget.settle(self.whole)

    def stopProducing(self) -> None:
        """Do nothing. The connection is lost, and `connectionLost` follows."""

    # For those who decide about many connections: the budget, keepalive and the admin site.

    @property
    def is_backlogged(self) -> bool:
        """Whether the client does not read its answers."""
        return bool(self.pauses & Pause.BACKLOG)

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for room."""
        return bool(self.pauses & Pause.ROOM)

    @property
    def is_paused_by_url(self) -> bool:
        """Whether the connection is not read because its URL asks for it."""
        return bool(self.pauses & Pause.FAULT)

    @property
    def is_backpressured(self) -> bool:
        """Whether the connection is not read because of its client, its URL, or a lack of room."""
        return bool(self.pauses & _FOREIGN) or (self.lease is not None and self.lease.unsent_size > 0)
