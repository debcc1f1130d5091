"""`EchoFactory` admits connections, knows the live ones, and owns what they share: clock, budget and deadlines.

Must never know how a frame is read or how a socket is written. Must never import a reactor: the clock is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from itertools import islice
from typing import Any, ClassVar

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocolNegotiationFactory
from zope.interface import implementer

from echod.core import memory
from echod.core.budget import Budget, Together
from echod.core.close_deadline import CloseDeadlines
from echod.core.counts import NO_CLOSE_FRAME, Closer, Counts, Outcome, ServedBy, Sums, close_label
from echod.core.deadlines import Deadlines, Ticker
from echod.core.keepalive import Keepalive
from echod.core.turns import Turns
from echod.faults import stage
from echod.faults.opening import Failures
from echod.http import extensions
from echod.http.answer import Answer
from echod.http.client_address import place_of
from echod.http.h2.session import Session
from echod.http.paths import JSON_PATH
from echod.http.refusals import ADDRESS_FULL, DAEMON_FULL, Refusal
from echod.http.request import PageRequest, Request
from echod.http.upgrade import HandshakeGuard
from echod.lane.codec import Codec
from echod.lane.door import LEFT, LEFT_LOST, LEFT_TIMED_OUT, LOST, TIMED_OUT
from echod.lane.leases import Deflating, Lane
from echod.lane.native import Native, zlib_functions
from echod.net.tls.context import HTTP2, PROTOCOL
from echod.settings import Compression, Http2Mode, Settings
from echod.upstream import autobahn, tls_sessions
from echod.websocket import json_echo
from echod.websocket.connection import Connection
from echod.websocket.hosting import Hosting
from echod.websocket.numbers import Numbers
from echod.websocket.phase import OPENING
from echod.websocket.sessions import Sessions
from echod.websocket.snapshot import Snapshot
from echod.websocket.streamed import Streamed
from echod.websocket.traced import Traced, Tracing

GROWN_TIME = 1.0
"""Seconds for which a TLS connection keeps buffers that have grown with a large message. The next message may be large,
too."""

MOST_GROWN = 256
"""The most TLS connections that keep grown buffers at a time. Each has some 110 KiB, so all together take less than 32
MiB, which `--max-buffered` does not count."""


_ENDS = {
    LOST: (Outcome.LOST, NO_CLOSE_FRAME, Closer.CLIENT),
    TIMED_OUT: (Outcome.TIMEOUT, NO_CLOSE_FRAME, Closer.SERVER),
    LEFT: (Outcome.CLEAN, 1001, Closer.SERVER),
    LEFT_LOST: (Outcome.LOST, 1001, Closer.SERVER),
    LEFT_TIMED_OUT: (Outcome.TIMEOUT, 1001, Closer.SERVER),
}
"""How guests end that sent no Close frame first: the outcome, the close code, and who began the close."""


class State(StrEnum):
    """What the daemon is doing."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@implementer(IProtocolNegotiationFactory)
class EchoFactory(WebSocketServerFactory):
    """Makes a protocol for each connection."""

    noisy = False
    transforms: ClassVar = {JSON_PATH: json_echo.echo}
    """How a path changes a text message before the echo. Any other path echoes the message as it is."""

    def __init__(
        self,
        kind: type[Connection],
        settings: Settings,
        clock: Any,
        max_connections: int,
        native: Native | None = None,
        pages: Callable[[PageRequest], Answer] | None = None,
    ) -> None:
        """`kind` is the class of a connection, `EchoProtocol`; `clock` is the reactor.

        With the `native` module, ordinary frames go by the express lane. `pages` answers plain HTTP.
        """
        # The server's name would reveal the library's version.
        super().__init__(server="", reactor=clock)
        self.settings = settings
        self.clock = clock
        self.pages = pages
        self.guard = HandshakeGuard(settings, has_pages=pages is not None)
        self.protocol = self._with_options(kind)
        self._streamed = self._with_options(kind, Streamed)
        self.live: dict[Connection, None] = {}
        """The live connections, in the order in which they were accepted."""
        self.numbers = Numbers()
        self.failures = Failures(settings, clock)
        self.state = State.STARTING
        """Written by the service, until the factory drains."""
        self.counts = Counts()
        self.certificates: Callable[[], dict[tuple[str, ...], float]] = dict
        """Returns when the certificates expire that clients are shown, as `net.tls.endpoint.ends` does. The service
        replaces this one, which knows none."""
        self._pumped = Sums()
        self.max_connections = max_connections
        self._addresses: Counter[str] = Counter()
        self._turned_away: set[Connection] = set()
        self._unread: set[Connection] = set()
        self._drained: Deferred[None] | None = None
        self._drain_calls: list[IDelayedCall] = []

        ticker = self._ticker = Ticker(clock)
        self._opening: Deadlines[Connection] = Deadlines(ticker, settings.handshake_timeout, Connection.give_up)
        self._closing: CloseDeadlines[Connection] = CloseDeadlines(
            ticker, settings.close_timeout, settings.max_close_time
        )
        self.waiting: Deadlines[Connection] = Deadlines(ticker, settings.full_timeout, Connection.waited_too_long)
        self._stalled: Deadlines[Connection] = Deadlines(ticker, settings.max_stall, Connection.give_up)
        self.turns: Turns[Connection] = Turns(clock, Connection.take_turn)
        self.due = stage.line(clock)
        self._shrinking: Turns[Any] = Turns(clock, self._shrink)
        self._grown: Deadlines[Any] = Deadlines(ticker, GROWN_TIME, self._shrinking.add)
        self._trims: Deadlines[EchoFactory] = Deadlines(ticker, GROWN_TIME, lambda _: memory.give_back())
        self._keepalive = Keepalive(ticker, settings.ping_interval, settings.ping_timeout)
        self.tracing = Tracing(settings.log_frames_rate, ticker) if settings.log_frames else None
        """What traced connections share; None without `--log-frames`."""
        self.sessions = Sessions(self, ticker)
        holders = Together(self.live, self.sessions.live)
        self.budget = Budget(settings.max_buffered, holders, ticker, self._set_tight, memory.give_back)
        self.codec: Codec | None = Codec(native, settings.message_limit) if native is not None else None
        self.lane = self._make_lane(native) if native is not None else None
        self.hosting: Hosting | None = None
        """Where connections begin in the pump; None: nowhere. Set by `begin_hosting`."""

    def _make_lane(self, native: Native) -> Lane | None:
        try:
            return Lane(
                native,
                self.settings.message_limit,
                self.clock,
                self.budget.note_leased,
                tls_sessions.openssl(),
                max_fragments=self.settings.max_fragments,
                deflating=self._deflating,
            )
        except OSError:  # no epoll on this platform: the codec goes on alone
            return None

    @property
    def _deflating(self) -> Deflating | None:
        functions, settings = zlib_functions.find(), self.settings
        if functions is None or settings.compression is Compression.OFF:
            return None
        return Deflating(functions, settings.deflate_level, settings.deflate_memory_level, settings.min_deflated)

    def _set_tight(self, is_tight: bool) -> None:
        if self.lane is not None:
            self.lane.set_tight(is_tight)
        if self.hosting is not None and is_tight:
            self.hosting.memory_is_tight()

    def _with_options(self, kind: type[Connection], *first: type[Connection]) -> type[Connection]:
        """Make a subclass of `kind`, and before it `first`, whose attributes are the protocol options: Autobahn's
        defaults, and ours."""
        options = autobahn.options_of(self) | {
            "maxMessagePayloadSize": self.settings.message_limit,
            "failByDrop": False,
            "echoCloseCodeReason": True,
            "webStatus": False,
            "versions": [13],
            # These have deadlines of ours.
            "openHandshakeTimeout": 0,
            "closeHandshakeTimeout": 0,
            "autoPingInterval": 0,
        }
        bases = (*first, Traced, kind) if self.settings.log_frames else (*first, kind)
        return type(kind.__name__, bases, options)

    def agree(self, request: Request, asked: Compression | None, may_mirror: bool) -> extensions.Agreement | None:
        """Choose one of the extensions that the client offers.

        The URL may ask for another mode than the operator's, but not for compression where the operator has none.
        """
        chosen = self.settings.compression
        mode = chosen if asked is None or chosen is Compression.OFF else asked
        return extensions.agree(request.extensions, self.settings, mode, may_mirror)

    def acceptableProtocols(self) -> list[bytes]:
        """Return what an endpoint with TLS agrees on (ALPN), the best first."""
        return [PROTOCOL] if self.settings.http2 is Http2Mode.OFF else [HTTP2, PROTOCOL]

    # Connections that begin in the pump.

    def begin_hosting(self) -> None:
        """Let connections begin in the pump, if Python need not know of each one."""
        if self.lane is not None and not self.wants_each:
            hosting = self.hosting = Hosting(self, self.lane, self._ticker)
            self.budget.unowned = lambda: hosting.held

    @property
    def wants_each(self) -> list[str]:
        """The options for which Python has to know of each connection from its beginning."""
        settings = self.settings
        options = {
            "--fault": settings.fault,
            "--log-messages": settings.log_messages,
            "--log-frames": settings.log_frames,
            "--max-connections-per-address": settings.max_connections_per_address is not None,
        }
        return [option for option, is_given in options.items() if is_given]

    @property
    def count(self) -> int:
        """The number of live connections."""
        return len(self.live) + self.sessions.count + (0 if self.hosting is None else self.hosting.count)

    @property
    def room(self) -> int:
        """How many connections there may be in addition to those of `live`."""
        return self.max_connections - len(self.live) - self.sessions.count + len(self._turned_away)

    @property
    def _is_over_limit(self) -> bool:
        """Whether the newest of `live` is one connection too many, and the door did not have room for it either."""
        if self.hosting is None:
            return self.room < 0
        return not self.hosting.is_admitted and self.room < self.hosting.count - self.hosting.arriving

    def snapshots(self, start: int, size: int) -> list[Snapshot]:
        """Return what there is to tell of `size` connections from the `start`-th on. Those that are with the door come
        behind the others, and of either the oldest comes first."""
        found = [connection.snapshot() for connection in islice(self.live, start, start + size)]
        if self.hosting is not None and len(found) < size:
            found += self.hosting.snapshots(max(0, start - len(self.live)), size - len(found))
        return found

    def newest(self, count: int) -> list[Snapshot]:
        """Return what there is to tell of the `count` newest connections, in the opposite order."""
        found = [] if self.hosting is None else self.hosting.newest(count)
        return found + [connection.snapshot() for connection in islice(reversed(self.live), count - len(found))]

    @property
    def backpressured(self) -> int:
        """The number of connections that are not read because of their client, their URL, or want of room."""
        guests = 0 if self.hosting is None else self.hosting.backpressured
        return guests + sum(connection.is_backpressured for connection in self.live)

    # What becomes of a connection.

    def opened(self, connection: Connection) -> None:
        """Admit a new connection, or refuse it: descriptors have a limit, and the connections of one address may have
        one."""
        self.live[connection] = None
        self._opening.add(connection)
        if (
            self.settings.max_connections_per_address is not None
            and not connection.comes_through_proxy
            and not self.admit(connection, connection.peer_address)
        ):
            self._turn_away(connection, ADDRESS_FULL)
        elif self._is_over_limit:
            self._turn_away(connection, DAEMON_FULL)

    def _turn_away(self, connection: Connection, refusal: Refusal) -> None:
        """Refuse a connection when its request comes. If too many wait to be refused already, reset it at once."""
        self._turned_away.add(connection)
        if len(self._turned_away) > self.settings.reserved_descriptors // 2:
            self.counts.refuse(0, refusal.why)
            connection.give_up(Outcome.REFUSED)
        else:
            connection.refuse_when_asked(refusal)

    def admit(self, connection: Connection, address: str | None) -> bool:
        """Count a connection for its client's address, once the address is known. Tell whether one more is allowed."""
        limit = self.settings.max_connections_per_address
        if limit is None or address is None or connection.place is not None:
            return True
        place = place_of(address)
        if self._addresses[place] >= limit:
            return False
        self.count_place(place, 1)
        connection.place = place
        return True

    def admit_unread(self, connection: Connection) -> bool:
        """Count a connection whose URL asks not to be read. Tell whether one more is allowed."""
        if len(self._unread) >= self.max_connections * self.settings.max_unread:
            return False
        self._unread.add(connection)
        return True

    def reads_again(self, connection: Connection) -> None:
        """Note that a connection whose URL asked not to be read is now read like any other."""
        self._unread.discard(connection)

    def is_opening(self, connection: Connection) -> bool:
        """Tell whether a connection has not sent its whole request head yet."""
        return connection in self._opening

    def established(self, connection: Connection) -> None:
        """Note that the opening handshake is over."""
        self._opening.discard(connection)
        self._keepalive.watch(connection)

    def postponed(self, connection: Connection) -> None:
        """Note that the request has come, and that its answer comes later."""
        self._opening.discard(connection)

    def stalled(self, connection: Connection) -> None:
        """Note that a connection is read no more. No ping is sent, because the pong would not be read."""
        if connection not in self._closing:
            self._forget_deadlines(connection)
            self._stalled.add(connection)

    def start_close_deadline(self, connection: Connection) -> None:
        """Start the deadline of a close, unless the deadline runs already. All other deadlines end."""
        if connection not in self._closing:
            self._forget_deadlines(connection)
            self._closing.begin(connection)

    def grew(self, connection: Connection | Session) -> None:
        """Note that a connection's TLS buffers may have grown. They are freed soon, and the oldest at once if there are
        many."""
        if connection not in self._grown:
            self._grown.add(connection)
            if len(self._grown) > MOST_GROWN:
                self._shrinking.add(self._grown.pop())

    def shrinks_later(self, connection: Connection | Session) -> None:
        """Note that these buffers are in use, or may soon be in use again."""
        self._grown.add(connection)

    def shrank(self, connection: Connection | Session) -> None:
        """Note that these buffers have been freed."""
        self._grown.discard(connection)

    def _shrink(self, connection: Connection | Session) -> None:
        connection.shrink()
        if self not in self._trims:  # once a second at most, since the C library looks at all that is free
            self._trims.add(self)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._count_end(connection)
        self._forget(connection)
        if connection.place is not None:
            self.count_place(connection.place, -1)
        self.finish_drain_if_empty()

    def _forget(self, connection: Connection) -> None:
        self._grown.discard(connection)
        self.live.pop(connection, None)
        self._turned_away.discard(connection)
        self._unread.discard(connection)
        self.budget.release(connection)
        self._forget_deadlines(connection)
        self._closing.forget(connection)

    def count_place(self, place: str, step: int) -> None:
        """Count a connection more, or less, for its client's address."""
        self._addresses[place] += step
        if not self._addresses[place]:
            del self._addresses[place]

    # HTTP/2.

    def go_on_over_http2(self, connection: Connection, octets: bytes) -> None:
        """Serve streams on a connection that has sent HTTP/2's preface, with which `octets` begin."""
        self._forget(connection)
        self.sessions.begin_session(connection.carrier, connection.place, octets, connection.hand_over)

    def make_streamed(self) -> Connection:
        """Make a connection for a stream."""
        made = self._streamed()
        made.factory = self
        return made

    @property
    def share(self) -> int:
        """How many bytes each connection may hold while memory is short."""
        return self.budget.share

    def count_guest(self, age: float, code: int) -> None:
        """Count the end of a connection that was answered `age` seconds ago.

        `code` is that of the client's Close frame, or `LOST` or another of these.
        """
        outcome, told, closer = _ENDS.get(code, (Outcome.CLEAN, code, Closer.CLIENT))
        self.counts.outcomes[outcome] += 1
        self.counts.closes[close_label(told), closer] += 1
        self.counts.durations.observe(age)

    def _count_end(self, connection: Connection) -> None:
        outcome = connection.outcome
        self.counts.outcomes[outcome] += 1
        if connection.is_established:
            self.counts.closes[connection.close_and_closer] += 1
            self.counts.over_http2 += connection.carrier.is_stream
            self.counts.durations.observe(self.clock.seconds() - connection.since)

    def traffic(self) -> dict[str, tuple[Sums, Sums]]:
        """Return the messages received and sent, by what served them."""
        pumped = self._pumped if self.lane is None else self.lane.sums
        coded = Sums() if self.codec is None else self.codec.sums
        return {
            ServedBy.PUMP: (pumped, pumped),
            ServedBy.CODEC: (coded, coded),
            ServedBy.AUTOBAHN: (self.counts.received, self.counts.sent),
        }

    def _forget_deadlines(self, connection: Connection) -> None:
        self._opening.discard(connection)
        self.waiting.discard(connection)
        self._stalled.discard(connection)
        self._keepalive.forget(connection)

    # The end.

    def drain(self) -> Deferred[None]:
        """Close all connections with 1001. The Deferred fires when the last is gone, `drain_timeout` later at most."""
        self.state = State.DRAINING
        self._closing.leave_longest_to_drain()
        self._drained = Deferred()
        drained, timeout = self._drained, self.settings.drain_timeout
        # A client that goes on sending has half of the time to stop.
        self._drain_calls = [
            self.clock.callLater(
                min(self.settings.drain_grace, timeout / 2), self._close_all, at_once=True, only_opening=True
            ),
            self.clock.callLater(timeout / 2, self._close_all, at_once=True),
            self.clock.callLater(timeout, self.abort_all),
        ]
        self.sessions.drain()
        self._close_all(at_once=False)
        if self.hosting is not None:
            self.hosting.drain()
        self.finish_drain_if_empty()
        return drained

    def finish_drain_if_empty(self) -> None:
        """End the drain if there is one and the last connection has gone."""
        if self._drained is not None and not self.count:
            self._finish_drain()

    def _close_all(self, at_once: bool, only_opening: bool = False) -> None:
        for connection in list(self.live):
            if not only_opening or connection.phase is OPENING:
                connection.go_away(at_once)

    def abort_all(self) -> None:
        """Reset all connections that are left."""
        if self.hosting is not None:
            self.hosting.abort()
        for connection in list(self.live):
            connection.give_up()
        self.sessions.abort()

    def _finish_drain(self) -> None:
        drained, self._drained = self._drained, None
        for call in self._drain_calls:
            if call.active():
                call.cancel()
        if self.tracing is not None:
            self.tracing.end_second()
        self._ticker.stop()
        self.turns.stop()
        self.due.stop()
        self._shrinking.stop()
        self.sessions.stop()
        self.hosting = None
        if self.lane is not None:
            self._pumped = self.lane.sums
            self.lane.stop()
            self.lane = None
        assert drained is not None
        drained.callback(None)
