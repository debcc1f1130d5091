"""What the budget, keepalive and the deadline of a close ask of a connection: each looks after all connections."""

from __future__ import annotations

from echod.websocket.closing import Closing
from echod.websocket.pauses import Pause


class Upkeep(Closing):
    """`budget.Holder`, `keepalive.Watched` and `close_deadline.Leaver`."""

    held = 0
    pending = 0
    seen_before_ping = 0.0
    _pending_before = 0

    # The budget.

    def count(self) -> int:
        """Return how many bytes the connection holds: what is in its account, and answers that the kernel has not
        taken."""
        # A lease begins only when there is nothing in the account, and its held bytes are counted natively.
        return int(self.lease.held) if self.lease is not None else self.account.total + self.carrier.held

    def count_missing(self) -> int:
        """Return how many bytes of the current frame are still to come; between two frames and in a lease, how many
        the longest message may have."""
        if self.lease is not None:
            return max(0, self.factory.settings.message_limit - int(self.lease.held))
        missing = self.open_frame_rest() if self._large is None else self._large.missing
        return missing or self.factory.settings.message_limit - len(self._gathered)

    def wait_for_room(self) -> None:
        """Stop reading, because all connections together hold too much, and this one holds more than its share."""
        self.carrier.give_back_sent()
        if self.is_waiting or not self.in_open_state:
            return
        # Pause first, so that what the lease gives back isn't lent again.
        self.pause(Pause.ROOM)
        self.take_back()
        if self.in_open_state:
            self._pending_before = self.count_pending()
            self.factory.waiting.add(self.whole)

    def go_on(self, read_size: int) -> None:
        """Read, at most `read_size` bytes at a time."""
        if self.in_open_state:
            self.carrier.set_read_size(read_size)
            self.stop_waiting()

    def waited_too_long(self) -> None:
        """Close with 1013 (IANA: try again later), unless the client has taken some of its answers in the meantime."""
        pending = self.count_pending()
        if pending < self._pending_before:
            self._pending_before = pending
            self.factory.waiting.add(self.whole)
        else:
            self.fail(1013, "the server is full")

    # Keepalive, and the deadline of a close.

    def count_pending(self) -> int:
        """Return how many written bytes the peer's side has not taken yet."""
        if self.lease is not None:  # it begins only when nothing waits here
            assert self.factory.lane is not None
            return self.factory.lane.count_pending(self.whole)
        return self.account.tasks + self.carrier.unsent + self.carrier.unacknowledged

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        if self.lease is None or not self._ping_in_lease():
            self.sendPing()

    def _ping_in_lease(self) -> bool:
        assert self.factory.lane is not None
        last_seen = self.last_seen
        is_sent = self.factory.lane.ping(self.whole)
        self.seen_at = last_seen  # that the lease may end here is no sign of life of the client
        return is_sent
