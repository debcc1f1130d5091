"""Connections that begin in the pump, as the factory sees them: its door's host.

The door keeps visitors and guests (lane/door.py). An arrival becomes a connection here that takes what was read. A
guest becomes one by replay: the connection is given the head of its opening handshake, and sends no answer, since the
door has sent it. So it is what it would be, had it begun here.

Knows the ports that the door accepts at. Must never know what a head means.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import ceil
from typing import Any, Protocol

from echod.core.budget import Budget
from echod.core.counts import Counts, Outcome, ServedBy, Traffic
from echod.core.deadlines import TICK, Deadlines, Ticker
from echod.core.keepalive import LOOKS
from echod.faults import query
from echod.http import extensions
from echod.http.client_address import client_address, plain_address
from echod.http.extensions import Terms
from echod.http.request import Request
from echod.http.upgrade import HandshakeGuard
from echod.lane.door import LOST, Door, Guest, Listed
from echod.lane.ended import Ended
from echod.lane.leases import Lane
from echod.settings import Compression, Settings
from echod.upstream import adopt
from echod.websocket.numbers import Numbers
from echod.websocket.snapshot import PATH_CUT, Snapshot

MOST_MADE = 30
"""Visitors that become connections in one go, if there is no hurry for any of them. Each takes some 0.1 ms."""

_GOING_AWAY = b"\x88\x0c" + (1001).to_bytes(2) + b"going away"
"""The Close frame of a drain (`Closing.go_away`)."""


class House(Protocol):
    """What the host needs of the factory."""

    settings: Settings
    clock: Any
    counts: Counts
    budget: Budget
    hosting: Hosting | None
    guard: HandshakeGuard
    numbers: Numbers

    def agree(self, request: Request, asked: Compression | None, may_mirror: bool) -> extensions.Agreement | None:
        """Choose one of the extensions that the client offers."""
        ...

    @property
    def room(self) -> int:
        """How many connections there may be in addition to those that it has."""
        ...

    def is_opening(self, connection: Any) -> bool:
        """Tell whether a connection has not sent its whole request head yet."""
        ...

    def count_guest(self, age: float, code: int) -> None:
        """Count the end of a connection that was answered `age` seconds ago."""
        ...

    def finish_drain_if_empty(self) -> None:
        """End the drain if there is one and the last connection has gone."""
        ...


class Hosting:
    """The host of a factory's door."""

    def __init__(self, factory: House, lane: Lane, ticker: Ticker) -> None:
        self._factory = factory
        self._lane = lane
        settings = factory.settings
        self._door: Door = lane.make_door(
            self, b"x-forwarded-for" if settings.trust_proxy else b"", settings.max_request_head
        )
        self._door.set_keepalive(settings.ping_interval, settings.ping_timeout)
        self._ports: dict[int, Any] = {}
        self._closed: set[int] = set()
        """The numbers of ports that are closed. They are kept while a guest of theirs may become a connection."""
        self._numbers = count()
        self._ticks: Deadlines[Hosting] = Deadlines(ticker, TICK, Hosting._tick)
        self._looked_at = 0.0
        self._share = 0.0
        """The share of the guests that is still to be looked at. If it is not 0, `_look_on` is called in a turn."""
        # Connections whose handshake timeout began before they were made: when it ends, and a number, so that no two
        # connections are compared.
        self._late: list[tuple[float, int, Any]] = []
        self._is_draining = False
        self._under_way: set[str] = set()
        self.is_admitted = False
        """Whether the door had room for the connection that is being made."""

    # Ports.

    def open(self, port: Any) -> bool:
        """Accept at a port in place of Twisted, and tell whether that is possible."""
        number = next(self._numbers)
        if not adopt.can_adopt(port, self._factory) or not self._door.open(port.fileno(), number):
            return False
        port.stopReading()
        self._ports[number] = port
        return True

    def close(self, port: Any) -> None:
        """Accept at a port no longer, which is about to be closed. Its guests stay."""
        for number, known in self._ports.items():
            if known is port:
                self._door.close(number)
                self._closed.add(number)

    def accept(self, endpoint: int) -> None:
        """Let Twisted accept once, which knows what to do without descriptors."""
        port = self._ports[endpoint]
        port.doRead()
        if not self._is_draining and not self._door.open(port.fileno(), endpoint):
            port.startReading()  # there is no memory for it

    # What the door asks and tells.

    @property
    def room(self) -> int:
        """How many connections may be with the door: none in a drain, and while memory is short, because each one has
        to be judged then."""
        return 0 if self._is_draining or self._factory.budget.is_tight else self._factory.room

    @property
    def count(self) -> int:
        """The number of connections that are with the door."""
        return self._door.count

    @property
    def arriving(self) -> int:
        """How many of them come after the one that is being made, if that one is not admitted."""
        return self._door.arriving

    @property
    def held(self) -> int:
        """How many bytes the leases of guests hold."""
        return 0 if self._is_over else self._door.held

    @property
    def backpressured(self) -> int:
        """The number of guests whose answers wait."""
        return self._door.backpressured

    def snapshots(self, start: int, size: int) -> list[Snapshot]:
        """Return what there is to tell of `size` connections that are with the door, from the `start`-th on. The oldest
        comes first."""
        return [self._describe(listed) for listed in self._door.list(start, size)]

    def newest(self, count: int) -> list[Snapshot]:
        """Return what there is to tell of the newest connections that are with the door, the newest first."""
        return self.snapshots(max(0, self._door.count - count), count)[::-1]

    def _describe(self, listed: Listed) -> Snapshot:
        """Return what there is to tell of a connection: what Python would know of it, by its head."""
        number, peer = self._factory.numbers.of_socket(listed.descriptor), adopt.peer_of(listed.descriptor)
        request = None if listed.head is None else self._factory.guard.judge(listed.head)
        traffic = Traffic()
        traffic.echoed(listed.messages, listed.octets)
        since = self._factory.clock.seconds() - listed.age
        if not isinstance(request, Request):
            return Snapshot(
                number, peer, None, "/", since, "connecting", traffic, 0, False, ServedBy.AUTOBAHN, None, [], None
            )
        asked = query.parse(request.query, self._factory.settings).compression
        agreed = self._factory.agree(request, asked, True) if request.extensions else None
        return Snapshot(
            number=number,
            peer=peer,
            client=client_address(request.fields, peer and plain_address(peer[0]), self._factory.settings.trust_proxy),
            path=request.path[:PATH_CUT],
            since=since,
            state="closing" if listed.has_left else "open",
            traffic=traffic,
            buffered=listed.held,
            is_backpressured=listed.is_backpressured,
            lane=ServedBy.CODEC if listed.has_left else ServedBy.PUMP,
            subprotocol=request.subprotocols[0] if request.subprotocols else None,
            extensions=[] if agreed is None else [extensions.NAME],
            terms=None if agreed is None else agreed.terms,
        )

    def remember(self, head: bytes, answer: bytes, terms: Terms | None) -> None:
        """Let the door answer such a head as it was answered now."""
        self._lane.remember(head, answer, terms)

    def arrived(self, endpoint: int, descriptor: int, octets: bytes, age: float, is_admitted: bool) -> None:
        """Make a connection that takes these octets. The time that it had as a visitor counts for its deadline."""
        try:
            connection = self._adopt(endpoint, descriptor, octets, is_admitted)
        except OSError:  # it is gone
            self._factory.counts.outcomes[Outcome.LOST] += 1
            return
        timeout = self._factory.settings.handshake_timeout
        if timeout and age > TICK and self._factory.is_opening(connection):
            heappush(self._late, (self._factory.clock.seconds() + timeout - age, next(self._numbers), connection))
        self._leave_if_draining(connection)

    def becomes(self, guest: Guest, ended: Ended) -> None:
        """Make a connection by replay."""
        try:
            connection = self._adopt(guest.endpoint, guest.descriptor, b"", True)
        except OSError:
            self._factory.count_guest(guest.age, LOST)
            return
        try:
            self._replay(connection, guest, ended)
        except Exception:
            connection.lease_lost()
            raise

    def _replay(self, connection: Any, guest: Guest, ended: Ended) -> None:
        now = self._factory.clock.seconds()
        connection.seen_at = now - guest.age
        connection.replay(guest.head)
        if guest.messages:
            connection.echoed(guest.messages, guest.octets)
        if guest.has_left:
            connection.replay_going_away()
        connection.lease_ended(ended)
        if ended.is_recalled:
            connection.seen_at = now - guest.silent
        self._leave_if_draining(connection)
        connection.lend_after_read()

    def _adopt(self, endpoint: int, descriptor: int, octets: bytes, is_admitted: bool) -> Any:
        self.is_admitted = is_admitted
        try:
            return adopt.adopt(self._ports[endpoint], descriptor, octets)
        finally:
            self.is_admitted = False

    def _leave_if_draining(self, connection: Any) -> None:
        if self._is_draining:
            connection.go_away()

    def left(self, age: float, code: int) -> None:
        """Count a guest that has ended."""
        self._factory.count_guest(age, code)

    def passed(self, lost: int, timed_out: int) -> None:
        """Count visitors that have gone."""
        self._factory.counts.outcomes[Outcome.LOST] += lost
        self._factory.counts.outcomes[Outcome.TIMEOUT] += timed_out

    def told(self) -> None:
        """Look again soon, if there is somebody to look at."""
        if self._is_over:
            return
        if self._closed and not self._door.count:
            for number in self._closed:
                del self._ports[number]
            self._closed.clear()
        if (self._door.count or self._late) and self not in self._ticks:
            self._ticks.add(self)
        self._factory.finish_drain_if_empty()

    @property
    def _is_over(self) -> bool:
        """Whether a drain has ended, and with it the door."""
        return self._factory.hosting is not self

    # Time.

    def _tick(self) -> None:
        """Look at visitors and guests."""
        now = self._factory.clock.seconds()
        passed, self._looked_at = min(1.0, now - self._looked_at), now
        while self._late and self._late[0][0] <= now:
            _, _, connection = heappop(self._late)
            if self._factory.is_opening(connection):
                connection.give_up()
        settings = self._factory.settings
        if settings.handshake_timeout:
            self._in_turns("expire", lambda: self._door.expire(settings.handshake_timeout))
        if self._is_draining and settings.close_timeout:
            self._in_turns("close", lambda: self._door.close_deadline(settings.close_timeout))
        elif settings.ping_interval:
            self._in_turns("judge", self._door.judge)
            self._look(passed * LOOKS / settings.ping_interval)
        if self._factory.budget.is_tight:
            self.memory_is_tight()
        self.told()

    def _in_turns(self, name: str, step: Callable[[], bool]) -> None:
        """Do steps until one returns False, each in a turn of its own. Nothing is done if steps of this name are under
        way."""
        if name not in self._under_way:
            self._step(name, step)

    def _step(self, name: str, step: Callable[[], bool]) -> None:
        self._under_way.discard(name)
        if not self._is_over and step() and not self._is_over:
            self._under_way.add(name)
            self._factory.clock.callLater(0, self._step, name, step)

    def _look(self, share: float) -> None:
        """Look at a share of the guests, in turns that do not take long.

        If looks are under way, they go on for longer. Nothing more is added than one look at each guest: the looks of a
        short interval would otherwise become more and more.
        """
        is_under_way, self._share = self._share > 0, min(1.0, self._share + share)
        if not is_under_way:
            self._look_on()

    def _look_on(self) -> None:
        """Look at some of the guests that are still to be looked at, and go on in the next turn."""
        share, self._share = self._share, 0.0
        if self._is_over or self._is_draining:
            return
        most = ceil(self._door.guests * share)
        looks = self._door.look(most)
        if looks < most and not self._is_over and self._door.guests:
            self._share = share * (most - looks) / most
            self._factory.clock.callLater(0, self._look_on)

    def drain(self) -> None:
        """Accept no more, and let all connections go on as others do in a drain: guests get their Close frame, and
        visitors become connections."""
        self._is_draining = True
        self._door.make_room()
        for number in self._ports:
            self._door.close(number)
        self._in_turns("see off", lambda: self._door.see_off(_GOING_AWAY))
        self._in_turns("turn out", self._turn_out)

    def _turn_out(self) -> bool:
        self._door.turn_out(MOST_MADE)
        return not self._is_over and self._door.visitors > 0

    def memory_is_tight(self) -> None:
        """Make connections of the guests that hold anything, because the budget has to know who they are."""
        self._in_turns("recall", self._door.recall_holders)

    def abort(self) -> None:
        """Reset all connections that are with the door."""
        is_more = not self._is_over
        while is_more:
            is_more = self._door.reset_all() and not self._is_over
