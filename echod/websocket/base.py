"""What all parts of a connection stand on: its phase, its carrier, and the facts about it.

The parts are a chain of classes, each in a file of its own, and each adds what one kind of event needs:

    base ← pauses ← work ← messages ← lending ← opening ← closing ← upkeep ← connection ← echo.EchoProtocol

A part uses what stands to its left. Four methods stand further right and are declared here, because parts need them:
`receive`, `act` and `perform` of `connection`, and `give_up` of `closing`. upstream/autobahn.py declares three others:
`send_answer`, which is written in `opening`, and `fail` and `drop`, which are written in `closing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from echod.core import log
from echod.core.account import Account
from echod.core.counts import Outcome, Traffic
from echod.core.printable import escape
from echod.http.client_address import plain_address
from echod.lane.large import Octets
from echod.upstream import autobahn
from echod.upstream.carriers import NO_CARRIER, Carrier
from echod.websocket.phase import LEAVING, OPEN, OPENING, Phase

if TYPE_CHECKING:
    from echod.faults.stages import Faulty
    from echod.websocket.connection import Connection
    from echod.websocket.factory import EchoFactory

connection_log = Logger("echod.connection")
"""The logger of all lines about connections. The log limits their rate."""

NUMBERED = "#{connection}: "
"""The beginning of each of these lines: the connection's number."""

REFUSED = "refused a handshake from {peer}: {why}"
CLOSING_LINE = "closing {peer}: {code} {reason}"
"""The two kinds of lines that clients can cause. The lines of HTTP/2 connections, which have no number, count as these
kinds, so that there are never more."""

NOTHING: Mapping[str, Any] = {}


class ConnectionBase(autobahn.ServerProtocol):
    """A connection's phase, carrier and facts."""

    factory: EchoFactory
    log = log.AutobahnLog()

    # What nearly every connection sets is in slots. Python shares the names of at most 30 other attributes among all
    # objects of a class. An object with more of them gets a dictionary of its own, which takes 1.3 KiB and is slower.
    __slots__ = ("_outcome", "_traffic", "account", "address", "carrier", "lease", "phase", "seen_at", "since")

    def __init__(self) -> None:
        super().__init__()
        self.phase: Phase = OPENING
        """Changed only by `enter`."""
        self.carrier: Carrier = NO_CARRIER
        self.account = Account()
        """What the connection keeps in memory."""
        self.address: str | None = None
        """The client's IP address; None until the request head has arrived, and over a Unix socket."""
        self.since = 0.0
        """When the opening handshake ended, by the factory's clock; before that, when the connection was accepted."""
        self.seen_at = 0.0
        """When bytes last arrived, by the factory's clock."""
        self.lease: Any = None
        """The pump's lease of the carrier, or None. Only the lane writes it."""
        self._traffic: Traffic | None = None
        self._outcome: Outcome | None = None

    # The defaults of all other attributes are class attributes, so that an idle connection stores nothing for them.
    path = "/"

    place: str | None = None
    """The key under which the factory counts this connection if addresses have a limit. Only the factory writes it."""

    faulty: Faulty | None = None
    """The faults that the URL asks for; None if it asks for none."""

    is_traced = False
    """Whether each of its frames is told of."""

    _number: str | None = None

    def enter(self, phase: Phase) -> None:
        """Go on to `phase`, unless the connection is further already."""
        if phase > self.phase:  # noqa: PLR1730  # `max` takes longer than all else here
            self.phase = phase

    @property
    def in_open_state(self) -> bool:
        """Whether the opening handshake is over, and no Close frame was sent (RFC 6455 section 4.1: the OPEN state)."""
        return OPEN <= self.phase <= LEAVING

    @property
    def whole(self) -> Connection:
        """The connection with all its parts, for others who ask for one."""
        # Every instance is a `Connection`, which stands at the end of the chain.
        return self  # type: ignore[return-value]

    def receive(self, data: Octets) -> None:
        """Handle received bytes, depending on the phase."""
        raise NotImplementedError

    def act(self, action: Callable[[], None]) -> None:
        """Run the action of an event. No exception escapes, and everything that the action sends goes out in one
        write."""
        raise NotImplementedError

    def perform(self, action: Callable[[], None]) -> None:
        """Run an action of a timer in the way a read is run: no exception escapes. Then resume reading if nothing
        prevents it."""
        raise NotImplementedError

    def give_up(self, outcome: Outcome = Outcome.TIMEOUT) -> None:
        """Reset a connection whose peer is dead, or whose time to close is over."""
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        """Tell the carrier to pause and resume this connection no longer."""
        self.carrier.unregister()

    def note_head(self, octets: bytes) -> None:
        """Take the request head, or what there is of it. A traced connection tells of it."""

    def note_answer(self, octets: bytes) -> None:
        """Take the head of the answer. A traced connection tells of it."""

    # The log.

    @property
    def number(self) -> str:
        """The connection's number, by which it is told of. It is given when somebody first asks (`numbers`)."""
        if self._number is None:
            self._number = self.factory.numbers.take(self.carrier.descriptor)
        return self._number

    def tell(self, text: str, fields: Mapping[str, Any] = NOTHING, /, **values: Any) -> None:
        """Write a line about the connection to the log. `text` is a format for `values`.

        With the format `json` the line has `fields` of its own (`log.FIELDS`).
        """
        connection_log.info(NUMBERED + text, **self._told(fields), **values)

    def tell_failure(self, text: str, /) -> None:
        """Write a line about the exception that is being handled."""
        connection_log.failure(NUMBERED + text, **self._told(NOTHING))

    def _told(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"connection": self.number, log.FIELDS: {"connection": self.number, **fields}}

    # Facts.

    @property
    def who(self) -> str:
        """The peer, for a line of the log."""
        return escape(self.address or self.peer_address or "a local client")

    @property
    def peer_address(self) -> str | None:
        """The IP address at the other end of the socket, which may be a proxy's; None for a Unix socket."""
        peer = self.carrier.peer
        return None if peer is None else plain_address(peer[0])

    @property
    def comes_through_proxy(self) -> bool:
        """Whether a proxy tells the client's address, so that it is not known when the connection is accepted."""
        return bool(self.factory.settings.trust_proxy) or self.carrier.tells_client

    def note_outcome(self, outcome: Outcome) -> None:
        """Record how the connection ends. Only the first call counts."""
        self._outcome = self._outcome or outcome

    @property
    def outcome(self) -> Outcome:
        """How the connection ended; LOST if nothing was recorded, because the client left without a Close frame."""
        return self._outcome or Outcome.LOST

    def echoed(self, messages: int, octets: int) -> None:
        """Count messages that native code has echoed."""
        self.own_traffic.echoed(messages, octets)

    @property
    def own_traffic(self) -> Traffic:
        """The counts of this connection's messages, without those of a lease that still runs."""
        if self._traffic is None:
            self._traffic = Traffic()
        return self._traffic

    @property
    def traffic(self) -> Traffic:
        """The messages received and sent so far, as a value. Those of a running lease are included."""
        traffic = Traffic() if self._traffic is None else self._traffic.copy()
        if self.lease is not None:
            traffic.echoed(self.lease.messages, self.lease.octets)
        return traffic
