"""Lending a connection's carrier to the pump, and going on without the pump.

A lease begins when nothing is under way either way, and ends when something comes that is not ordinary, or when the
connection is needed in Python (`take_back`).
"""

from __future__ import annotations

from echod.core.counts import Outcome
from echod.lane.ended import Ended
from echod.upstream.tls_sessions import Session
from echod.websocket.closing import Closing
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSED, OPEN

MOST_MOVED = 64 * 1024
"""Octets that a lease may hold and be ended all the same, so that the buffers of its TLS session can be given back:
what it holds moves."""


class Lending(Closing):
    """The leases of a connection."""

    _has_unread_session = False
    """Whether the pump has given back a TLS session that may have something left to read."""

    _reads = 0
    """The lease's reads at the last look."""

    # The lease begins.

    @property
    def has_lane(self) -> bool:
        """Whether the pump can serve such a connection."""
        lane = self.factory.lane
        if lane is None or not self.carrier.can_be_lent(lane.takes_tls):
            return False
        return self.extension is None or (lane.takes_deflate and self.extension.terms.stands_alone)

    @property
    def _can_be_lent(self) -> bool:
        return (
            not self.pauses
            and self.phase is OPEN
            and self._codec is not None
            and self.is_idle
            and self.has_lane
            and not self.carrier.unsent
        )

    def offer(self) -> None:
        """Lend the carrier if nothing is under way either way."""
        if not self._can_be_lent:
            return
        if self.carrier.has_session:
            # Twisted is still within its read: there may be more of it, and something to be written in answer.
            self.factory.turns.add(self.whole)
        else:
            self.lend()

    def lend(self) -> None:
        """Lend the carrier now, if nothing is under way either way."""
        if not self._can_be_lent:
            return
        if self.carrier.has_session:
            self._renew_buffers()
        loan = self.carrier.loan()
        if loan is not None and self._lend(*loan):
            self._reads = 0
            self.pause(Pause.LEASE)

    def _lend(self, descriptor: int, session: Session | None) -> bool:
        assert self.factory.lane is not None
        if self.extension is None:
            return self.factory.lane.lend(self.whole, descriptor, session)
        is_lent = self.factory.lane.lend(self.whole, descriptor, session, self.extension.terms, self.extension.window)
        if is_lent:
            self.extension.window = b""  # the lease has it, and moves it on
        return is_lent

    @property
    def last_seen(self) -> float:
        """When there was a sign of life. A lease says only that there were reads since the last look at it."""
        if self.lease is not None and self.lease.reads != self._reads:
            self._reads = self.lease.reads
            self.seen_at = self.factory.clock.seconds()
        return self.seen_at

    @last_seen.setter
    def last_seen(self, now: float) -> None:
        self.seen_at = now

    @property
    def lane_name(self) -> str:
        """What serves the connection now."""
        return "pump" if self.lease is not None else "codec" if self._codec is not None else "autobahn"

    # The lease ends.

    def take_back(self) -> None:
        """End the lease, if there is one."""
        if self.lease is not None:
            assert self.factory.lane is not None
            last_seen = self.last_seen
            self.factory.lane.recall(self.whole)
            self.seen_at = last_seen  # that a lease is ended here is no sign of life of the client

    def lease_ended(self, ended: Ended) -> None:
        """Go on without the pump."""
        self.seen_at = self.factory.clock.seconds()
        if ended.is_lost:
            self.lease_lost()
            return
        if self.carrier.has_session:
            self.factory.shrinks_later(self.whole)
            self.carrier.flush_session()
        elif ended.is_over and not ended.unsent and not ended.rest and self.phase is OPEN:
            self.carrier.close()
            return
        if ended.unsent:
            self.carrier.write(ended.unsent)
        self.resume(Pause.LEASE)
        if self.extension is not None:
            self.extension.window = ended.window
        if ended.fragments:
            self._fragments = ended.fragments - 1  # the frame that stands for them will count as one
        if ended.large is not None:
            assert self._codec is not None
            self.keep_large(self._codec.go_on(ended.large))
        if ended.rest or ended.large is not None:
            self.act(lambda: self.receive(ended.rest))
        self._has_unread_session = self.carrier.has_session
        self.read_session()

    def lease_lost(self) -> None:
        """Reset the connection: it can't go on, nor be told why, as part of an answer may be out."""
        self.give_up(Outcome.FAILED)

    # The buffers of TLS: a session's grow with a large message, and never shrink by themselves.

    def lease_grown(self) -> None:
        """Give the buffers of the TLS session back later."""
        self.factory.grew(self.whole)

    def shrink(self) -> None:
        """Give back what the buffers of TLS have grown to, or later, if they are in use.

        A lease has them in use. The next lease begins with new ones.
        """
        if self.lease is None:
            self._renew_buffers()
        elif self.lease.held > MOST_MOVED:
            self.factory.shrinks_later(self.whole)
        else:
            self.take_back()
            self.lend()

    def _renew_buffers(self) -> None:
        if self.carrier.renew_buffers():
            self.factory.shrank(self.whole)
        else:
            self.factory.shrinks_later(self.whole)

    def read_session(self) -> None:
        """Read what a TLS session has left that the pump has given back, once what came before it is done with."""
        if self._has_unread_session and not self.is_behind and self.phase is not CLOSED:
            self._has_unread_session = False
            self.carrier.read_session()
