"""One connection, from its first octet to its last: what happens to it, and what that means in its phase.

Events come from the carrier, from the turns, from time, and from the service. Each is looked up in the phase and handed
to the part that knows what to do. Must never know endpoints or options; what a connection shares with others it reaches
through its factory.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.core.account import Account
from echod.core.counts import Outcome
from echod.http.refusals import GOING_AWAY
from echod.lane.large import Octets
from echod.upstream.carriers import NO_CARRIER, carrier_of
from echod.websocket.base import connection_log
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSED, CLOSING, FINISHED, LEAVING, LINGERING, OPEN, OPENING, Phase
from echod.websocket.snapshot import Snapshot
from echod.websocket.upkeep import Upkeep


def _ignore(_: Upkeep, __: Octets) -> None:
    """Drop octets that come after the end."""


_MEANINGS: dict[Phase, Callable[[Upkeep, Octets], None]] = {
    OPENING: Upkeep.receive_head,
    OPEN: Upkeep.receive_frames,
    LEAVING: Upkeep.receive_frames,
    CLOSING: Upkeep.receive_frames,
    LINGERING: _ignore,
    FINISHED: _ignore,
    CLOSED: _ignore,
}
"""What octets mean, by phase."""

_RECEIVERS = tuple(_MEANINGS[phase] for phase in Phase)
"""The same by the phase's number: each read looks here."""


_STATES = {
    OPENING: "connecting",
    OPEN: "open",
    LEAVING: "open",
    CLOSING: "closing",
    LINGERING: "closed",
    FINISHED: "closed",
    CLOSED: "closed",
}
"""What a phase is called in a snapshot."""


@implementer(IHalfCloseableProtocol)
class Connection(Upkeep):
    """One connection. A subclass says in `onMessage` what becomes of a message."""

    # The carrier's events.

    def connectionMade(self) -> None:
        """Wait for a request head."""
        self.carrier = carrier_of(self.transport)
        self.account = Account()
        self.await_request()
        self.since = self.factory.clock.seconds()
        self.factory.opened(self)
        self.carrier.read_first()

    def dataReceived(self, data: bytes) -> None:
        """Take octets, whatever they are. No exception leaves."""
        self.seen_at = self.factory.clock.seconds()
        if self.is_behind:
            # TLS has read more than it was asked to.
            self.read_ahead(data)
        else:
            receive = _RECEIVERS[self.phase]
            self.act(lambda: receive(self, data))

    def readConnectionLost(self) -> None:
        """The peer sends no more: send the echoes of all that it has sent, then close."""
        if self.faulty is not None:
            self.perform(self.faulty.flush)
        self.unregisterProducer()
        self.factory.began_to_close(self)
        self.do_in_order(self.let_go)

    def writeConnectionLost(self) -> None:
        """Go on reading: it was our own doing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget everything."""
        if self.phase is OPENING and self._outcome is None:
            self.note_early_end(reason.value)
        self.enter(CLOSED)
        self.forget_what_came()
        self.forget_tasks()
        if self.faulty is not None:
            self.faulty.stop()
            self.faulty = None
        self.factory.lost(self)
        self.carrier = NO_CARRIER
        self.forget()

    # What an event does.

    def receive(self, data: Octets) -> None:
        """Take octets, as the phase has it."""
        _RECEIVERS[self.phase](self, data)

    def act(self, action: Callable[[], None]) -> None:
        """Do what an event asks for. No exception leaves, and all that the event sends goes out in one write."""
        self.factory.turns.begin()
        self._answers = []
        try:
            action()
        except Exception:
            self._fail_by_fault_of_ours()
        self.settle()

    def _fail_by_fault_of_ours(self) -> None:
        connection_log.failure("a connection failed")
        # Perhaps what is held, or still to be done, is what can't be sent.
        if self.faulty is not None:
            self.faulty.stop()
        self.forget_tasks()
        self.forget_unparsed()
        self.fail(1011, "internal error")

    def settle(self) -> None:
        """Send what the event has given, and take the next step that it has made possible."""
        self.flush()
        self._answers = None
        if self.phase is CLOSED:
            return
        if self.carrier.has_session:
            self.factory.grew(self)
        self.factory.budget.settle(self)
        if self._tasks is not None:
            return
        if self.phase is OPEN:
            if self._codec is not None:
                self.offer()
        elif self.phase is LEAVING:
            self.go_away()
        elif self.phase is FINISHED:
            self.let_go()

    def work(self) -> None:
        """Take a turn: go on with what was put off."""
        if not self.is_behind:
            self.read_session()
            self.lend()
            return
        self.seen_at = self.factory.clock.seconds()
        self.act(self.take_up)
        self.read_session()
        if self.has_tasks or (self._read_ahead and not self.is_held_up):
            self.factory.turns.add(self)
        elif self.phase < LINGERING:
            self.read_if_may()

    # What others ask.

    def snapshot(self) -> Snapshot:
        """Return what there is to tell of the connection now."""
        return Snapshot(
            peer=self.carrier.peer,
            client=self.address,
            path=self.path,
            since=self.since,
            state=_STATES[self.phase],
            traffic=self.traffic,
            buffered=self.count(),
            is_backpressured=self.is_backpressured,
            lane=self.lane_name,
            subprotocol=self.subprotocol,
            extensions=self.extensions,
            terms=self.terms,
        )

    def go_away(self, at_once: bool = False) -> None:
        """Close with 1001, when all that has come in is echoed or else `at_once`."""
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
            if self.in_open_state and (at_once or self._is_done):
                # sendClose would raise: Autobahn thinks that 1001 is not for applications.
                self.sendCloseFrame(1001, b"going away")

    @property
    def _is_done(self) -> bool:
        """Whether all that has come in is echoed."""
        return self.is_idle and not self.is_behind and not self.account.delayed and not self.carrier.unread

    # The faults' wishes: `stages.Afflicted`.

    def perform(self, action: Callable[[], None]) -> None:
        """Do what is due now as an event, so that no exception leaves. Then go on reading, if possible."""
        was_held_up = self.is_held_up
        self.act(action)
        if was_held_up and not self.is_held_up and not self.has_tasks and self.phase < LINGERING:
            self.work()

    def hold_up(self, is_held_up: bool) -> None:
        """Read no more, or again, because the URL says so."""
        if is_held_up:
            self.pause(Pause.FAULT)
        else:
            self.resume(Pause.FAULT)

    def begin_close(self, code: int | None, reason: str) -> None:
        """Send a Close frame; None: without a code."""
        self.sendCloseFrame(code, reason.encode() or None)

    def end_without_close_frame(self) -> None:
        """End the TCP connection, and send no Close frame."""
        self.note_outcome(Outcome.FAULT)
        self.dropConnection()

    def stall(self) -> None:
        """Take no more octets until the connection is reset at a deadline."""
        self.forget_unparsed()
        self.factory.stalled(self)
        self.pause(Pause.FAULT)

    def prepare_reset(self) -> None:
        """Take no more octets. A reset follows, and nobody may keep it from happening."""
        self.forget_unparsed()
        self.note_outcome(Outcome.FAULT)
        self.unregisterProducer()
        self.state = self.STATE_CLOSED
        self.end(LINGERING)
        self.pause(Pause.FAULT)
