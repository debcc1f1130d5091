"""What has happened since the start, as plain numbers, which `web.metrics` reads when it is asked.

The express lane counts in C (`echod_sums` in native/codec.h); everything else is counted here. No number costs more
than an addition. All numbers only grow, and all are sums over events, so that those of several processes can be added.

Knows what is counted, and keeps the number of kinds small whatever clients do. Must never know how a number is shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any

EMPTY = 63
"""The index in `Sum.sizes` for empty messages."""

KINDS = 256
"""How many kinds of refused handshakes, and of faults, are told apart. More would be a mistake in echod; they share one
place."""

DURATIONS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
"""Bounds in seconds: for connections of test clients, health checks and browsers, and for those that are held open."""

LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds in seconds. A turn of the pump takes up to a millisecond, and a turn of `turns.Turns` up to five."""


class ServedBy(StrEnum):
    """What echoes messages."""

    PUMP = "pump"
    """Native code that reads and writes the socket by itself."""
    CODEC = "codec"
    """Native code, for bytes that Twisted has read."""
    AUTOBAHN = "autobahn"


class Outcome(StrEnum):
    """How a connection ended."""

    CLEAN = "clean"
    """There was a complete closing handshake, whoever began it."""
    FAILED = "failed"
    """echod sent a Close frame because of what the client did or because room was short (RFC 6455 section 7.1.7), or
    reset the connection because memory was short."""
    TIMEOUT = "timeout"
    """echod reset the connection because a deadline had passed."""
    LOST = "lost"
    """The client ended the connection without a complete closing handshake."""
    REFUSED = "refused"
    """The opening handshake got another answer than 101, or none; or a PROXY header or TLS failed before it."""
    PAGE = "page"
    """echod answered a plain HTTP request."""
    FAULT = "fault"
    """The connection ended without a Close frame, or by a reset, because its URL asked for that."""


class Closer(StrEnum):
    """Who began the close."""

    CLIENT = "client"
    SERVER = "server"


NO_CODE = 1005
"""The code for a Close frame that has no code (RFC 6455 section 7.1.5)."""

NO_CLOSE_FRAME = 1006
"""The code for the end of a TCP connection without a Close frame (the same section)."""


class Sum:
    """Messages of one type in one direction: how many of each size, and their bytes. `echod_sum` is the same in C."""

    __slots__ = ("octets", "sizes")

    def __init__(self, sizes: Sequence[int] = (0,) * 64, octets: int = 0) -> None:
        self.sizes = list(sizes)
        """Counts of messages: `[n]` of more than 2**(n-1) and at most 2**n bytes, `[0]` of one byte, `[63]` of none."""
        self.octets = octets
        """The bytes of their payloads."""

    def add(self, size: int) -> None:
        """Count a message of `size` bytes."""
        self.sizes[(2 * size - 1).bit_length() - 1 if size else EMPTY] += 1
        self.octets += size

    @property
    def messages(self) -> int:
        """The number of messages."""
        return sum(self.sizes)


class Sums:
    """Messages in one direction, by type. `echod_sums` is the same in C."""

    __slots__ = ("binary", "text")

    def __init__(self, text: Sum | None = None, binary: Sum | None = None) -> None:
        self.text = text or Sum()
        self.binary = binary or Sum()

    @classmethod
    def of_native(cls, sums: Any) -> Sums:
        """Return the present numbers of an `echod_sums`."""
        return cls(*(Sum(list(of_type.sizes), of_type.octets) for of_type in (sums.text, sums.binary)))

    def by_type(self) -> tuple[tuple[str, Sum], ...]:
        """Return the name and the `Sum` of each type."""
        return ("text", self.text), ("binary", self.binary)

    def add(self, size: int, is_binary: bool) -> None:
        """Count a message of `size` bytes."""
        (self.binary if is_binary else self.text).add(size)


class Traffic:
    """The messages of one connection in each direction, and the bytes of their payloads."""

    __slots__ = ("received_messages", "received_octets", "sent_messages", "sent_octets")

    def __init__(self) -> None:
        self.received_messages = self.received_octets = self.sent_messages = self.sent_octets = 0

    def echoed(self, messages: int, octets: int) -> None:
        """Count messages that were received and sent back."""
        self.received_messages += messages
        self.received_octets += octets
        self.sent_messages += messages
        self.sent_octets += octets

    def copy(self) -> Traffic:
        """Return a copy that can be added to."""
        other = Traffic()
        for name in Traffic.__slots__:
            setattr(other, name, getattr(self, name))
        return other


class Histogram:
    """Observations by size: `places[n]` counts those of at most `bounds[n]` and above the one before. The last place
    counts those above all bounds."""

    __slots__ = ("bounds", "places", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.places = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all observations."""

    def observe(self, value: float) -> None:
        """Count an observation."""
        self.places[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counts:
    """All numbers of one daemon."""

    __slots__ = (
        *("closes", "durations", "faults", "http2_errors", "lags", "outcomes", "over_http2", "received", "refusals"),
        "sent",
    )

    def __init__(self) -> None:
        self.received = Sums()
        """Complete messages that Autobahn received."""
        self.sent = Sums()
        """Messages that were written through Autobahn."""
        self.outcomes: Counter[str] = Counter()
        self.closes: Counter[tuple[str, str]] = Counter()
        """Established connections that have ended, by `close_label` and `Closer`."""
        self.refusals: Counter[tuple[str, str]] = Counter()
        """Refused handshakes by status (or `none`) and reason."""
        self.faults: Counter[str] = Counter()
        self.over_http2 = 0
        """Established connections that have ended and were streams of HTTP/2. All others were HTTP/1.1's."""
        self.http2_errors: Counter[str] = Counter()
        """HTTP/2 connections that were ended because of what the client did, by the name of the error code."""
        self.durations = Histogram(DURATIONS)
        """How long established connections were open, in seconds."""
        self.lags = Histogram(LAGS)
        """How late the event loop was, in seconds."""

    def refuse(self, status: int, why: str) -> None:
        """Count an opening handshake that was refused. `status` is 0 if there was no answer. `why` must be text of
        echod, not of the client.

        All statuses that are not registered count as `other`, because a URL can ask for 300 different ones, which would
        leave no place for echod's own refusals.
        """
        label = ("other" if status else "none") if status not in _STATUSES else str(int(status))
        _count(self.refusals, (label, why), ("other", "other"))

    def fault(self, name: str) -> None:
        """Count a connection whose URL asked for a fault. `name` must be text of echod, not of the client."""
        _count(self.faults, name, "other")


_STATUSES = frozenset(HTTPStatus)


def _count(counter: Counter[Any], kind: Any, other: Any) -> None:
    counter[kind if kind in counter or len(counter) < KINDS else other] += 1


def close_label(code: int) -> str:
    """Return the label of a close code: a registered code itself, or the range of another (RFC 6455 section 7.4.2)."""
    if 1000 <= code <= 1015:
        return str(code)
    return {3: "3xxx", 4: "4xxx"}.get(code // 1000, "other")
