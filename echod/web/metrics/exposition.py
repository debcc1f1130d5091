"""The metrics in the form that Prometheus's library takes, and those of processes, which that library reads.

Must never know HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from echod.web.metrics.declarations import METRICS, Declared
from echod.web.metrics.values import AllValues, Observed, Values


def _family(metric: Declared, values: Values) -> Metric:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, observed in values.items():
            assert isinstance(observed, Observed)
            histogram.add_metric(labels, list(_cumulative(observed)), observed.total)
        return histogram
    family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, number in values.items():
        assert not isinstance(number, Observed)
        family.add_metric(labels, number)
    return family


def _cumulative(observed: Observed) -> Iterator[tuple[str, float]]:
    bounds = sorted(observed.places)
    for bound, count in zip(bounds, accumulate(observed.places[bound] for bound in bounds), strict=True):
        yield ("+Inf" if bound == float("inf") else f"{bound:g}" if bound < 1 else str(int(bound))), count


class _Daemon(Collector):
    def __init__(self, read: Callable[[], AllValues]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for metric in METRICS:
            yield _family(metric, values.get(metric.name, {}))


class _OfOne(ProcessCollector):
    """prometheus_client's own collector, except that it also works without `/proc/stat`, which systemd's
    `ProcSubset=pid` hides."""

    def _boot_time(self) -> float:
        # A system without this clock has no /proc either.
        return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Processes(Collector):
    """What the kernel knows of each process, even of one that is stuck. This process has no label, a worker has its
    number.

    The label is not the process id, because each restart would begin a new series.
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
    """Return a registry of the metrics of a daemon, of this process, and of the worker processes.

    `read` returns the daemon's numbers, anew for each scrape. `workers` returns the process ids of the workers by their
    numbers.
    """
    registry = CollectorRegistry()
    registry.register(_Daemon(read))
    registry.register(_Processes(workers))
    return registry
