"""One stream of an HTTP/2 connection, as a carrier: what carries a WebSocket, or one request of plain HTTP.

Flow control is backpressure. A stream gets a window for what its owner has taken, and none while its owner is paused.
So a client can send ahead of a paused owner no more than the window that it has. That much is kept here.

Knows windows and the order of what is written. Must never know a frame of WebSocket's, nor a socket: it asks its
connection, a `Multiplexer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from echod.upstream.carriers import Carrier

HIGH = 64 * 1024
"""Bytes that may wait unsent before the producer is paused. Twisted's transports have the same limit."""

DELIVERED = 64 * 1024
"""The most bytes that are delivered at a time after a pause, as in one read of a socket."""

TOGETHER = 4 * 1024
"""Bytes up to which small writes are kept together. By itself, the echo of an empty message takes 56 bytes of memory,
and counts two."""

Fields = Sequence[tuple[bytes, bytes]]


class Multiplexer(Protocol):
    """What a stream needs of its connection."""

    def send_head(self, stream: Stream, status: int, fields: Fields) -> None:
        """Send the head of an answer."""
        ...

    def wants_to_send(self, stream: Stream) -> None:
        """Let the stream send when it is its turn."""
        ...

    def open_window(self, stream: Stream, octets: int) -> None:
        """Let the peer send so many more bytes on the stream."""
        ...

    def send_reset(self, stream: Stream, code: int) -> None:
        """Send RST_STREAM, unless the stream has ended."""
        ...

    def call_soon(self, stream: Stream) -> None:
        """Call the stream's `act` in the reactor's next turn."""
        ...

    def forget(self, stream: Stream) -> None:
        """Forget a stream that has ended both ways."""
        ...

    def disowned(self) -> None:
        """Note that a stream has no owner any more."""
        ...

    def wait_for_end(self, stream: Stream) -> None:
        """Wait for the peer's end of a stream that nobody owns any more."""
        ...

    def go_away(self) -> None:
        """Tell the peer to open no new stream, and end when the open ones have ended."""
        ...

    @property
    def window(self) -> int:
        """How many bytes a stream may send ahead now."""
        ...

    @property
    def position(self) -> int:
        """How many bytes have been written to the socket since the beginning."""
        ...

    @property
    def taken(self) -> int:
        """How many of these bytes the peer's side has taken."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what `/info` tells of the connection."""
        ...


class Stream(Carrier):
    """One stream."""

    __slots__ = (
        "_came",
        "_connection",
        "_end_reason",
        "_granted",
        "_has_all_come",
        "_has_answered",
        "_has_peer_ended",
        "_is_closing",
        "_is_paused",
        "_is_read",
        "_last_write",
        "_producer",
        "_queue",
        "_queued",
        "_read_size",
        "_taken_of_first",
        "_wants_end",
        "has_ended",
        "is_producer_paused",
        "number",
        "owner",
    )

    def __init__(self, connection: Multiplexer, layers: Sequence[Any], number: int, window: int) -> None:
        """`layers` are those of the connection's transport. `window` is what the peer may send now, in bytes."""
        super().__init__(layers)
        self.has_session = False  # it is the connection's
        self.number = number
        self.owner: Any = None
        """The protocol that the stream carries; None before there is one, and after it is told of the end."""
        self._connection = connection
        self._granted = window
        """What the peer may still send, in bytes. It is negative if a client sends more at first, because it does not
        know our settings yet."""
        self._came = bytearray()
        self._queue: list[bytes] = []
        self._queued = 0
        self._taken_of_first = 0
        """How many bytes of the first entry of the queue have been sent."""
        self._read_size = HIGH
        self._is_paused = self._is_read = False
        self._has_answered = False
        self._has_all_come = False
        """Whether the peer sends nothing more. After that, a stream that has ended on our side, too, must not send
        anything (RFC 9113 section 5.1)."""
        self._has_peer_ended = False
        self._wants_end = False
        self.has_ended = False
        """Whether our end, or a reset, has been sent."""
        self._is_closing = False
        self._end_reason: Failure | None = None
        self._producer: Any = None
        self.is_producer_paused = False
        self._last_write = 0

    # Facts.

    is_stream = True
    http_version = "2"

    @property
    def stream_number(self) -> int | None:
        """The number of the stream."""
        return self.number

    def describe_http(self) -> dict[str, Any]:
        """Return what `/info` tells of HTTP."""
        return {"version": self.http_version, "stream": self.number, **self._connection.describe()}

    # Reading.

    def pause(self) -> None:
        """Stop reading: nothing is delivered, and the peer gets no new window."""
        self._is_paused = True

    def resume(self) -> None:
        """Read again, from the reactor's next turn on if something has come meanwhile."""
        if self._is_paused:
            self._is_paused = False
            if self._came or self._has_peer_ended:
                self._connection.call_soon(self)
            else:
                self._grant()

    def set_read_size(self, octets: int) -> None:
        """Set how many bytes may come at a time. While memory is short, that is the window."""
        self._read_size = octets
        self._grant()

    @property
    def unread(self) -> int:
        """How many bytes have come and are not delivered."""
        return len(self._came)

    def deliver(self, octets: bytes, size: int, is_last: bool = False) -> None:
        """Take bytes of the peer's, which have used up `size` of the window. `is_last`: they came with the peer's end,
        of which `deliver_end` tells afterwards."""
        self._granted -= size
        self._has_all_come = is_last
        if self.owner is None:
            return
        if self._is_paused or self._came:
            self._came += octets
            return
        self.owner.dataReceived(octets)
        self._grant()

    def deliver_end(self) -> None:
        """Take the peer's end (END_STREAM)."""
        self._has_all_come = self._has_peer_ended = True
        if self.has_ended:
            self._finish()
        elif self.owner is not None and not self._came and not self._is_paused:
            self.owner.readConnectionLost()

    def act(self) -> None:
        """Do what was put off to the reactor's next turn."""
        if self._end_reason is not None:
            self._tell_end()
            return
        if self.owner is None:
            return
        if self._came and not self._is_paused:
            self.owner.dataReceived(self._take_some())
        if self._is_paused or self.owner is None:
            return
        if self._came:
            self._connection.call_soon(self)
        elif self._has_peer_ended:
            if not self._is_closing:
                self.owner.readConnectionLost()
        else:
            self._grant()

    def _take_some(self) -> bytes:
        some = bytes(self._came[:DELIVERED])
        del self._came[:DELIVERED]
        return some

    def _grant(self) -> None:
        """Give the peer a window for what was taken, once it is worth a frame."""
        if self._is_paused or self._came or self._has_all_come or not self._is_read or self.owner is None:
            return
        target = self._connection.window
        if self._read_size < HIGH:
            target = min(target, self._read_size)
        if self._granted <= target // 2:
            more, self._granted = target - self._granted, target
            self._connection.open_window(self, more)

    # Writing.

    def respond(self, status: int, fields: Fields) -> None:
        """Send the head of the answer. The names of its fields are in lower case (RFC 9113 section 8.2.1)."""
        self._has_answered = True
        self._connection.send_head(self, status, fields)

    def write(self, octets: bytes) -> None:
        """Write, as far as the peer's windows and the socket allow; the rest waits."""
        if self.has_ended or self._wants_end or not octets:
            return
        if self._queue and len(self._queue[-1]) + len(octets) <= TOGETHER:
            self._queue[-1] += octets
        else:
            self._queue.append(octets)
        self._queued += len(octets)
        self._connection.wants_to_send(self)
        if self._queued > HIGH and self._producer is not None and not self.is_producer_paused:
            self.is_producer_paused = True
            self._producer.pauseProducing()

    @property
    def unsent(self) -> int:
        """How many written bytes are not in a frame yet."""
        return self._queued

    @property
    def held(self) -> int:
        """How many bytes of memory are held for the stream, both ways. The connection counts what it keeps itself."""
        return self._queued + self._taken_of_first + len(self._came)

    @property
    def unacknowledged(self) -> int:
        """How many bytes the peer's kernel has not confirmed, of those written up to the stream's last frame."""
        return max(0, self._last_write - self._connection.taken)

    def give_back_sent(self) -> None:
        """Do nothing: what is sent is not kept."""

    def register(self, producer: Any) -> None:
        """Pause and resume `producer`, depending on how the peer takes what is written, and let the peer send: what a
        WebSocket sends has no end."""
        self._producer = producer
        self._is_read = True
        self._grant()

    def unregister(self) -> None:
        """Stop pausing and resuming the producer."""
        self._producer = None

    # For the connection, which asks when it is the stream's turn to send.

    @property
    def wants_to_send(self) -> bool:
        """Whether there is something to send."""
        return not self.has_ended and (self._queued > 0 or self._wants_end)

    @property
    def needs_window(self) -> bool:
        """Whether the stream can't send without a window. An end alone needs none."""
        return self._queued > 0

    def take_to_send(self, most: int) -> tuple[bytes, bool]:
        """Take at most `most` bytes to send, and tell whether they are the last, so that the stream ends."""
        size, parts, start = 0, [], self._taken_of_first
        while self._queue and size < most:
            first = self._queue[0]
            part = first[start : start + most - size] if start or len(first) > most - size else first
            size += len(part)
            parts.append(part)
            start += len(part)
            if start == len(first):
                del self._queue[0]
                start = 0
        self._taken_of_first = start
        self._queued -= size
        return parts[0] if len(parts) == 1 else b"".join(parts), self._wants_end and not self._queued

    def sent(self, is_last: bool) -> None:
        """Note that what was taken has been written."""
        self._last_write = self._connection.position
        if is_last:
            self.has_ended = True
            if self._has_peer_ended:
                self._finish()
            elif self._is_closing:
                self._end(Failure(ConnectionDone()))
                self._connection.wait_for_end(self)
        if not self._queued and self.is_producer_paused:
            self.is_producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    # The end.

    def half_close(self) -> None:
        """Send what was written and then our end, and go on reading."""
        if not self.has_ended and not self._wants_end:
            self._wants_end = True
            self._connection.wants_to_send(self)

    def close(self) -> None:
        """Send what was written and then our end. The owner is told of the end, and the peer's is not awaited."""
        if self._is_closing:
            return
        self._is_closing = True
        if self.has_ended:
            self._end(Failure(ConnectionDone()))
            self._connection.wait_for_end(self)
        else:
            self.half_close()

    def reset(self) -> None:
        """End both ways at once (RFC 8441 section 5: CANCEL). Unsent bytes are lost. A request that has no answer yet
        may be sent again (RFC 9113 section 8.7: REFUSED_STREAM)."""
        if not (self.has_ended and self._has_all_come):
            code = ErrorCodes.CANCEL if self._has_answered else ErrorCodes.REFUSED_STREAM
            self._connection.send_reset(self, code)
        self.has_ended = True
        self._end(Failure(ConnectionAborted()))
        self._connection.forget(self)

    def lose(self, reason: Failure) -> None:
        """Take the end of the stream, or of the whole connection."""
        self.has_ended = True
        self._end_reason = self._end_reason or reason
        self._tell_end()

    def _finish(self) -> None:
        """Both ends have been sent."""
        self._end(Failure(ConnectionDone()))
        self._connection.forget(self)

    def _end(self, reason: Failure) -> None:
        if self._end_reason is None:
            self._end_reason = reason
            self._connection.call_soon(self)

    def _tell_end(self) -> None:
        owner, self.owner = self.owner, None
        self._producer = None
        self._queue.clear()
        self._came.clear()
        self._queued = self._taken_of_first = 0
        if owner is not None:
            self._connection.disowned()
            owner.connectionLost(self._end_reason)

    def send_goaway(self) -> None:
        """Let the connection serve no new stream, and end with its last one."""
        self._connection.go_away()

    # Lending to the pump.

    def renew_buffers(self) -> bool:
        """Return True: a TLS session's buffers are the connection's."""
        return True
