"""One connection, from its first byte to its last: its events, and what each event means in each phase.

Events come from the carrier, from the line of turns, from timers, and from the service. The phase decides which part of
the connection handles an event. Must never know endpoints or options. Through its factory a connection reaches
everything that it shares with other connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from echod.lane.large import Octets
from echod.upstream.carriers import NO_CARRIER, carrier_of
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSED, CLOSING, FINISHED, LEAVING, LINGERING, OPEN, OPENING
from echod.websocket.snapshot import Snapshot
from echod.websocket.upkeep import Upkeep


def _ignore(_: Upkeep, __: Octets) -> None:
    """Drop bytes that arrive after the end."""


_RECEIVERS: tuple[Callable[[Upkeep, Octets], None], ...] = (
    Upkeep.receive_head,  # OPENING
    Upkeep.receive_frames,  # OPEN
    Upkeep.receive_frames,  # LEAVING
    Upkeep.receive_frames,  # CLOSING
    _ignore,  # LINGERING
    _ignore,  # FINISHED
    _ignore,  # CLOSED
)
"""Who handles received bytes, by the number of the phase."""

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


class Connection(Upkeep):
    """One connection. A subclass decides in `onMessage` what happens with a message."""

    # The carrier's events.

    def connectionMade(self) -> None:
        """Wait for a request head."""
        self.carrier = carrier_of(self.transport)
        self.await_request()
        self.since = self.factory.clock.seconds()
        self.factory.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Handle received bytes, whatever they are. No exception escapes."""
        self.seen_at = self.factory.clock.seconds()
        if self.is_behind:
            # TLS has read more than it was asked to.
            self.read_ahead(data)
        else:
            receive = _RECEIVERS[self.phase]
            self.act(lambda: receive(self, data))
        if self.faulty is not None:
            self.faulty.came(len(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget everything."""
        if self.phase is OPENING and self._outcome is None:
            self.note_early_end(reason.value)
        self.enter(CLOSED)
        self.forget_what_came()
        self.forget_tasks()
        if self.faulty is not None:
            self.faulty.lose()
            self.faulty = None
        self.report = None
        self.factory.lost(self)
        self.carrier = NO_CARRIER
        self.forget()

    # What an event does.

    def receive(self, data: Octets) -> None:
        """Handle received bytes, depending on the phase."""
        _RECEIVERS[self.phase](self, data)

    def act(self, action: Callable[[], None]) -> None:
        """Run the action of an event. No exception escapes, and everything that the action sends goes out in one
        write."""
        self.factory.turns.begin()
        self._to_send = []
        try:
            action()
        except Exception:
            self._fail_by_fault_of_ours()
        self.settle()

    def _fail_by_fault_of_ours(self) -> None:
        self.tell_failure("a connection failed")
        # A held message or a waiting task may be what failed, so drop both.
        if self.faulty is not None:
            self.faulty.stop()
        self.forget_tasks()
        self.forget_unparsed()
        self.fail(1011, "internal error")

    def settle(self) -> None:
        """Send the answers of the event, and take the next step that the event has made possible."""
        self.flush()
        self._to_send = None
        if self.phase is CLOSED:
            return
        if self.carrier.has_session:
            self.factory.grew(self)
        self.factory.budget.settle(self)
        if self._tasks is not None:
            return
        if self.phase is OPEN:
            if self._codec is not None:
                self.lend_after_read()
        elif self.phase is LEAVING:
            self.go_away()
        elif self.phase is FINISHED:
            self.let_go()

    def take_turn(self) -> None:
        """Take a turn: go on with what was put off."""
        if not self.is_behind:
            self.read_session()
            self.lend()
            return
        self.seen_at = self.factory.clock.seconds()
        self.act(self.take_up)
        self.read_session()
        if self.has_tasks or (self._read_ahead and not self.is_paused_by_url):
            self.factory.turns.add(self)
        elif self.phase < LINGERING:
            self.read_if_may()

    # What others ask.

    def snapshot(self) -> Snapshot:
        """Return the state of the connection now, as a value."""
        return Snapshot(
            number=self.number,
            peer=self.carrier.peer,
            client=self.address,
            path=self.path,
            since=self.since,
            state=_STATES[self.phase],
            traffic=self.traffic,
            buffered=self.count(),
            is_backpressured=self.is_backpressured,
            lane=self.served_by,
            subprotocol=self.subprotocol,
            extensions=self.extensions,
            terms=self.terms,
            http=self.carrier.http_version,
            stream=self.carrier.stream_number,
            is_traced=self.is_traced,
        )

    # The faults' wishes: `stages.Afflicted`.

    def perform(self, action: Callable[[], None]) -> None:
        """Run an action of a timer in the way a read is run: no exception escapes. Then resume reading if nothing
        prevents it."""
        was_paused = self.is_paused_by_url
        self.act(action)
        if was_paused and not self.is_paused_by_url and not self.has_tasks and self.phase < LINGERING:
            self.take_turn()

    def send_wrong(self, task: Iterator[bytes], size: int) -> None:
        """Send what need not be frames, as a task that holds `size` bytes."""
        if self.extension is not None:
            self.extension.forget_sent()
        self.do(task, size)

    def pong(self, payload: bytes) -> None:
        """Send a pong."""
        self.sendPong(payload or None)

    @property
    def lacks_room(self) -> bool:
        """Whether all connections together hold much (`--max-buffered`), so that none should send unasked."""
        return self.factory.budget.is_tight

    def await_nothing(self) -> None:
        """Keep the connection for the time of a stall, whatever it does."""
        self.factory.stalled(self)

    def cut_off(self) -> None:
        """End the TCP connection as the URL asks, wherever it is, unless it is at its end already. A reset is no end
        that would come by itself."""
        if self.faulty is not None and (self.phase < LINGERING or self.will_reset):
            self.faulty.cut_off()

    def read_slowly(self, is_paused: bool) -> None:
        """Stop or resume reading, and process what was read."""
        if is_paused:
            self.pause(Pause.RATE)
        else:
            self.resume(Pause.RATE)

    def pause_for_url(self, is_paused: bool) -> None:
        """Stop or resume reading, because the URL asks for it."""
        if is_paused:
            self.pause(Pause.FAULT)
        else:
            self.resume(Pause.FAULT)

    def stall(self) -> None:
        """Take no more bytes until the connection is reset at a deadline."""
        self.forget_unparsed()
        self.factory.stalled(self)
        self.pause(Pause.FAULT)
