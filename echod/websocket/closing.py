"""The way of a close: one way for every close, with one deadline.

Every close begins with a Close frame (`sendCloseFrame`) or without one (`drop`), and both start the deadline:

    fail, go_away, the peer's Close frame → sendCloseFrame → drop → _hang_up → let_go, or the peer's end

`give_up` is the other end: a reset, when the deadline has passed or the peer is dead.
"""

from __future__ import annotations

from echod.core.counts import NO_CLOSE_FRAME, NO_CODE, Closer, Outcome, close_label
from echod.websocket.base import connection_log
from echod.websocket.messages import Messages
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSING, FINISHED, LINGERING, Phase


class Closing(Messages):
    """The end of a connection."""

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): a Close frame, a FIN, and what still comes is not looked at."""
        self.failedByMe = True
        self.note_outcome(Outcome.FAILED)
        if self.in_open_state:
            connection_log.info("closing {peer}: {code} {reason}", peer=self.who, code=code, reason=reason)
            self.sendCloseFrame(code, reason.encode()[:123])
        self.dropConnection()

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame. From now on the deadline runs, and the connection is read for the peer's Close frame."""
        if self.faulty is not None:
            self.faulty.flush()
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self.enter(CLOSING)
        self.factory.began_to_close(self.whole)
        self.forget_message()
        if self.is_behind:
            self.factory.turns.add(self.whole)
        self.stop_waiting()

    def stop_waiting(self) -> None:
        """Wait for room no longer."""
        if self.is_waiting:
            self.factory.waiting.discard(self.whole)
            self.resume(Pause.ROOM)

    def drop(self) -> None:
        """End the TCP connection once what was written is sent. Autobahn calls this in `dropConnection`.

        After a whole closing handshake nothing else is to be done, and `Connection.settle` closes the socket when the
        event is over. Else the peer may still be sending. A socket that is closed over unread octets is reset by the
        kernel, and the peer loses what it has not read yet. So half-close, and read on to the end.
        """
        if self.wasClean:
            self.note_outcome(Outcome.CLEAN)
            self.end(FINISHED)
        else:
            self.end(LINGERING)
        self.do_in_order(self._hang_up)

    def end(self, phase: Phase) -> None:
        """Enter the last phase of a connection that is not lost yet: what comes is not looked at."""
        self.enter(phase)
        self.forget_what_came()
        if not self.has_tasks:
            self.lift(Pause.BEHIND)
        self.factory.began_to_close(self.whole)
        self.factory.budget.settle(self.whole)

    def _hang_up(self) -> None:
        self.flush()
        if self.faulty is not None:
            self.faulty.stop()
        if self.phase is LINGERING:
            self.carrier.half_close()
            # Read, whatever has kept the connection from being read. But where this is a task, the tasks are not done.
            self.pauses &= int(Pause.BEHIND)
            self.carrier.resume()

    def let_go(self) -> None:
        """Close the socket once what was written is sent."""
        self.flush()
        self.carrier.close()

    def give_up(self, outcome: Outcome = Outcome.TIMEOUT) -> None:
        """Reset a connection whose peer is dead, or whose time to close is over."""
        self.note_outcome(outcome)
        if self.lease is not None:
            assert self.factory.lane is not None
            self.factory.lane.drop(self.whole)
        self.carrier.reset()

    @property
    def closing(self) -> tuple[str, Closer]:
        """By which close code an established connection ended, once it has, and who began to close."""
        if self.closedByMe:
            return _label(self.localCloseCode), Closer.SERVER
        if self.wasClean:
            return _label(self.remoteCloseCode), Closer.CLIENT
        return close_label(NO_CLOSE_FRAME), Closer.CLIENT if self.outcome is Outcome.LOST else Closer.SERVER


def _label(code: int | None) -> str:
    return close_label(NO_CODE if code is None else code)
