"""What has happened since the start, as plain numbers: cheap to count, for whoever asks (`metrics`) to read.

The express lane counts in C (`echod_sums` in native/codec.h), everything else here, and no number costs more than an
addition. All of them only grow, and all are sums over events, so that those of several processes can be added up.

Knows what is counted, and keeps the kinds of it few whatever clients do. Must never know how a number is shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any

EMPTY = 63
"""The place of an empty message in `Sum.sizes`."""

KINDS = 256
"""Kinds of refused handshakes and of faults that are told apart; more would be a mistake of ours, and share one
place."""

DURATIONS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
"""Seconds: a test client's connection, a health check's, a browser's, and one that is held open."""

LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. One turn of the pump takes up to a millisecond, and one for those in line up to five."""


class Outcome(StrEnum):
    """How a connection ended."""

    CLEAN = "clean"
    """After a whole closing handshake, whoever began it."""
    FAILED = "failed"
    """By a Close frame of ours for what the client did, or for want of room (RFC 6455 section 7.1.7); reset by us for
    want of memory."""
    TIMEOUT = "timeout"
    """Reset by us, when a deadline had passed."""
    LOST = "lost"
    """By the client, without a whole closing handshake."""
    REFUSED = "refused"
    """The opening handshake was answered with something else than 101, or with nothing, or a PROXY header or TLS failed
    before it."""
    PAGE = "page"
    """Plain HTTP was answered."""
    FAULT = "fault"
    """Without a Close frame, or by a reset, as its URL asked for."""


class Closer(StrEnum):
    """Who began to close."""

    CLIENT = "client"
    SERVER = "server"


NO_CODE = 1005
"""Stands for a Close frame without a code (RFC 6455 section 7.1.5)."""

NO_CLOSE_FRAME = 1006
"""Stands for the end of the TCP connection without a Close frame (likewise)."""


class Sum:
    """Messages of one type that went one way: how many by size, and their octets. What `echod_sum` is in C."""

    __slots__ = ("octets", "sizes")

    def __init__(self, sizes: Sequence[int] = (0,) * 64, octets: int = 0) -> None:
        self.sizes = list(sizes)
        """`[n]` has more than 2**(n-1) octets and at most 2**n, `[0]` has one, `[63]` is empty."""
        self.octets = octets
        """Of their payloads."""

    def add(self, size: int) -> None:
        """Count a message of `size` octets."""
        self.sizes[(2 * size - 1).bit_length() - 1 if size else EMPTY] += 1
        self.octets += size

    @property
    def messages(self) -> int:
        """How many there were."""
        return sum(self.sizes)


class Sums:
    """Messages that went one way, by type. What `echod_sums` is in C."""

    __slots__ = ("binary", "text")

    def __init__(self, text: Sum | None = None, binary: Sum | None = None) -> None:
        self.text = text or Sum()
        self.binary = binary or Sum()

    @classmethod
    def of_native(cls, sums: Any) -> Sums:
        """Return what an `echod_sums` says now."""
        return cls(*(Sum(list(of_type.sizes), of_type.octets) for of_type in (sums.text, sums.binary)))

    def by_type(self) -> tuple[tuple[str, Sum], ...]:
        """Return each type by its name."""
        return ("text", self.text), ("binary", self.binary)

    def add(self, size: int, is_binary: bool) -> None:
        """Count a message of `size` octets."""
        (self.binary if is_binary else self.text).add(size)


class Traffic:
    """The messages of one connection each way, and the octets of their payloads."""

    __slots__ = ("received_messages", "received_octets", "sent_messages", "sent_octets")

    def __init__(self) -> None:
        self.received_messages = self.received_octets = self.sent_messages = self.sent_octets = 0

    def echoed(self, messages: int, octets: int) -> None:
        """Count messages that came and went."""
        self.received_messages += messages
        self.received_octets += octets
        self.sent_messages += messages
        self.sent_octets += octets

    def copy(self) -> Traffic:
        """Return the same numbers, to be added to."""
        other = Traffic()
        for name in Traffic.__slots__:
            setattr(other, name, getattr(self, name))
        return other


class Histogram:
    """Observations by size: how many were at most each of `bounds`, and above the one before it; the last place is for
    those above all."""

    __slots__ = ("bounds", "places", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.places = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all observations."""

    def observe(self, value: float) -> None:
        """Count one."""
        self.places[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counts:
    """All numbers of one daemon."""

    __slots__ = ("closes", "durations", "faults", "lags", "outcomes", "received", "refusals", "sent")

    def __init__(self) -> None:
        self.received = Sums()
        """Whole messages that Autobahn handed over."""
        self.sent = Sums()
        """Messages that were written through Autobahn."""
        self.outcomes: Counter[str] = Counter()
        self.closes: Counter[tuple[str, str]] = Counter()
        """Established connections that are gone, by `close_label` and `Closer`."""
        self.refusals: Counter[tuple[str, str]] = Counter()
        """By status, or `none`, and reason."""
        self.faults: Counter[str] = Counter()
        self.durations = Histogram(DURATIONS)
        """Of established connections, in seconds."""
        self.lags = Histogram(LAGS)
        """How late the event loop was, in seconds."""

    def refuse(self, status: int, why: str) -> None:
        """Count an opening handshake that was refused; `status` 0: without an answer. `why` is in our words, not in the
        client's.

        A status that is not registered is one of `other`: a URL can ask for each of 300, which would leave no place for
        our own refusals.
        """
        label = ("other" if status else "none") if status not in _STATUSES else str(int(status))
        _count(self.refusals, (label, why), ("other", "other"))

    def fault(self, name: str) -> None:
        """Count a connection whose URL asked for a fault. `name` is in our words."""
        _count(self.faults, name, "other")


_STATUSES = frozenset(HTTPStatus)


def _count(counter: Counter[Any], kind: Any, other: Any) -> None:
    counter[kind if kind in counter or len(counter) < KINDS else other] += 1


def close_label(code: int) -> str:
    """Return the name of a close code: the registered ones each, the rest by their range (RFC 6455 section 7.4.2)."""
    if 1000 <= code <= 1015:
        return str(code)
    return {3: "3xxx", 4: "4xxx"}.get(code // 1000, "other")
