"""The way of a close. Whoever begins it, one deadline runs from then on, and nothing new is echoed.

A close begins in one of three ways:

    a Close frame      fail, go_away, begin_close, Autobahn's reply to the peer's → sendCloseFrame
    no Close frame     refuse, a page, end_without_close_frame → drop;  prepare_reset → end
    the peer's FIN     readConnectionLost → let_go

After `fail`, and when both Close frames have passed, Autobahn calls `drop`. It goes on to `end`, which enters the last
phase: after a complete closing handshake FINISHED, in which `Connection.settle` calls `let_go`, and otherwise
LINGERING, in which `_hang_up` sends a FIN and the peer's FIN brings `let_go`. `let_go` closes the socket.

`give_up` is the other end, a reset: the deadline has passed, the peer is dead, or a fault asks for it. One close takes
no step here: if the peer ends a leased connection between two messages, `lease_ended` closes its socket at once.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from echod.core.counts import NO_CLOSE_FRAME, NO_CODE, Closer, Outcome, close_label
from echod.http.refusals import GOING_AWAY
from echod.websocket.base import CLOSING_LINE
from echod.websocket.opening import Opening
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSING, FINISHED, LEAVING, LINGERING, OPENING, Phase


@implementer(IHalfCloseableProtocol)
class Closing(Opening):
    """The end of a connection."""

    # With a Close frame.

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): send a Close frame and a FIN, and ignore whatever still
        arrives."""
        self.failedByMe = True  # Autobahn asks for it after each frame
        self.note_outcome(Outcome.FAILED)
        if self.in_open_state:
            self.tell(CLOSING_LINE, peer=self.who, code=code, reason=reason)
            self.sendCloseFrame(code, reason.encode()[:123])
        self.dropConnection()

    def go_away(self, at_once: bool = False) -> None:
        """Close with 1001: now if `at_once`, otherwise when everything received has been echoed."""
        if self.phase is OPENING:
            if at_once or self.has_asked:
                self.refuse(GOING_AWAY)
            else:
                self.refuse_when_asked(GOING_AWAY)
        elif self.faulty is not None and self.faulty.is_stalled:
            self.fail(1001, "going away")  # its reply would not be read
        elif self.in_open_state:
            self.enter(LEAVING)
            self.take_back()
            # What the lease leaves may have ended the connection, for instance with the client's Close frame.
            if self.phase is LEAVING and (at_once or self._is_done):
                # sendClose would raise: Autobahn thinks that 1001 is not for applications.
                self.sendCloseFrame(1001, b"going away")

    def replay_going_away(self) -> None:
        """Take the state of a connection that got its Close frame with 1001 already, and send nothing."""
        self._to_send = []
        self.go_away(at_once=True)
        self._to_send = None

    @property
    def _is_done(self) -> bool:
        """Whether everything received has been echoed."""
        return self.is_idle and not self.is_behind and not self.account.delayed and not self.carrier.unread

    def begin_close(self, code: int | None, reason: str) -> None:
        """Send a Close frame; None: without a code."""
        self.sendCloseFrame(code, reason.encode() or None)

    def onPing(self, payload: bytes) -> None:
        """Answer a ping, unless the URL asks for something else."""
        if self.faulty is None or not self.faulty.holds_pong(payload):
            super().onPing(payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Take a Close frame, or keep its reply back if the URL asks for that."""
        faulty = self.faulty if self.in_open_state else None
        if faulty is not None and faulty.holds_close(lambda: self._reply_late(code, reasonRaw)):
            return True
        return super().onCloseFrame(code, reasonRaw)

    def _reply_late(self, code: int | None, reason: bytes | None) -> None:
        super().onCloseFrame(code, reason)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame. From now on the deadline runs, and the connection is read for the peer's Close frame."""
        if self.faulty is not None:
            self.faulty.flush()
        if self.report is not None and self.in_open_state:
            why = f"fails the connection: {code} {(reasonUtf8 or b'').decode(errors='replace')}"
            self.report.tell("begins the close, and is answered" if isReply else why)
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self.enter(CLOSING)
        self.factory.start_close_deadline(self.whole)
        self.forget_message()
        if self.is_behind:
            self.factory.turns.add(self.whole)
        self.stop_waiting()

    def stop_waiting(self) -> None:
        """Wait for room no longer."""
        if self.is_waiting:
            self.factory.waiting.discard(self.whole)
            self.resume(Pause.ROOM)

    # Without a Close frame.

    def end_without_close_frame(self) -> None:
        """End the TCP connection, and send no Close frame."""
        self.note_outcome(Outcome.FAULT)
        self.dropConnection()

    def prepare_reset(self) -> None:
        """Take no more bytes. A reset follows, and nobody may keep it from happening."""
        self.forget_unparsed()
        self.note_outcome(Outcome.FAULT)
        self.unregisterProducer()
        self.ignore_frames()
        self.end(LINGERING)
        self.pause(Pause.FAULT)

    def send_goaway(self) -> None:
        """Let the HTTP/2 connection below serve no new stream, and end with its last one."""
        self.carrier.send_goaway()

    # The peer's FIN.

    def readConnectionLost(self) -> None:
        """The peer has sent its FIN. Send the echoes of everything accepted from it, then close."""
        if self.faulty is not None:
            self.perform(self.faulty.flush)
        self.unregisterProducer()
        self.factory.start_close_deadline(self.whole)
        self.do_in_order(self.let_go)

    def writeConnectionLost(self) -> None:
        """Do nothing: echod itself half-closed the connection, and goes on reading."""

    # The last phase.

    def drop(self) -> None:
        """End the TCP connection once what was written is sent. Autobahn calls this in `dropConnection`.

        After a complete closing handshake nothing is left to do: `settle` closes the socket at the end of the event.
        Otherwise the peer may still be sending. The kernel resets a socket that is closed over unread bytes, and the
        peer loses what it has not read yet. So half-close, and read on to the end.
        """
        if self.wasClean:
            self.note_outcome(Outcome.CLEAN)
            self.end(FINISHED)
            if self.faulty is not None:
                self.do_in_order(self.faulty.stop)
        else:
            self.end(LINGERING)
            self.do_in_order(self._hang_up)

    def end(self, phase: Phase) -> None:
        """Enter the last phase of a connection that is not lost yet: whatever arrives is ignored."""
        if self.phase < CLOSING:
            self.factory.start_close_deadline(self.whole)
        self.enter(phase)
        self.forget_what_came()
        if self._tasks is None:
            self.lift(Pause.BEHIND)
        self.factory.budget.settle(self.whole)

    def _hang_up(self) -> None:
        self.flush()
        if self.will_reset:
            return
        if self.faulty is not None:
            self.faulty.stop()
        self.carrier.half_close()
        # Read, whatever reason there was not to. But if this is a task itself, the tasks are not done yet.
        self.pauses &= Pause.BEHIND
        self.carrier.resume()

    def let_go(self) -> None:
        """Close the socket once what was written is sent."""
        self.flush()
        if not self.will_reset:
            self.carrier.close()

    @property
    def will_reset(self) -> bool:
        """Whether a fault of the open connection resets it soon, so that nothing else may end it."""
        return self.is_established and self.faulty is not None and self.faulty.will_reset

    # A reset.

    def give_up(self, outcome: Outcome = Outcome.TIMEOUT) -> None:
        """Reset a connection whose peer is dead, or whose time to close is over."""
        self.note_outcome(outcome)
        if self.lease is not None:
            assert self.factory.lane is not None
            self.factory.lane.drop(self.whole)
        self.carrier.reset()

    # What is told of it.

    @property
    def close_and_closer(self) -> tuple[str, Closer]:
        """The label of the close code of an established connection that has ended, and which side began the close."""
        code, _, closer = self.closed_with
        return close_label(code), closer

    @property
    def closed_with(self) -> tuple[int, str, Closer]:
        """The close code and the reason of an established connection that has ended, and which side began the
        close."""
        if self.closedByMe:
            # Autobahn's annotation says that it is a string
            reason = cast(bytes | None, self.localCloseReason) or b""
            return _code(self.localCloseCode), reason.decode(errors="replace"), Closer.SERVER
        if self.wasClean:
            return _code(self.remoteCloseCode), self.remoteCloseReason or "", Closer.CLIENT
        return NO_CLOSE_FRAME, "", Closer.CLIENT if self.outcome is Outcome.LOST else Closer.SERVER


def _code(code: int | None) -> int:
    return NO_CODE if code is None else code
