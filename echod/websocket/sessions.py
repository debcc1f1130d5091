"""The HTTP/2 connections of a factory: what they share, and how they are counted.

A stream is a connection, for the limits, for the metrics and for `/connections`. An HTTP/2 connection counts as one
only while it has no stream, because then nothing else counts its descriptor.

Must never know a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.logger import Logger

from echod.core.budget import Budget
from echod.core.counts import Counts, Outcome
from echod.core.deadlines import Deadlines, Ticker
from echod.core.log import KIND
from echod.core.printable import escape
from echod.core.turns import Turns
from echod.http.client_address import plain_address
from echod.http.h2.session import FIRST_WINDOW, Session
from echod.http.h2.stream import Stream
from echod.http.refusals import GOING_AWAY
from echod.http.request import Head
from echod.http.upgrade import HandshakeGuard, Verdict
from echod.settings import Settings
from echod.upstream.carriers import Carrier
from echod.websocket.base import CLOSING_LINE, NUMBERED, REFUSED

_log = Logger("echod.connection")


class House(Protocol):
    """What the HTTP/2 connections need of the factory."""

    settings: Settings
    clock: Any
    guard: HandshakeGuard
    counts: Counts
    budget: Budget
    max_connections: int

    def make_streamed(self) -> Any:
        """Make a connection for a stream."""
        ...

    @property
    def share(self) -> int:
        """How many bytes each connection may hold while memory is short."""
        ...

    def count_place(self, place: str, step: int) -> None:
        """Count a connection more, or less, for its client's address."""
        ...

    def grew(self, connection: Any) -> None:
        """Note that a connection's TLS buffers may have grown."""
        ...

    def shrinks_later(self, connection: Any) -> None:
        """Note that these buffers are in use."""
        ...

    def shrank(self, connection: Any) -> None:
        """Note that these buffers have been freed."""
        ...

    def finish_drain_if_empty(self) -> None:
        """End the drain if there is one and the last connection has gone."""
        ...


class Sessions:
    """All HTTP/2 connections. It is the `session.House` of each."""

    def __init__(self, factory: House, ticker: Ticker) -> None:
        self._factory = factory
        self.settings = factory.settings
        self.clock = factory.clock
        self.guard = factory.guard
        self._live: dict[Session, None] = {}
        self._empty: set[Session] = set()
        self._is_draining = False
        self._turns: Turns[Session] = Turns(factory.clock, Session.take_turn)
        settings = factory.settings
        self._idle: Deadlines[Session] = Deadlines(ticker, settings.http2_idle, Session.go_away)
        self._closing: Deadlines[Session] = Deadlines(ticker, settings.close_timeout, Session.give_up)
        self._leaving: Deadlines[Session] = Deadlines(ticker, settings.close_timeout, Session.leave)
        self._waiting: Deadlines[Session] = Deadlines(ticker, settings.full_timeout, Session.waited_too_long)
        self._half_closed: Deadlines[tuple[Session, Stream]] = Deadlines(
            ticker, settings.close_timeout, lambda both: both[0].give_up_stream(both[1])
        )

    @property
    def count(self) -> int:
        """How many HTTP/2 connections have no stream. Of the others, the streams are counted."""
        return len(self._empty)

    @property
    def live(self) -> Collection[Session]:
        """All HTTP/2 connections."""
        return self._live.keys()

    def begin_session(
        self, carrier: Carrier, place: str | None, octets: bytes, hand_over: Callable[[Session], None]
    ) -> None:
        """Go on with a connection that has sent the preface, with which `octets` begin."""
        session = Session(self, carrier)
        session.place = place
        self._live[session] = None
        self._empty.add(session)  # it is counted for its place already
        hand_over(session)
        session.begin(octets)
        if self._is_draining:
            session.go_away()

    # `session.House`.

    @property
    def window(self) -> int:
        """How many bytes a stream may send ahead: what a connection may hold while memory is short, within limits."""
        return max(self.settings.min_window, min(self.settings.max_window, self._factory.share))

    @property
    def first_window(self) -> int:
        """How many bytes a stream may send before it is answered: its share if there are as many as there may be."""
        share = self.settings.max_buffered // 8 // self._factory.max_connections
        return max(self.settings.min_window, min(FIRST_WINDOW, share))

    def begin(self, stream: Stream, head: Head, verdict: Verdict) -> None:
        """Give the stream an owner, which answers its request."""
        owner = stream.owner = self._factory.make_streamed()
        owner.makeConnection(stream)
        if self._is_draining:
            owner.refuse_when_asked(GOING_AWAY)
        if not stream.has_ended:  # it may be one too many
            owner.begin(head, verdict)

    def refuse(self, session: Session, why: str) -> None:
        """Count and tell a request that gets no answer, but the end of its stream."""
        self._factory.counts.refuse(0, why)
        self._factory.counts.outcomes[Outcome.REFUSED] += 1
        _log.info(REFUSED, peer=_peer_of(session), why=why, **{KIND: NUMBERED + REFUSED})

    def failed(self, session: Session, code: str, why: str) -> None:
        """Count and tell that a connection ends because of its peer."""
        self._factory.counts.http2_errors[code] += 1
        told = {"peer": _peer_of(session), "code": code, "reason": why, KIND: NUMBERED + CLOSING_LINE}
        _log.info("closing HTTP/2 from {peer}: {code} {reason}", **told)

    def note_streams(self, session: Session) -> None:
        """Note how many streams of a connection have an owner now."""
        if session in self._live:
            self._count(session, not session.owned)
            if session.owned:
                self._idle.discard(session)
            elif session not in self._closing:
                self._idle.add(session)

    def _count(self, session: Session, is_empty: bool) -> None:
        """Count a connection only if no stream of it has an owner, which counts itself."""
        if is_empty == (session in self._empty):
            return
        if is_empty:
            self._empty.add(session)
        else:
            self._empty.discard(session)
        if session.place is not None:
            self._factory.count_place(session.place, 1 if is_empty else -1)

    def leaves(self, session: Session) -> None:
        """Note that a connection waits until the peer knows that it gets no new stream."""
        self._leaving.add(session)

    def closes(self, session: Session) -> None:
        """Note that a connection waits for the peer's end."""
        self._count(session, is_empty=True)
        self._idle.discard(session)
        self._leaving.discard(session)
        self._waiting.discard(session)
        self._closing.add(session)

    def line_up(self, session: Session) -> None:
        """Let a connection take a turn."""
        self._turns.add(session)

    def waits(self, session: Session, stream: Stream) -> None:
        """Note that a stream waits for the peer's end."""
        self._half_closed.add((session, stream))

    def settle(self, session: Session) -> None:
        """Note what a connection itself keeps in memory now."""
        if session in self._live:
            self._factory.budget.settle(session)

    def waits_for_room(self, session: Session) -> None:
        """Note that a connection is not read because memory is short."""
        self._waiting.add(session)

    def goes_on(self, session: Session) -> None:
        """Note that it is read again."""
        self._waiting.discard(session)

    def grew(self, session: Session) -> None:
        """Note that the buffers of TLS may have grown."""
        self._factory.grew(session)

    def shrank(self, session: Session) -> None:
        """Note that they are as small as possible."""
        self._factory.shrank(session)

    def shrinks_later(self, session: Session) -> None:
        """Note that they are in use."""
        self._factory.shrinks_later(session)

    def lost(self, session: Session) -> None:
        """Forget a connection."""
        self._count(session, is_empty=False)
        self._live.pop(session, None)
        self._idle.discard(session)
        self._closing.discard(session)
        self._leaving.discard(session)
        self._waiting.discard(session)
        self._factory.budget.release(session)
        self._factory.shrank(session)
        self._factory.finish_drain_if_empty()

    # The end.

    def drain(self) -> None:
        """Let each connection end with its last stream."""
        self._is_draining = True
        for session in list(self._live):
            session.go_away()

    def stop(self) -> None:
        """Leave no delayed call behind: the last connection has gone."""
        self._turns.stop()

    def abort(self) -> None:
        """Reset all connections."""
        for session in list(self._live):
            session.give_up()


def _peer_of(session: Session) -> str:
    peer = session.carrier.peer
    return "a local client" if peer is None else escape(plain_address(peer[0]))
