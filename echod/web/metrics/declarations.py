"""Every metric of the admin site, declared once: its name, type, labels and help, and where its numbers are found.

Nothing is kept here. A scrape reads the plain numbers of `counts`, the sums that the express lane counts in C, and the
state of the live connections. Each metric is a function from a daemon to numbers by label values. These numbers can be
added up: several processes together have the sum of their mappings, key by key. Of a metric in `ALIKE` they have the
least instead.

Knows names, types, labels and buckets. Must never know HTTP, nor Prometheus's library: `exposition.py` does.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from echod import __version__
from echod.core.counts import EMPTY, Histogram, Outcome, Sum
from echod.web.metrics.values import Observed, Values
from echod.websocket.factory import EchoFactory, State

LARGEST_SIZE = 28
"""The last bucket of message sizes is 2**28 bytes, the default of `--max-buffered`."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric."""

    name: str
    kind: str
    """`counter`, `gauge` or `histogram`."""
    labels: tuple[str, ...]
    help: str
    read: Callable[[EchoFactory], Values]


# Where the numbers are found.


_VERSIONS = (__version__, platform.python_version(), version("Twisted"), version("autobahn"))


def _build(_: EchoFactory) -> Values:
    return {_VERSIONS: 1}


def _open(factory: EchoFactory) -> Values:
    return {(): factory.count}


def _backpressured(factory: EchoFactory) -> Values:
    return {(): factory.backpressured}


def _outcomes(factory: EchoFactory) -> Values:
    return {(outcome.value,): factory.counts.outcomes[outcome] for outcome in Outcome}


def _closes(factory: EchoFactory) -> Values:
    return {(*kind,): count for kind, count in factory.counts.closes.items()}


def _by_http(factory: EchoFactory) -> Values:
    over_http2 = factory.counts.over_http2
    return {("1.1",): sum(factory.counts.durations.places) - over_http2, ("2",): over_http2}


def _http2_open(factory: EchoFactory) -> Values:
    return {(): len(factory.sessions.live)}


def _http2_errors(factory: EchoFactory) -> Values:
    return {(code,): count for code, count in factory.counts.http2_errors.items()}


def _refusals(factory: EchoFactory) -> Values:
    return {(*kind,): count for kind, count in factory.counts.refusals.items()}


def _faults(factory: EchoFactory) -> Values:
    return {(name,): count for name, count in factory.counts.faults.items()}


def _durations(factory: EchoFactory) -> Values:
    return {(): _observed(factory.counts.durations)}


def _lags(factory: EchoFactory) -> Values:
    return {(): _observed(factory.counts.lags)}


def _observed(histogram: Histogram) -> Observed:
    return Observed(dict(zip((*histogram.bounds, float("inf")), histogram.places, strict=True)), histogram.total)


def _traffic(way: int, number: Callable[[Sum], int]) -> Callable[[EchoFactory], Values]:
    """Return a function that reads one number of each lane's sums. `way` is 0 for messages received, 1 for messages
    sent."""

    def read(factory: EchoFactory) -> Values:
        lanes = factory.traffic().items()
        return {(kind, lane): number(of_type) for lane, ways in lanes for kind, of_type in ways[way].by_type()}

    return read


def _messages(of_type: Sum) -> int:
    return of_type.messages


def _octets(of_type: Sum) -> int:
    return of_type.octets


def _sizes(factory: EchoFactory) -> Values:
    sizes: dict[str, Counter[float]] = {"text": Counter(), "binary": Counter()}
    octets: Counter[str] = Counter()
    for received, _ in factory.traffic().values():
        for kind, of_type in received.by_type():
            octets[kind] += of_type.octets
            for place, count in enumerate(of_type.sizes):
                sizes[kind][_bound(place)] += count
    return {(kind,): Observed(places, octets[kind]) for kind, places in sizes.items()}


def _bound(place: int) -> float:
    """Return the bucket for a place of `Sum.sizes`. There is a bucket for every other power of two."""
    exponent = 0 if place == EMPTY else place + place % 2
    return 2.0**exponent if exponent <= LARGEST_SIZE else float("inf")


def _buffered(factory: EchoFactory) -> Values:
    return {(): factory.budget.total}


def _buffered_limit(factory: EchoFactory) -> Values:
    return {(): factory.settings.max_buffered}


def _connections_limit(factory: EchoFactory) -> Values:
    return {(): factory.max_connections}


def _serving(factory: EchoFactory) -> Values:
    return {(): int(factory.state is State.SERVING)}


def _workers(factory: EchoFactory) -> Values:
    return {(): factory.settings.workers}


def _certificates(factory: EchoFactory) -> Values:
    return {**factory.certificates()}


BUILD = "echod_build_info"

CERTIFICATES = "echod_certificate_not_after_timestamp_seconds"

ALIKE = {BUILD, CERTIFICATES}
"""Metrics for which several processes report the same thing. If only some of them have read a certificate again, the
older certificate counts."""

WORKERS = "echod_workers_wanted"

METRICS: Sequence[Declared] = (
    Declared(
        BUILD,
        "gauge",
        ("version", "python", "twisted", "autobahn"),
        "Always 1; the labels are the versions in use.",
        _build,
    ),
    Declared("echod_connections_open", "gauge", (), "Live connections, in any state.", _open),
    Declared(
        "echod_connections_limit", "gauge", (), "Most connections at a time; more get HTTP 503.", _connections_limit
    ),
    Declared(
        "echod_connections_backpressured", "gauge", (), "Connections that are not being read for now.", _backpressured
    ),
    Declared(
        "echod_connections_total", "counter", ("outcome",), "Connections that have ended, by how they ended.", _outcomes
    ),
    Declared(
        "echod_connection_duration_seconds",
        "histogram",
        (),
        "Time from the end of the opening handshake to the end of the connection.",
        _durations,
    ),
    Declared(
        "echod_closes_total",
        "counter",
        ("code", "by"),
        "Established connections that have ended, by close code and by who closed first.",
        _closes,
    ),
    Declared(
        "echod_connections_by_http_total",
        "counter",
        ("http",),
        "Established connections that have ended, by the HTTP version of their opening handshake.",
        _by_http,
    ),
    Declared("echod_http2_connections_open", "gauge", (), "HTTP/2 connections, with and without streams.", _http2_open),
    Declared(
        "echod_http2_errors_total",
        "counter",
        ("code",),
        "HTTP/2 connections that were ended because of what the client did, by error code.",
        _http2_errors,
    ),
    Declared(
        "echod_handshakes_refused_total",
        "counter",
        ("status", "reason"),
        "Opening handshakes not answered with 101, by status and reason.",
        _refusals,
    ),
    Declared(
        "echod_messages_received_total", "counter", ("type", "lane"), "Whole messages received.", _traffic(0, _messages)
    ),
    Declared("echod_messages_sent_total", "counter", ("type", "lane"), "Messages sent.", _traffic(1, _messages)),
    Declared(
        "echod_payload_received_bytes_total",
        "counter",
        ("type", "lane"),
        "Payload bytes of received messages.",
        _traffic(0, _octets),
    ),
    Declared(
        "echod_payload_sent_bytes_total",
        "counter",
        ("type", "lane"),
        "Payload bytes of sent messages.",
        _traffic(1, _octets),
    ),
    Declared("echod_message_size_bytes", "histogram", ("type",), "Payload bytes of each received message.", _sizes),
    Declared(
        "echod_faults_total", "counter", ("fault",), "Connections whose URL asked for a fault, by parameter.", _faults
    ),
    Declared("echod_buffered_bytes", "gauge", (), "Bytes held for unfinished and unsent messages.", _buffered),
    Declared("echod_buffered_limit_bytes", "gauge", (), "Most bytes held for these (--max-buffered).", _buffered_limit),
    Declared(
        CERTIFICATES,
        "gauge",
        ("endpoint", "names"),
        "Expiry of the certificate that clients are shown, in seconds since 1970.",
        _certificates,
    ),
    Declared("echod_workers_serving", "gauge", (), "Processes that are serving.", _serving),
    Declared(WORKERS, "gauge", (), "Processes that should be serving (--workers).", _workers),
    Declared(
        "echod_event_loop_lag_seconds",
        "histogram",
        (),
        "How late the event loop made a timed call, measured twice a second.",
        _lags,
    ),
)
