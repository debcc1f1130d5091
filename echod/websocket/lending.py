"""Lending a connection's carrier to the pump, and going on without the pump.

A lease begins when nothing is under way either way, and ends when something comes that is not ordinary, or when the
connection is needed in Python (`take_back`).
"""

from __future__ import annotations

from echod.core.counts import Outcome, ServedBy
from echod.lane.ended import Ended
from echod.lane.leases import seconds_since
from echod.upstream.tls_sessions import Session
from echod.websocket.messages import Messages
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSED, OPEN

MOST_MOVED = 64 * 1024
"""A lease that holds more bytes than this is not ended merely to free the buffers of its TLS session, because what it
holds would be copied."""


class Lending(Messages):
    """The leases of a connection."""

    _has_unread_session = False
    """Whether the pump has given back a TLS session that may have bytes left to read."""

    _read_at = 0
    """When the lease had last read at the last look, by its own clock."""

    # The lease begins.

    @property
    def pump_can_serve(self) -> bool:
        """Whether the pump can serve a connection of this kind."""
        lane = self.factory.lane
        if lane is None or not self.carrier.can_be_lent(lane.takes_tls):
            return False
        return self.extension is None or (lane.takes_deflate and self.extension.terms.stands_alone)

    @property
    def _is_lendable_now(self) -> bool:
        return (
            not self.pauses
            and self.phase is OPEN
            and self._codec is not None
            and self.is_idle
            and self.pump_can_serve
            and not self.carrier.unsent
        )

    def lend_after_read(self) -> None:
        """Lend the carrier if nothing is under way either way."""
        if not self._is_lendable_now:
            return
        if self.carrier.has_session:
            # Twisted is still within its read: more of it may follow, and answers may have to be written.
            self.factory.turns.add(self.whole)
        else:
            self.lend()

    def lend(self) -> None:
        """Lend the carrier now, if nothing is under way either way."""
        if not self._is_lendable_now:
            return
        if self.carrier.has_session:
            self._renew_buffers()
        loan = self.carrier.loan()
        if loan is not None and self._make_lease(*loan):
            self._read_at = 0
            self.pause(Pause.LEASE)

    def _make_lease(self, descriptor: int, session: Session | None) -> bool:
        assert self.factory.lane is not None
        if self.extension is None:
            return self.factory.lane.lend(self.whole, descriptor, session)
        is_lent = self.factory.lane.lend(self.whole, descriptor, session, self.extension.terms, self.extension.window)
        if is_lent:
            self.extension.window = b""  # the lease has the window now, and keeps it up to date
        return is_lent

    @property
    def last_seen(self) -> float:
        """When there last was a sign of life, for keepalive."""
        self._note_lease_reads()
        return self.seen_at

    @last_seen.setter
    def last_seen(self, now: float) -> None:
        self.seen_at = now

    def _note_lease_reads(self) -> None:
        """Note a sign of life if the lease has read since the last look."""
        if self.lease is not None and self.lease.read_at != self._read_at:
            self._read_at = self.lease.read_at
            self.seen_at = self.factory.clock.seconds() - seconds_since(self._read_at)

    @property
    def served_by(self) -> ServedBy:
        """What serves the connection now."""
        if self.lease is not None:
            return ServedBy.PUMP
        return ServedBy.AUTOBAHN if self._codec is None else ServedBy.CODEC

    # The lease ends.

    def take_back(self) -> None:
        """End the lease, if there is one."""
        if self.lease is not None:
            assert self.factory.lane is not None
            self._note_lease_reads()
            seen_at = self.seen_at
            self.factory.lane.recall(self.whole)
            self.seen_at = seen_at  # that a lease is ended here is no sign of life of the client

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
        self.lift(Pause.LEASE)
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
        # Last, because the connection may have closed, or be leased again. Then the reactor need not watch its socket.
        if self.phase is not CLOSED:
            self.read_if_may()

    def lease_lost(self) -> None:
        """Reset the connection. It can't go on, and no Close frame can tell why, because part of an answer may be
        out."""
        self.give_up(Outcome.FAILED)

    # The buffers of a TLS session grow with a large message, and never shrink by themselves.

    def lease_grown(self) -> None:
        """Free the buffers of the TLS session later."""
        self.factory.grew(self.whole)

    def shrink(self) -> None:
        """Free the memory that the buffers of TLS have grown to, or try again later if they are in use.

        A running lease uses them. The next lease begins with new buffers.
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
        """Read the bytes that are left in a TLS session after its lease, once the bytes before them are processed."""
        if self._has_unread_session and not self.is_behind and self.phase is not CLOSED:
            self._has_unread_session = False
            self.carrier.read_session()
