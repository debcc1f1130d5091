"""Every metric of the admin site, declared once, and where its numbers are found when somebody asks.

Nothing is kept here: a scrape reads the plain numbers of `counts`, the sums that the express lane counts in C, and the
state of the live connections. Each metric is a function from a daemon to numbers by label values, and all but those of
the process can be added up: what several processes have is the sum of these mappings, key by key (`add_up`), or the
least where all tell of the same (`ALIKE`). Those of the process each process has for itself.

Knows Prometheus: names, types, labels, buckets. Must never know HTTP.
"""

from __future__ import annotations

import operator
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from echod import __version__
from echod.core.counts import EMPTY, Histogram, Outcome, Sum
from echod.websocket.factory import EchoFactory, State

LARGEST_SIZE = 28
"""The last bucket of message sizes is 2**28 octets, the default of `--max-buffered`."""


class Observed(NamedTuple):
    """A histogram's numbers: observations by the upper bound of their bucket, none counted twice, and the sum of
    all."""

    places: Mapping[float, int]
    total: float

    def __add__(self, other: object) -> Observed:
        """Add up two of the same buckets."""
        assert isinstance(other, Observed)
        return Observed(
            {bound: count + other.places[bound] for bound, count in self.places.items()}, self.total + other.total
        )


Value = float | Observed
Values = dict[tuple[str, ...], Value]
"""A metric's numbers, by the values of its labels."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[EchoFactory], Values]

    def family(self, values: Values) -> Metric:
        """Return `values` as Prometheus takes them."""
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
            for labels, observed in values.items():
                assert isinstance(observed, Observed)
                histogram.add_metric(labels, list(_cumulative(observed)), observed.total)
            return histogram
        family = (CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily)(
            self.name, self.help, labels=self.labels
        )
        for labels, number in values.items():
            assert not isinstance(number, Observed)
            family.add_metric(labels, number)
        return family


def _cumulative(observed: Observed) -> Iterator[tuple[str, float]]:
    bounds = sorted(observed.places)
    for bound, count in zip(bounds, accumulate(observed.places[bound] for bound in bounds), strict=True):
        yield ("+Inf" if bound == float("inf") else f"{bound:g}" if bound < 1 else str(int(bound))), count


def add_up(parts: Iterable[Values], put_together: Callable[[Any, Any], Any] = operator.add) -> Values:
    """Return the numbers of one metric for several daemons together."""
    total: Values = {}
    for values in parts:
        for labels, value in values.items():
            total[labels] = put_together(total[labels], value) if labels in total else value
    return total


# Where the numbers are.


_VERSIONS = (__version__, platform.python_version(), version("Twisted"), version("autobahn"))


def _build(_: EchoFactory) -> Values:
    return {_VERSIONS: 1}


def _open(factory: EchoFactory) -> Values:
    return {(): len(factory.live)}


def _backpressured(factory: EchoFactory) -> Values:
    return {(): sum(connection.is_backpressured for connection in factory.live)}


def _outcomes(factory: EchoFactory) -> Values:
    return {(outcome.value,): factory.counts.outcomes[outcome] for outcome in Outcome}


def _closes(factory: EchoFactory) -> Values:
    return {(*kind,): count for kind, count in factory.counts.closes.items()}


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
    """Return what reads a number of each lane's sums; `way` is 0 for what was received and 1 for what was sent."""

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
    """Return the bucket of a place of `Sum.sizes`: every other power of two is enough."""
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
"""What each of several processes tells of the same thing. Of a certificate that only some have read again the older one
counts."""

WORKERS = "echod_workers_wanted"

METRICS: Sequence[Declared] = (
    Declared(
        BUILD,
        "gauge",
        ("version", "python", "twisted", "autobahn"),
        "Always 1; the labels are the versions in use.",
        _build,
    ),
    Declared("echod_connections_open", "gauge", (), "Live connections, in whatever state.", _open),
    Declared(
        "echod_connections_limit", "gauge", (), "Connections there may be; more get HTTP 503.", _connections_limit
    ),
    Declared("echod_connections_backpressured", "gauge", (), "Connections that are not read for now.", _backpressured),
    Declared("echod_connections_total", "counter", ("outcome",), "Connections that have ended, by how.", _outcomes),
    Declared(
        "echod_connection_duration_seconds",
        "histogram",
        (),
        "From the end of the opening handshake to the end of the connection.",
        _durations,
    ),
    Declared(
        "echod_closes_total",
        "counter",
        ("code", "by"),
        "Ends of established connections, by close code and who began.",
        _closes,
    ),
    Declared(
        "echod_handshakes_refused_total",
        "counter",
        ("status", "reason"),
        "Opening handshakes not answered with 101, by status.",
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
        "Octets of received messages.",
        _traffic(0, _octets),
    ),
    Declared(
        "echod_payload_sent_bytes_total", "counter", ("type", "lane"), "Octets of sent messages.", _traffic(1, _octets)
    ),
    Declared("echod_message_size_bytes", "histogram", ("type",), "Octets of each received message.", _sizes),
    Declared(
        "echod_faults_total", "counter", ("fault",), "Connections whose URL asked for a fault, by parameter.", _faults
    ),
    Declared("echod_buffered_bytes", "gauge", (), "Octets of unfinished and unsent messages that are held.", _buffered),
    Declared(
        "echod_buffered_limit_bytes", "gauge", (), "Octets there may be of these (--max-buffered).", _buffered_limit
    ),
    Declared(
        CERTIFICATES,
        "gauge",
        ("endpoint", "names"),
        "When the certificate that clients are shown expires, in seconds since 1970.",
        _certificates,
    ),
    Declared("echod_workers_serving", "gauge", (), "Processes that serve.", _serving),
    Declared(WORKERS, "gauge", (), "Processes that ought to (--workers).", _workers),
    Declared(
        "echod_event_loop_lag_seconds",
        "histogram",
        (),
        "How late the event loop was for a call, twice a second.",
        _lags,
    ),
)


AllValues = dict[str, Values]
"""The numbers of several metrics, by the metric's name."""


def read_all(factory: EchoFactory) -> AllValues:
    """Return the numbers of every metric."""
    return {metric.name: metric.read(factory) for metric in METRICS}


def read_counts(factory: EchoFactory) -> AllValues:
    """Return the numbers of those metrics that only grow, and so outlive the process that they were counted in."""
    return {metric.name: metric.read(factory) for metric in METRICS if metric.kind != "gauge"}


def add_up_all(parts: Sequence[AllValues]) -> AllValues:
    """Return the numbers of several daemons together, each of which may lack some metrics."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {
        name: add_up((part.get(name, {}) for part in parts), min if name in ALIKE else operator.add) for name in names
    }


def pack(values: AllValues) -> dict[str, Any]:
    """Return `values` as JSON can have them."""

    def packed(value: Value) -> Any:
        return [list(value.places.items()), value.total] if isinstance(value, Observed) else value

    return {name: [[labels, packed(value)] for labels, value in numbers.items()] for name, numbers in values.items()}


def unpack(packed: Mapping[str, Any]) -> AllValues:
    """Return the values that `pack` was given."""

    def value(packed: Any) -> Value:
        return Observed(dict(packed[0]), packed[1]) if isinstance(packed, list) else packed

    return {name: {tuple(labels): value(number) for labels, number in numbers} for name, numbers in packed.items()}


class _Daemon(Collector):
    def __init__(self, read: Callable[[], AllValues]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for metric in METRICS:
            yield metric.family(values.get(metric.name, {}))


class _OfOne(ProcessCollector):
    """prometheus_client's own, which without `/proc/stat` tells nothing: systemd's `ProcSubset=pid` hides it."""

    def _boot_time(self) -> float:
        # Where there is no such clock, there is no /proc.
        return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Processes(Collector):
    """What the kernel knows of each process, however stuck that is: of this one without a label, of a worker with its
    number.

    A number and no process id, which would be a new series with each restart.
    """

    def __init__(self, workers: Callable[[], Mapping[str, int]]) -> None:
        self._workers = workers
        self._pid: int | str = "self"
        self._of_one = _OfOne(pid=lambda: self._pid, registry=None)

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        processes: list[tuple[dict[str, str], int | str]] = [({}, "self")]
        processes += [({"worker": number}, pid) for number, pid in self._workers().items()]
        for labels, self._pid in processes:
            for family in self._of_one.collect():
                all_ = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                all_.samples += [sample._replace(labels=labels) for sample in family.samples]
        return families.values()


def make_registry(read: Callable[[], AllValues], workers: Callable[[], Mapping[str, int]] = dict) -> CollectorRegistry:
    """Return a registry of a daemon's metrics, which are `read` anew each time, and of those of this process and its
    workers.

    `workers` returns the process ids of the workers by their numbers.
    """
    registry = CollectorRegistry()
    registry.register(_Daemon(read))
    registry.register(_Processes(workers))
    return registry
