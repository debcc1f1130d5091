"""The door: connections that begin in the pump, and the verdicts by which it answers them.

The pump accepts at the endpoints that are opened here. It answers a request head that is remembered, and keeps such a
connection as a guest (native/door.h). Whoever sends anything else arrives at the `Host`, with what was read of it. So
does a guest when something comes that is not ordinary, or when it is recalled.

Knows the native door and its lists. Must never know a transport, nor what becomes of an arrival: it tells a `Host`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from struct import iter_unpack
from typing import Any, NamedTuple, Protocol

from twisted.logger import Logger

from echod.http.upgrade import JUDGED_FIELDS
from echod.lane.ended import Ended
from echod.lane.native import Native

NS = 1_000_000_000

LOST, TIMED_OUT = 0, 1
"""In place of the code of a Close frame: the guest ended without one, or it was reset because it did not answer a
ping, or because all are reset."""

LEFT, LEFT_LOST, LEFT_TIMED_OUT = 2, 3, 4
"""Likewise, of a guest that got a Close frame first: it has replied, it ended without a reply, or it was reset because
it did not reply in time."""

_log = Logger()


class Guest(NamedTuple):
    """A guest that has ended, and that goes on as a connection."""

    descriptor: int
    endpoint: int
    head: bytes
    """A request head that gets the same verdict as the guest's own, with the guest's key."""
    age: float
    """Seconds since it was answered."""
    silent: float
    """Seconds since the last sign of life that was noted."""
    messages: int
    """Messages that were echoed."""
    octets: int
    """The bytes of their payloads."""
    has_left: bool
    """Whether it got a Close frame."""


class Listed(NamedTuple):
    """A connection that is with the door."""

    descriptor: int
    age: float
    """Seconds since it was answered, or since a visitor was accepted."""
    head: bytes | None
    """As in `Guest`; None: it is a visitor, which has sent nothing."""
    messages: int
    octets: int
    held: int
    """Bytes of memory that its lease holds."""
    is_backpressured: bool
    """Whether answers wait."""
    has_left: bool
    """Whether it got a Close frame."""


class Host(Protocol):
    """Who takes the connections that do not stay with the door."""

    @property
    def room(self) -> int:
        """How many connections may be with the door."""
        ...

    def arrived(self, endpoint: int, descriptor: int, octets: bytes, age: float, is_admitted: bool) -> None:
        """Serve a connection of which these `octets` were read. It was accepted `age` seconds ago."""
        ...

    def accept(self, endpoint: int) -> None:
        """Accept at an endpoint, which the door has closed because descriptors or memory are short."""
        ...

    def becomes(self, guest: Guest, ended: Ended) -> None:
        """Make a connection of a guest, and of what its lease leaves."""
        ...

    def left(self, age: float, code: int) -> None:
        """Count a guest that has ended after `age` seconds: with a Close frame of this code, and its reply, or as
        `LOST` and the others say."""
        ...

    def passed(self, lost: int, timed_out: int) -> None:
        """Count visitors: those that left before they said anything, and those that were reset because they said
        nothing in time."""
        ...

    def told(self) -> None:
        """Note that all is told."""
        ...


class Door:
    """The native door of one pump."""

    def __init__(
        self,
        native: Native,
        pump: Any,
        host: Host,
        tell_held: Callable[[], object],
        ended_of: Callable[[Any], Ended],
        kept_field: bytes,
        max_head_size: int,
    ) -> None:
        """`tell_held` passes on how many bytes all leases hold. `ended_of` returns what a native lease leaves.
        `kept_field` is the name of the field whose value a guest keeps although no verdict depends on it, or empty.

        Raises `MemoryError`.
        """
        self._ffi, self._lib = native.ffi, native.lib
        self._host, self._tell_held, self._ended_of = host, tell_held, ended_of
        self._verdicts = self._lib.echod_verdicts_new(b" ".join(JUDGED_FIELDS), kept_field, max_head_size)
        self._door: Any = self._lib.echod_door_new(pump, self._verdicts) if self._verdicts else None
        if not self._door:
            raise MemoryError
        self._counts: Any = self._lib.echod_door_counted(self._door)
        self._lost = self._timed_out = self._told_news = 0
        # What is not told yet. It is kept here because whoever is told may call this object.
        self._gone: Any = self._ffi.new("echod_gone **")
        self._arrivals: deque[Any] = deque()
        self._ended: deque[Any] = deque()

    def stop(self) -> None:
        """Release the door. It must be closed at each endpoint, and empty."""
        self._lib.echod_door_free(self._door)
        self._lib.echod_verdicts_free(self._verdicts)

    # Verdicts.

    def remember(self, head: bytes, answer: bytes, terms: Any) -> bool:
        """Remember that `head` was answered with `answer`, and tell whether that is possible.

        `terms`: a native struct with the terms for deflated messages, or NULL.
        """
        return bool(self._lib.echod_verdicts_remember(self._verdicts, head, len(head), answer, len(answer), terms))

    # Endpoints and connections.

    def open(self, descriptor: int, endpoint: int) -> bool:
        """Accept at a listening socket, and tell whether that is possible."""
        return self._lib.echod_door_open(self._door, descriptor, endpoint) == 0

    def close(self, endpoint: int) -> None:
        """Accept there no longer."""
        self._lib.echod_door_close(self._door, endpoint)

    @property
    def count(self) -> int:
        """The number of connections that are with the door."""
        counts = self._counts
        return int(counts.visitors + counts.guests + counts.leavers) + len(self._arrivals) + len(self._ended)

    @property
    def arriving(self) -> int:
        """The number of arrivals of which the host will be told next."""
        return len(self._arrivals)

    @property
    def guests(self) -> int:
        """The number of guests that got no Close frame."""
        return int(self._counts.guests)

    @property
    def visitors(self) -> int:
        """The number of visitors."""
        return int(self._counts.visitors)

    def make_room(self) -> None:
        """Note how many connections the door may have. Call this before each turn of the pump."""
        self._lib.echod_door_set_room(self._door, max(0, self._host.room))

    @property
    def held(self) -> int:
        """How many bytes the leases of guests hold."""
        return self._lib.echod_door_held(self._door)

    @property
    def backpressured(self) -> int:
        """The number of guests whose answers wait."""
        return self._lib.echod_door_backpressured(self._door)

    def list(self, start: int, size: int) -> list[Listed]:
        """Return `size` connections from the `start`-th on: the visitors first, and of each kind the oldest first."""
        found: Any = self._ffi.new("echod_listed[]", size)
        now = time.monotonic_ns()
        return [
            self._list(found[place], now) for place in range(self._lib.echod_door_list(self._door, start, size, found))
        ]

    def _list(self, listed: Any, now: int) -> Listed:
        age, guest = (now - listed.since) / NS, listed.guest
        if not guest:
            return Listed(listed.fd, age, None, 0, 0, 0, False, False)
        lease = guest.lease
        waits, has_left = lease.unsent_size > 0, guest.left > 0
        return Listed(listed.fd, age, self._head_of(guest), lease.messages, lease.octets, lease.held, waits, has_left)

    # Each of these functions takes no longer than a turn may. True: call it again, because there is more to do.

    def expire(self, seconds: float) -> bool:
        """Reset the visitors that have said nothing for so long."""
        return self._told(self._lib.echod_door_expire(self._door, _ago(seconds)))

    def close_deadline(self, seconds: float) -> bool:
        """Reset the guests that got a Close frame so long ago."""
        return self._told(self._lib.echod_door_close_deadline(self._door, _ago(seconds), time.monotonic_ns()))

    def judge(self) -> bool:
        """Reset the guests that have not answered their ping in time."""
        return self._told(self._lib.echod_door_judge(self._door, time.monotonic_ns()))

    def see_off(self, close_frame: bytes) -> bool:
        """Send guests a Close frame. Those of which something waits go on at the host."""
        now = time.monotonic_ns()
        return self._told(self._lib.echod_door_see_off(self._door, now, close_frame, len(close_frame)))

    def recall_holders(self) -> bool:
        """Let guests that hold anything go on at the host."""
        return self._told(self._lib.echod_door_recall_holders(self._door))

    def reset_all(self) -> bool:
        """Reset visitors and guests."""
        return self._told(self._lib.echod_door_reset_all(self._door, time.monotonic_ns()))

    def _told(self, is_more: int) -> bool:
        self.tell()
        return is_more != 0

    def set_keepalive(self, interval: float, timeout: float) -> None:
        """Set after how many seconds a silent guest gets a ping, and after how many it is reset then (0: never)."""
        self._lib.echod_door_set_keepalive(self._door, int(interval * NS), int(timeout * NS))

    def look(self, most: int) -> int:
        """Look at the next guests, `most` of them, and send the pings that are due. Return how many were looked at:
        fewer if that takes long."""
        looks = self._lib.echod_door_look(self._door, time.monotonic_ns(), most)
        self.tell()
        return looks

    def turn_out(self, most: int) -> None:
        """Let the first `most` visitors go on at the host."""
        self._lib.echod_door_turn_out(self._door, most)
        self.tell()

    def recall(self, most: int) -> None:
        """Let the first `most` guests go on at the host."""
        for _ in range(min(most, self.guests)):
            self._lib.echod_door_recall(self._door, self._lib.echod_door_first(self._door))
        self.tell()

    def tell_news(self) -> None:
        """Tell the host, if there is anything to tell. Most turns of the pump have only served messages, and to look
        through all lists would take a twentieth of the time of a turn with one message."""
        if self._counts.news != self._told_news:
            self.tell()

    def tell(self) -> None:
        """Tell the host what has become of connections since the last call."""
        news = self._counts.news
        self._tell_held()  # first, because what a guest held is counted again when it becomes a connection
        lost, timed_out = self._counts.lost - self._lost, self._counts.timed_out - self._timed_out
        if lost or timed_out:
            self._lost, self._timed_out = self._counts.lost, self._counts.timed_out
            self._host.passed(lost, timed_out)
        if count := self._lib.echod_door_gone(self._door, self._gone):
            for age, code in iter_unpack("=QQ", self._ffi.buffer(self._gone[0], count * 16)):
                self._host.left(age / NS, code)
        # Both lists are stacks: the last one came first. Those that are admitted do not wait behind those that may be
        # refused, for which there may be room then.
        if arrivals := _listed(self._lib.echod_door_arrivals(self._door)):
            waiting = (*self._arrivals, *reversed(arrivals))
            self._arrivals = deque(sorted(waiting, key=lambda arrival: not arrival.is_admitted))
        self._ended += reversed(_listed(self._lib.echod_door_ended(self._door)))
        while self._arrivals:
            self._tell_arrival(self._arrivals.popleft())
        while self._ended:
            self._tell_guest(self._ended.popleft())
        self._host.told()
        self._told_news = news  # at the end: if something fails on the way, the rest is told in the next turn

    def _tell_arrival(self, arrival: Any) -> None:
        endpoint, descriptor, is_admitted = arrival.endpoint, arrival.fd, arrival.is_admitted
        age = (time.monotonic_ns() - arrival.since) / NS
        try:
            octets = b"" if descriptor < 0 else bytes(self._ffi.buffer(arrival.octets, arrival.size))
        except MemoryError:
            os.close(descriptor)  # nobody else knows of it
            self._host.passed(1, 0)
            return
        finally:
            self._lib.echod_arrival_free(arrival)
        try:
            if descriptor < 0:
                self._host.accept(endpoint)
            else:
                self._host.arrived(endpoint, descriptor, octets, age, is_admitted)
        except Exception:
            _log.failure("a connection could not be made of an arrival")

    def _tell_guest(self, native: Any) -> None:
        now = time.monotonic_ns()
        age, silent = (now - native.since) / NS, (now - native.seen) / NS
        try:
            guest, ended = self._describe(native, age, silent), self._ended_of(native.lease)
        except MemoryError:
            os.close(native.lease.fd)  # nobody else knows of it
            self._host.left(age, LEFT_LOST if native.left else LOST)
            return
        finally:
            self._lib.echod_guest_free(self._door, native)
        try:
            self._host.becomes(guest, ended)
        except Exception:
            _log.failure("a connection could not be made of a guest")

    def _describe(self, guest: Any, age: float, silent: float) -> Guest:
        lease = guest.lease
        messages, octets, has_left = lease.messages, lease.octets, guest.left > 0
        return Guest(lease.fd, guest.endpoint, self._head_of(guest), age, silent, messages, octets, has_left)

    def _head_of(self, guest: Any) -> bytes:
        head = self._ffi.new("uint8_t[]", self._lib.echod_guest_head(guest, self._ffi.NULL))
        self._lib.echod_guest_head(guest, head)
        return bytes(self._ffi.buffer(head))


def _listed(first: Any) -> list[Any]:
    """Return the things of a native list."""
    found = []
    while first:
        found.append(first)
        first = first.next
    return found


def _ago(seconds: float) -> int:
    """Return the time so many seconds ago, in nanoseconds of CLOCK_MONOTONIC."""
    return max(0, time.monotonic_ns() - int(seconds * NS))
