"""All workers together, as the admin site shows them: their numbers added up, and their connections listed.

The counts of a dead worker are kept: to Prometheus, a sum that falls looks like a restart. Knows what to ask a worker.
Must never know how a process is started or watched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from echod.net.tls import endpoint as tls_endpoint
from echod.run.workers.watched_worker import LOG, WatchedWorker
from echod.settings import Settings
from echod.web.metrics.collect import add_up_all
from echod.web.metrics.declarations import CERTIFICATES, METRICS, WORKERS
from echod.web.metrics.values import AllValues
from echod.websocket.factory import State

_log = Logger(namespace=LOG)


class Totals:
    """The source of the admin site (`web.sources.Source`) in the parent."""

    def __init__(
        self,
        settings: Settings,
        workers: Sequence[WatchedWorker],
        is_running: Callable[[], bool],
        admin_endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
    ) -> None:
        """`is_running` tells whether the daemon runs, and does not drain."""
        self.settings = settings
        self._workers = workers
        self._is_running = is_running
        self._admin_endpoints = admin_endpoints
        self._kept: AllValues = {}

    def keep(self, counts: AllValues, name: str) -> None:
        """Keep what a process had counted that has ended; `name` is for the log."""
        try:
            self._kept = add_up_all([self._kept, counts])
        except Exception:
            # A process that was started after an upgrade may count differently. Its end is noted all the same.
            _log.failure("the counts of {name} are lost", name=name)

    @property
    def state(self) -> State:
        """The state of the daemon: it serves when every worker serves, because each has connections that wait."""
        if not self._is_running():
            return State.DRAINING
        return State.SERVING if all(worker.is_serving for worker in self._workers) else State.STARTING

    def processes(self) -> dict[str, int]:
        """Return the process id of each worker that has a process, by the worker's number, counted from 0."""
        return {
            str(index): worker.process.pid for index, worker in enumerate(self._workers) if worker.process is not None
        }

    def values(self) -> Deferred[AllValues]:
        """Return the numbers of all workers, including those that have ended."""
        # Every metric is there, even without a number. What is kept is read now, when the workers are asked: the answer
        # for a worker that ends later is its own counts.
        kept: AllValues = {metric.name: {} for metric in METRICS} | self._kept
        # The admin site listens in this process, and so its certificates are here.
        kept[CERTIFICATES] = {**tls_endpoint.ends(self._admin_endpoints)}
        # A worker doesn't know of the others.
        wanted: AllValues = {WORKERS: {(): self.settings.workers}}
        asked = gatherResults([worker.values() for worker in self._workers])
        return asked.addCallback(lambda found: add_up_all([*found, kept]) | wanted)

    def connections(self, start: int, size: int) -> Deferred[tuple[int, list[dict[str, Any]]]]:
        """Return the number of connections and a part of the list: worker by worker, in the order of acceptance."""

        def divide(totals: list[int | None]) -> Deferred[Any]:
            parts, before = [], 0
            for worker, total in zip(self._workers, (found or 0 for found in totals), strict=True):
                first, last = max(start - before, 0), min(start + size - before, total)
                parts.append(worker.ask("part", [first, last - first]) if first < last else succeed([]))
                before += total
            return gatherResults(parts).addCallback(
                lambda found: (before, [told for part in found for told in part or ()])
            )

        return gatherResults([worker.ask("total") for worker in self._workers]).addCallback(divide)

    def newest(self, count: int) -> Deferred[list[dict[str, Any]]]:
        """Return the connections that were accepted last, the last one first."""

        def choose(found: list[list[dict[str, Any]] | None]) -> list[dict[str, Any]]:
            return sorted((told for part in found for told in part or ()), key=lambda told: float(told["age"]))[:count]

        return gatherResults([worker.ask("newest", count) for worker in self._workers]).addCallback(choose)

    def traced(self, number: str) -> Deferred[dict[str, Any] | None]:
        """Return what is told of a traced connection. Its number begins with the process id of its worker."""
        process = number.partition("-")[0]
        for worker in self._workers:
            if worker.process is not None and process == str(worker.process.pid):
                return worker.ask("traced", number)
        return succeed(None)
