"""A carrier that delivers badly: in slices, slowly, or not to the end. It stands between a connection and its carrier.

Knows bytes and time. Must never know what the bytes mean, except for how many are the answer to the handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from echod.core.quantities import KIB, MIB
from echod.faults.stage import Shared
from echod.upstream.carriers import NO_CARRIER, Carrier

FULL = 64 * KIB
"""While more bytes wait here, the connection is not read, as with Twisted's own buffer."""

MOST = MIB
"""The most bytes of a piece, however high the rate. To copy them takes half a millisecond."""

PIECES = 20
"""In how many pieces the bytes of a second are sent, if there are enough of them."""


@implementer(IPushProducer)
class Wire(Carrier):
    """The carrier of a connection whose URL asks for bad delivery."""

    __slots__ = (
        "_after",
        "_inner",
        "_is_full",
        "_it",
        "_left",
        "_passing",
        "_piece",
        "_producer",
        "_queue",
        "_timers",
        "_waits",
        "http_version",
        "is_cut",
        "is_stream",
    )

    def __init__(self, inner: Carrier, shared: Shared) -> None:
        super().__init__(inner.layers)
        self.has_session, self.is_stream, self.http_version = inner.has_session, inner.is_stream, inner.http_version
        self._inner = inner
        self._it = shared
        rate = shared.faults.rate
        self._piece: int | None = shared.faults.slice or (min(MOST, max(1, rate // PIECES)) if rate else None)
        """The most bytes of a piece; None: everything is written at once."""
        self._queue = bytearray()
        self._timers = shared.timers.another()
        self._waits = False
        """Whether it is too early for the next piece."""
        self._after: Callable[[], None] | None = None
        """What is to be done once everything is written."""
        self._producer: Any = None
        self._is_full = False
        """Whether the carrier below is full."""
        self._passing = 0
        """How many bytes of the answer to the handshake are still to come, which `cut` does not count."""
        self.is_cut = False
        """Whether as many bytes were written as `cut` allows."""
        self._left: int | None = None
        """How many bytes may follow that answer; None: any number."""

    # What is not changed here. A stream of HTTP/2 does more of it by itself than Twisted's transports do.

    @property
    def stream_number(self) -> int | None:
        """The number of the stream; None of a carrier that is none."""
        return self._inner.stream_number

    def describe_http(self) -> dict[str, Any]:
        """Return what `/info` tells of HTTP."""
        return self._inner.describe_http()

    def pause(self) -> None:
        """Stop reading."""
        self._inner.pause()

    def resume(self) -> None:
        """Read again."""
        self._inner.resume()

    def set_read_size(self, octets: int) -> None:
        """Set how many bytes one read takes."""
        self._inner.set_read_size(octets)

    @property
    def unread(self) -> int:
        """How many bytes wait to be read."""
        return self._inner.unread

    @property
    def unacknowledged(self) -> int:
        """How many bytes the kernel has taken and the peer's kernel has not confirmed."""
        return self._inner.unacknowledged

    def give_back_sent(self) -> None:
        """Free the memory of sent bytes."""
        self._inner.give_back_sent()

    def renew_buffers(self) -> bool:
        """Free the memory that a TLS session's buffers have grown to."""
        return self._inner.renew_buffers()

    def respond(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer over HTTP/2. It is one block of header fields, however slow the rest is."""
        self._inner.respond(status, fields)

    def send_goaway(self) -> None:
        """Let the HTTP/2 connection below serve no new stream."""
        self._inner.send_goaway()

    # Writing.

    def answer(self, octets: int) -> None:
        """Note that the connection is open, and that the next bytes are the answer to the handshake."""
        self._passing = octets
        self._left = self._it.faults.cut

    def write(self, octets: bytes) -> None:
        """Write, some bytes at a time."""
        if self._left is not None:
            octets = self._cut(octets, self._left)
        if self._piece is None:
            if octets:
                self._inner.write(octets)
        else:
            self._queue += octets
            self._send()
            if len(self._queue) > FULL and self._producer is not None:
                self._producer.pauseProducing()

    def _cut(self, octets: bytes, left: int) -> bytes:
        free = min(self._passing, len(octets))
        self._passing -= free
        octets = octets[: free + left]
        self._left = left - len(octets) + free
        if not self._left and not self._passing and not self.is_cut:
            self.is_cut = True
            # Later, because the connection is in the middle of an event. It may be the event that stops its own timers.
            self._timers.call_later(0, self._it.connection.cut_off)
        return octets

    def _send(self) -> None:
        """Write the next piece, unless it is too early."""
        if self._waits or self._is_full or not self._queue:
            return
        piece = bytes(self._queue[: self._piece])
        del self._queue[: self._piece]
        self._inner.write(piece)
        faults = self._it.faults
        pause = max(
            len(piece) / faults.rate if faults.rate else 0, self._it.settings.slice_pause if faults.slice else 0
        )
        self._waits = True
        self._timers.call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._waits = False
        self._send()
        if self._producer is not None and not self._is_full and len(self._queue) <= FULL:
            self._producer.resumeProducing()
        if self._after is not None and not self._queue:
            after, self._after = self._after, None
            after()

    @property
    def unsent(self) -> int:
        """How many written bytes the kernel has not taken yet."""
        return self._inner.unsent + len(self._queue)

    @property
    def held(self) -> int:
        """How many bytes of memory the unsent bytes take."""
        return self._inner.held + len(self._queue)

    # The producer below, and above.

    def register(self, producer: Any) -> None:
        """Let `producer` be paused and resumed."""
        self._producer = producer
        self._inner.register(self)

    def unregister(self) -> None:
        """Stop pausing and resuming the producer."""
        self._producer = None
        self._inner.unregister()

    def pauseProducing(self) -> None:
        """Write no more, because the carrier below is full."""
        self._is_full = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on writing."""
        self._is_full = False
        if not self._waits:
            self._it.connection.perform(self._go_on)

    def stopProducing(self) -> None:
        """Do nothing. The connection is lost."""

    # The end.

    def half_close(self) -> None:
        """Send what was written and then a FIN, or TLS's close_notify, and go on reading."""
        self._when_written(self._inner.half_close)

    def close(self) -> None:
        """Close when everything that was written is sent."""
        self._when_written(self._inner.close)

    def reset(self) -> None:
        """Close at once. Unsent bytes are lost."""
        self._forget()
        self._inner.reset()

    def _when_written(self, action: Callable[[], None]) -> None:
        if self._queue:
            self._after = action
        else:
            action()

    def stop(self) -> None:
        """Forget everything: the connection is gone. The transport may still refer to this object."""
        self._forget()
        self._inner, self._layers = NO_CARRIER, ()

    def _forget(self) -> None:
        self._queue.clear()
        self._after = self._producer = None
        self._timers.stop()
        self._waits = False
