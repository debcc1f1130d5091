"""Leases: the pump in C reads and answers a socket in place of Twisted, until something unusual arrives.

A connection is leased while it stands between messages, on a plain socket or on one with only TLS above it. The pump
(native/pump.h) is one descriptor for the reactor; one turn of it serves every ready socket, with the same bytes as
Autobahn would send. Anything that the pump does not handle ends the lease and goes to Autobahn untouched; the part of
a fragmented message that has arrived goes there in as many frames as that takes. A connection that cannot be leased
(the PROXY protocol, a compressor that is kept, no epoll) uses the codec alone (codec.py).

Knows the native module and its leases. Must never know frames or the protocol: it asks a `Borrower`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.core.counts import Sums
from echod.http.extensions import Terms
from echod.lane.door import NS, Door, Host
from echod.lane.ended import Ended
from echod.lane.large import LARGE, Collected, Octets
from echod.lane.native import Native
from echod.upstream.tls_sessions import Session

TURN = 1_000_000
"""Nanoseconds of one turn of the pump. After that the reactor serves timers, accepts and Close frames."""

SPARE_TIME = 1.0
"""Seconds for which the pump keeps the buffers of large messages, at most 8 MiB of them (native/buffer_pool.c)."""

_log = Logger()


def seconds_since(native_time: int) -> float:
    """Return how many seconds have passed since a time that the native code tells: CLOCK_MONOTONIC in nanoseconds."""
    return (time.monotonic_ns() - native_time) / NS


class Deflating(NamedTuple):
    """How the pump serves deflated messages."""

    functions: Mapping[str, int]
    """The addresses of zlib's functions by name: see `native.zlib_functions`."""

    level: int
    """zlib's compression level, from 0 to 9."""

    memory_level: int
    """zlib's memory level, from 1 to 9."""

    min_deflated: int
    """Bytes of the shortest message that is deflated anew. A shorter one is answered without compression."""


class Borrower(Protocol):
    """What the lane needs to know of a connection."""

    lease: Any
    """The lease, or None. Only the lane writes it."""

    def echoed(self, messages: int, octets: int) -> None:
        """Note how many messages the lease has echoed, and how many bytes of payload."""
        ...

    def lease_ended(self, ended: Ended) -> None:
        """Take the socket back."""
        ...

    def lease_grown(self) -> None:
        """Note that the buffers of the leased TLS session have grown. The lane calls this once in a lease."""
        ...

    def lease_lost(self) -> None:
        """Reset the connection, because what the lease would have left is lost."""
        ...


def _caught(failure: str, call: Callable[..., object], *arguments: Any) -> bool:
    """Call, log an exception with the text `failure`, and tell whether there was no exception.

    An exception must not reach the reactor, which would drop the pump and with it all connections.
    """
    try:
        call(*arguments)
    except Exception:
        with suppress(Exception):  # if memory is short, the log may fail, too
            _log.failure(failure)
        return False
    return True


@implementer(IReadDescriptor)
class Lane:
    """The pump as the reactor sees it: one descriptor to read from."""

    def __init__(
        self,
        native: Native,
        limit: int,
        reactor: Any,
        note_held: Callable[[int], None],
        openssl: Mapping[str, int] | None = None,
        *,
        max_fragments: int,
        deflating: Deflating | None = None,
    ) -> None:
        """Make a pump for messages of at most `limit` bytes in at most `max_fragments` frames.

        `note_held` is told how many bytes all leases hold together, whenever that changes. With `openssl` (see
        `upstream.tls_sessions`) the pump also takes TLS sessions, and with `deflating` deflated messages. Raises
        `OSError` if there can be no pump.
        """
        self._native = native
        self._ffi = native.ffi
        self._lib = native.lib
        self._pump = native.lib.echod_pump_new(limit, max_fragments)
        if self._pump == native.ffi.NULL:
            raise OSError(native.ffi.errno, "the pump can't be made")
        self.takes_tls = openssl is not None
        if openssl is not None:
            native.lib.echod_pump_set_openssl(self._pump, self._table("echod_openssl", openssl))
        self.takes_deflate = deflating is not None and self._set_zlib(deflating)
        self._reactor = reactor
        self._note_held = note_held
        self._held = 0
        self._is_stopped = False
        self.door: Door | None = None
        """Where connections begin in the pump; None: nowhere."""
        self._trim_call: IDelayedCall | None = None
        self._borrowers: dict[int, Borrower] = {}
        # Leases that ended in a turn and are not yet given back, in reverse order. They are kept here because a
        # connection that gets its lease back may end the lease of another.
        self._ended: list[Any] = []
        reactor.addReader(self)

    def _set_zlib(self, deflating: Deflating) -> bool:
        settings = {
            "level": deflating.level,
            "mem_level": deflating.memory_level,
            "min_deflated": deflating.min_deflated,
        }
        how = self._ffi.new("echod_deflate_settings *", settings)
        return self._lib.echod_pump_set_zlib(self._pump, self._table("echod_zlib", deflating.functions), how) == 0

    def _table(self, struct: str, values: Mapping[str, int]) -> Any:
        """Return the C struct for the functions (by address) and constants of a library. The pump copies it."""
        fields = self._ffi.typeof(struct).fields
        return self._ffi.new(f"{struct} *", {name: self._ffi.cast(field.type, values[name]) for name, field in fields})

    def stop(self) -> None:
        """End all leases, and leave the reactor."""
        for borrower in list(self._borrowers.values()):
            self.drop(borrower)
        if self.door is not None:
            self.door.stop()
            self.door = None
        self._is_stopped = True
        self._reactor.removeReader(self)
        if self._trim_call is not None:
            self._trim_call.cancel()
        self._lib.echod_pump_free(self._pump)

    @property
    def sums(self) -> Sums:
        """The sums of all messages that leases have echoed, including leases that have ended."""
        return Sums.of_native(self._lib.echod_pump_sums(self._pump))

    # What the reactor calls.

    def fileno(self) -> int:
        """Return the pump's descriptor."""
        return self._lib.echod_pump_fd(self._pump)

    def doRead(self) -> None:
        """Serve every ready socket."""
        _caught("a turn of the pump failed", self._take_turn)

    def _take_turn(self) -> None:
        if self.door is not None:
            self.door.make_room()
        self._conclude(self._lib.echod_pump_turn(self._pump, TURN))
        if self.door is not None:
            self.door.tell_news()
        if self._is_stopped:  # the last connection of a drain has gone
            return
        if self._trim_call is None and self._lib.echod_pump_spare(self._pump):
            self._trim_call = self._reactor.callLater(SPARE_TIME, self._trim)

    def _conclude(self, lease: Any) -> None:
        """Take note of what the pump has done, and give back the leases that ended: `lease`, and those behind it."""
        while lease:
            self._ended.append(lease)
            lease = lease.next
        if self._lib.echod_pump_grown(self._pump):  # first, because what follows may free leases
            _caught("which sessions have grown could not be told", self._tell_grown)
        self._tell_held()
        while self._ended:
            self._give_back(self._ended.pop())

    def _tell_held(self) -> None:
        held = self._lib.echod_pump_held(self._pump)
        if held != self._held:
            self._held = held
            _caught("what leases hold could not be counted", self._note_held, held)

    def _tell_grown(self) -> None:
        lease = self._lib.echod_pump_grown(self._pump)
        while lease:
            self._borrowers[lease.slot].lease_grown()
            lease = lease.next_grown

    def _trim(self) -> None:
        self._trim_call = None
        self._lib.echod_pump_trim(self._pump)

    def logPrefix(self) -> str:
        """Return the name that the reactor uses in the log."""
        return "pump"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing. The reactor calls this when it ends, and the service stops the lane."""

    # What connections call.

    def lend(
        self,
        borrower: Borrower,
        descriptor: int,
        session: Session | None = None,
        deflate: Terms | None = None,
        window: bytes = b"",
    ) -> bool:
        """Lease a socket, with the TLS session on it if there is one, and tell whether that worked.

        `deflate`: the terms on which the lease takes deflated messages, if the lane `takes_deflate`. The lease mirrors
        them, or deflates each anew by itself, so `server_keeps_context` must be false then. `window`: the last bytes of
        what the client's deflated messages inflated to.
        """
        if session is None:
            lease = self._lib.echod_pump_lend(self._pump, descriptor, descriptor)
        else:
            parts = [self._ffi.cast("void *", part) for part in session]
            lease = self._lib.echod_pump_lend_tls(self._pump, descriptor, descriptor, *parts)
        if not lease:
            return False
        if deflate is not None and not self._take_deflated(lease, deflate, window):
            self._lib.echod_pump_recall(self._pump, lease)
            self._lib.echod_lease_free(lease)
            return False
        borrower.lease = lease
        self._borrowers[descriptor] = borrower
        return True

    def _take_deflated(self, lease: Any, terms: Terms, window: bytes) -> bool:
        octets = self._ffi.from_buffer(window)
        return (
            self._lib.echod_pump_take_deflated(self._pump, lease, self._native_terms(terms), octets, len(window)) == 0
        )

    def _native_terms(self, terms: Terms) -> Any:
        native: Any = self._ffi.new("echod_terms *")
        native.window_size = 1 << terms.client_window_bits if terms.client_keeps_context else 0
        native.window_bits = 0 if terms.can_mirror else terms.server_window_bits
        return native

    def ping(self, borrower: Borrower) -> bool:
        """Send a ping, behind the answers that wait, and tell whether it is sent or waits.

        The lease goes on, or ends as in a turn of the pump. Within a deflated message it ends without a ping.
        """
        ended = self._lib.echod_pump_ping(self._pump, borrower.lease)
        is_sent = not ended or ended.why != self._lib.ECHOD_END_RECALLED
        self._conclude(ended)
        return is_sent

    def count_pending(self, borrower: Borrower) -> int:
        """Return how many bytes of the lease's answers the peer's side has not taken yet."""
        return self._lib.echod_lease_pending(borrower.lease)

    def recall(self, borrower: Borrower) -> None:
        """End the lease, and give the socket back."""
        self._end(borrower.lease)
        self._give_back(borrower.lease)

    def drop(self, borrower: Borrower) -> None:
        """End the lease of a connection that is over. What the lease holds is dropped."""
        lease, borrower.lease = borrower.lease, None
        self._end(lease)
        del self._borrowers[lease.slot]
        self._release(lease, borrower)

    # Connections that begin in the pump.

    def make_door(self, host: Host, kept_field: bytes, max_head_size: int) -> Door:
        """Give the pump a door, as `Door` says."""
        self.door = Door(self._native, self._pump, host, self._tell_held, self._ended_of, kept_field, max_head_size)
        return self.door

    def remember(self, head: bytes, answer: bytes, terms: Terms | None) -> bool:
        """Let the door answer such heads as `head` was answered, on these terms for deflated messages. Tell whether
        that is possible."""
        assert self.door is not None
        return self.door.remember(head, answer, self._ffi.NULL if terms is None else self._native_terms(terms))

    def set_tight(self, is_tight: bool) -> None:
        """Say whether room is tight, so that a lease may hold only a little."""
        self._lib.echod_pump_set_tight(self._pump, is_tight)

    def _end(self, lease: Any) -> None:
        if lease in self._ended:
            self._ended.remove(lease)
        else:
            self._lib.echod_pump_recall(self._pump, lease)
            self._tell_held()  # the next turn of the pump may be far away

    def _give_back(self, lease: Any) -> None:
        borrower = self._borrowers.pop(lease.slot)
        borrower.lease = None
        if not _caught("a lease could not be given back", self._hand_over, lease, borrower):
            _caught("a connection whose lease is lost could not be reset", borrower.lease_lost)

    def _octets(self, start: Any, size: int) -> bytes:
        return bytes(self._ffi.buffer(start, size)) if size else b""

    def _release(self, lease: Any, borrower: Borrower) -> None:
        messages, octets = lease.messages, lease.octets
        self._lib.echod_lease_free(lease)
        if messages:
            borrower.echoed(messages, octets)

    def _hand_over(self, lease: Any, borrower: Borrower) -> None:
        try:
            ended = self._ended_of(lease)
        finally:
            self._release(lease, borrower)
        borrower.lease_ended(ended)

    def _ended_of(self, lease: Any) -> Ended:
        """Return what a lease leaves. It may be released then."""
        later_size = lease.unsent_size - lease.unsent_first
        unsent = self._octets(lease.unsent, lease.unsent_first) + self._octets(lease.later, later_size)
        is_over, is_lost = lease.why == self._lib.ECHOD_END_CLOSED, lease.why == self._lib.ECHOD_END_NO_MEMORY
        return Ended(
            unsent,
            self._rest_of(lease),
            is_over,
            is_lost,
            self._octets(lease.window, lease.window_size),
            lease.fragments,
            self._large_of(lease),
            is_recalled=lease.why == self._lib.ECHOD_END_RECALLED,
        )

    def _rest_of(self, lease: Any) -> Octets:
        """Return what was received and not echoed. If it is large, it is a view of the lease's buffer, because there is
        too much to copy."""
        if lease.rest_size < LARGE:
            return self._octets(lease.rest, lease.rest_size)
        buffer = self._ffi.gc(lease.rest_buffer, self._lib.echod_buffer_free)
        lease.rest_buffer = self._ffi.NULL
        start = int(lease.rest - buffer)
        return memoryview(self._ffi.buffer(buffer, start + lease.rest_size))[start:]

    def _large_of(self, lease: Any) -> Collected | None:
        """Return the large frame that is not complete or is invalid, if there is one."""
        if not lease.large_octets:
            return None
        octets = self._ffi.gc(lease.large_octets, self._lib.echod_buffer_free)
        lease.large_octets = self._ffi.NULL
        return Collected(self._ffi.new("echod_large *", lease.large), octets)
