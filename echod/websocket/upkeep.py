"""What a connection tells those who look after all connections (the budget, keepalive, the deadline of a close), and
what they ask of it."""

from __future__ import annotations

from echod.websocket.opening import Opening
from echod.websocket.pauses import Pause


class Upkeep(Opening):
    """`budget.Holder`, `keepalive.Watched` and `closing.Leaver`."""

    held = 0
    pending = 0
    _pending_before = 0

    # The budget.

    def count(self) -> int:
        """Return the octets held: for a request head or a message that is not whole yet, and for answers that the
        kernel has not taken."""
        # A lease begins only when there is nothing in the account, and its held bytes are counted natively.
        return int(self.lease.held) if self.lease is not None else self.account.total + self.carrier.held

    def count_missing(self) -> int:
        """Return the octets that are to come of the current frame; between two frames and in a lease, of the longest
        message."""
        if self.lease is not None:
            return max(0, self.factory.settings.message_limit - int(self.lease.held))
        missing = self.open_frame_rest() if self._large is None else self._large.missing
        return missing or self.factory.settings.message_limit - len(self._gathered)

    def wait_for_room(self) -> None:
        """Read no more: all connections together hold too much, and this one more than its share."""
        self.carrier.give_back_sent()
        if self.is_waiting or not self.in_open_state:
            return
        # First, so that what the lease gives back isn't lent again.
        self.pause(Pause.ROOM)
        self.take_back()
        if self.in_open_state:
            self._pending_before = self.count_pending()
            self.factory.waiting.add(self.whole)

    def go_on(self, read_size: int) -> None:
        """Read, at most `read_size` octets at a time."""
        if self.in_open_state:
            self.carrier.set_read_size(read_size)
            if self.is_waiting:
                self.factory.waiting.discard(self.whole)
                self.resume(Pause.ROOM)

    def waited_too_long(self) -> None:
        """Close with 1013 (IANA: try again later), unless the client has taken some of its answers meanwhile."""
        pending = self.count_pending()
        if pending < self._pending_before:
            self._pending_before = pending
            self.factory.waiting.add(self.whole)
        else:
            self.fail(1013, "the server is full")

    # Keepalive, and the deadline of a close.

    def count_pending(self) -> int:
        """Return the octets that were written and that the peer's end has not taken yet."""
        leased = int(self.lease.unsent_size + self.lease.sealed_size) if self.lease is not None else 0
        return leased + self.account.tasks + self.carrier.unsent + self.carrier.unacknowledged

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self.lease is None or not self._ping_in_lease():
            self.sendPing()

    def _ping_in_lease(self) -> bool:
        assert self.factory.lane is not None
        last_seen = self.last_seen
        is_sent = self.factory.lane.ping(self.whole)
        self.seen_at = last_seen  # that the lease may end here is no sign of life of the client
        return is_sent
