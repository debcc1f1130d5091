"""The parent's side of one worker: starts its process, watches it, and starts the next one when that process ends.

Knows one worker: its pulse, its end, and the delay before a restart. Must never know the other workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from echod.core.log import FIELDS, KIND, UNLIMITED
from echod.core.quantities import format_duration
from echod.run.workers.child import Process, describe_end
from echod.run.workers.role import NAMESPACE
from echod.settings import Settings
from echod.web.metrics.declarations import METRICS
from echod.web.metrics.values import AllValues, unpack

PULSE = 1.0
"""Seconds between two pulses. A pulse asks each worker whether it lives, and what it has counted."""

PATIENCE = 2.0
"""Seconds that the admin site waits for a worker's answer before it shows what is known. Prometheus waits for 10 s."""

LOG = "echod.workers"
"""The namespace of the parent's lines about its workers."""

_GAUGES = frozenset(metric.name for metric in METRICS if metric.kind == "gauge")
"""The metrics whose numbers end with the process."""

_log = Logger(namespace=LOG)

_worker_log = Logger(namespace=NAMESPACE)


class Keeper(Protocol):
    """What a watched worker needs from the supervisor."""

    settings: Settings
    clock: Any
    running: int
    """Whether the daemon runs, and does not drain."""
    is_ready: bool
    """Whether all workers have served once."""

    def launch(self, index: int, process: Process) -> None:
        """Start `process` for the worker; raises `OSError`."""

    def serving_changed(self) -> None:
        """Take note that a worker has begun or stopped to serve."""

    def reloaded_late(self, faults: list[str]) -> None:
        """Take the faults of a reload that a worker could only do after its start."""

    def keep(self, counts: AllValues, name: str) -> None:
        """Keep what a process had counted that has ended; `name` is for the log."""

    def one_has_ended(self) -> None:
        """Take note that a process has ended in a drain."""

    def fail(self, reason: str) -> None:
        """End the daemon: a worker can't start, and not all workers have served yet."""


class WatchedWorker:
    """One worker as the parent watches it: one process after the other."""

    def __init__(self, index: int, keeper: Keeper) -> None:
        self._index = index
        self._keeper = keeper
        self._settings = keeper.settings
        self._clock = keeper.clock
        self._delay = self._settings.restart_delay
        self._restart: IDelayedCall | None = None
        self.process: Process | None = None

    @property
    def is_serving(self) -> bool:
        """Tell whether the worker accepts connections."""
        return self.process is not None and self.process.is_serving and not self.process.is_leaving

    def start(self) -> None:
        """Start a process."""
        self._restart = None
        process = self.process = Process(self._hear, self._ended)
        process.since = self._clock.seconds()
        try:
            self._keeper.launch(self._index, process)
        except OSError as error:  # there is no memory for one more process, or Python is gone from its place
            process.refusal = error.strerror or str(error)
            self._ended(process, Failure(error))

    def stop(self) -> None:
        """Let the process drain, and start no other."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self.process is not None:
            self.process.stop()

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self.process is not None:
            self.process.kill()

    # What the process says, and how it is watched.

    def _hear(self, kind: str, value: Any) -> None:
        process = self.process
        assert process is not None
        match kind:
            case "serving":
                process.is_serving, process.limit = True, value
                process.since, process.silences = self._clock.seconds(), 0
                if process.has_to_reload:
                    self.reload().addCallback(self._keeper.reloaded_late)
                self._keeper.serving_changed()
            case "leaving":
                process.is_leaving = True
                self._keeper.serving_changed()
            case "last":
                process.counts = unpack(value)
            case "refused":
                process.refusal = value
            case _:  # a line of the log
                write_log(process.pid, value)

    def pulse(self) -> None:
        """Ask whether the process lives; kill it when it has not answered for too long."""
        if (process := self.process) is None:
            return
        if process.has_pulse:
            process.has_pulse = False
            process.link.ask("pulse").addCallbacks(lambda answer: self._has_pulse(process, answer), lambda _: None)
        # Pulses are counted, because the clock also advances while the parent itself stands still.
        process.silences += 1
        patience = self._settings.worker_timeout if process.is_serving else self._settings.worker_start_timeout
        if process.silences * PULSE > patience and not process.is_killed:
            seconds = format_duration(patience)
            _log.error("worker {pid} has not answered for {seconds}; killing it", pid=process.pid, seconds=seconds)
            process.kill()

    @staticmethod
    def _has_pulse(process: Process, answer: Any) -> None:
        process.has_pulse, process.silences = True, 0
        process.open, process.counts = answer[0], unpack(answer[1])

    def _ended(self, process: Process, reason: Failure) -> None:
        """Log the end of the process, and start the next one unless the daemon ends."""
        self.process = None
        self._keeper.serving_changed()
        name = f"worker {process.pid}" if process.pid else "a worker"
        self._keeper.keep(process.counts, name)
        how = f"can't start: {process.refusal}" if process.refusal else describe_end(reason)
        if not self._keeper.running:
            _log.info("{name} {how}", name=name, how=how, **{UNLIMITED: True})
            self._keeper.one_has_ended()
            return
        if not (process.is_serving or self._keeper.is_ready):
            self._keeper.fail(f"{name} {how}")
            return
        if process.is_serving and self._clock.seconds() - process.since >= self._settings.restart_reset:
            self._delay = self._settings.restart_delay
        delay, self._delay = self._delay, min(2 * self._delay, self._settings.max_restart_delay)
        next_ = format_duration(delay)
        _log.error("{name} {how}; the next starts in {next_}", name=name, how=how, next_=next_, **{UNLIMITED: True})
        self._restart = self._clock.callLater(delay, self.start)

    # What the parent wants of the process.

    def cover(self, indices: list[int]) -> None:
        """Tell the process which workers' sockets to serve in addition to its own, if that has changed.

        There must be a process.
        """
        assert self.process is not None
        if self.process.covers != indices:
            self.process.covers = indices
            self.process.link.tell("cover", indices)

    def ask(self, kind: str, value: Any = None) -> Deferred[Any]:
        """Ask the process; fires with None if no process serves, or if its answer does not come in time."""
        process = self.process
        if process is None or not process.is_serving:
            return succeed(None)
        return process.link.ask(kind, value).addTimeout(PATIENCE, self._clock).addErrback(lambda _: None)

    def reload(self) -> Deferred[list[str]]:
        """Let the process read the certificates again; fires with one line for each endpoint whose files can't be used.

        A process that is still starting may have read the old files, so it reads them again as soon as it serves. If
        there is no process, or if it ends before it answers, the next process reads the new files anyway.
        """
        process = self.process
        if process is None:
            return succeed([])
        if not process.is_serving:
            process.has_to_reload = True
            return succeed([])
        return self.ask("reload").addCallback(lambda faults: self._faults(process, faults))

    @staticmethod
    def _faults(process: Process, faults: list[str] | None) -> list[str]:
        if faults is None:
            return [] if process.link.is_lost else [f"worker {process.pid} has not answered"]
        return faults

    def values(self) -> Deferred[AllValues]:
        """Return the numbers of the process, or only its counts if it does not answer."""
        process = self.process
        if process is None:
            return succeed({})
        return self.ask("values").addCallback(lambda packed: self._values(process, packed))

    @staticmethod
    def _values(process: Process, packed: Any) -> AllValues:
        if packed is None:
            # More may be known by now than when the process was asked.
            return process.counts
        values = unpack(packed)
        # Whatever has been shown is kept, even if the process dies before its next pulse: a counter must not fall.
        process.counts = {name: of_metric for name, of_metric in values.items() if name not in _GAUGES}
        return values


def write_log(pid: int, told: Mapping[str, Any]) -> None:
    """Write an event of a worker to the log, with the event's own namespace and kind."""
    logger = Logger(namespace=told["namespace"], source=_worker_log.source)
    # The text is passed as a value: a brace that a client sent must not act as a format.
    more = {KIND: told["kind"], UNLIMITED: told["unlimited"], FIELDS: told["fields"]}
    logger.emit(LogLevel.levelWithName(told["level"]), "worker {pid}: {text}", pid=pid, text=told["text"], **more)
