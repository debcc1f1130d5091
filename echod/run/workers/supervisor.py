"""`--workers`: the parent. It listens, and lets worker processes serve.

It starts the workers, passes on the orders that come by signals, and ends when all workers have ended. Each worker has
a `WatchedWorker`, which watches it. The workers' sockets are in `sockets`, and what the admin site shows is in
`totals`.

Knows the life of the daemon with workers. Must never know a connection or a message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from echod.core.log import UNLIMITED
from echod.run import report
from echod.run.listening import listen_on
from echod.run.process import set_descriptor_limit
from echod.run.service import EchoService
from echod.run.workers.child import Process
from echod.run.workers.launch import launch
from echod.run.workers.sockets import Nobody, Sockets
from echod.run.workers.totals import Totals
from echod.run.workers.watched_worker import LOG, PULSE, WatchedWorker
from echod.web.metrics.values import AllValues

_log = Logger(namespace=LOG)


class Supervisor(EchoService):
    """Lets `settings.workers` processes serve the endpoints."""

    def __init__(self, *arguments: Any, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        """`command` is the command line of a worker, and `environment` its environment; the rest is as in
        `EchoService`."""
        super().__init__(*arguments, **options)
        self.settings = self._settings
        self.clock = self._reactor
        self.is_ready = False
        """Whether all workers have served once, even if not all of them serve now."""
        self._command = command
        self._environment = environment
        self._folder = os.getcwd()  # before twistd goes to its --rundir
        self._workers = [WatchedWorker(index, self) for index in range(self.settings.workers)]
        self._sockets = Sockets(self.settings.workers, self.settings.backlog)
        self.totals = Totals(self.settings, self._workers, lambda: bool(self.running), self._admin_endpoints)
        self._all_ended: Deferred[None] | None = None
        self._kill_call: IDelayedCall | None = None
        self._pulse = LoopingCall(self._for_each, WatchedWorker.pulse)
        self._pulse.clock = self._reactor

    def _for_each(self, act: Callable[[WatchedWorker], object]) -> None:
        for worker in self._workers:
            act(worker)

    def _processes(self) -> Iterable[Process]:
        return (worker.process for worker in self._workers if worker.process is not None)

    # The life of the service, as `EchoService` has it.

    def _listen(self) -> None:
        self._has_listened = True
        set_descriptor_limit(self._reactor)  # each worker takes two pipes, and a socket of each endpoint
        for text, endpoint in self._endpoints:
            self._ports.append(listen_on(text, endpoint, Nobody()))
            self._sockets.add(text, self._ports[-1])
        if self._admin_endpoints:
            self._listen_for_admin(self.totals)
        self._report_addresses()

    def _begin(self) -> None:
        if self.running:
            self._for_each(WatchedWorker.start)
            self._pulse.start(PULSE, now=False)

    def _tell_ready(self) -> None:
        """Do nothing yet: the daemon is ready when all workers serve."""

    def _describe_status(self) -> str:
        found = [process for process in self._processes() if process.is_serving]
        connections = sum(process.open for process in found)
        if not self.running:
            return f"draining, connections left: {connections}"
        most = sum(process.limit for process in found)
        return f"connections: {connections} of at most {most}, workers: {len(found)} of {len(self._workers)}"

    def reload(self) -> Deferred[Any]:
        """Read the certificates again, in each worker and for the admin site; fires when all serving workers have
        done it."""
        asked = gatherResults([succeed(self._read_certificates()), *(worker.reload() for worker in self._workers)])
        return asked.addCallback(lambda found: self._report_reload([fault for faults in found for fault in faults]))

    def _drain(self) -> Deferred[Any]:
        self._for_each(WatchedWorker.stop)
        self._sockets.close_siblings()
        self._all_ended = Deferred()
        ended = self._all_ended
        most = self.settings.drain_timeout + self.settings.worker_stop_margin
        self._kill_call = self._reactor.callLater(most, self._for_each, WatchedWorker.kill)
        self.one_has_ended()
        return ended

    def _abort(self) -> None:
        for process in self._processes():
            process.link.tell("abort")

    def _stopped(self, result: object) -> object:
        if self._pulse.running:
            self._pulse.stop()
        return super()._stopped(result)

    # What the watched workers need (`watched_worker.Keeper`).

    def launch(self, index: int, process: Process) -> None:
        """Start a process for the worker; raises `OSError`."""
        role, passed = self._sockets.assign(index, self._folder)
        role = replace(role, issued=self.issued)
        launch(self._reactor, process, self._command, self._environment, role, passed)

    def serving_changed(self) -> None:
        """Report when all workers serve for the first time, and divide the sockets of workers that accept nothing."""
        if self.running and not self.is_ready and all(worker.is_serving for worker in self._workers):
            self.is_ready = True
            self._report_ready()
        if self.running and self.is_ready:
            self._cover()

    def _report_ready(self) -> None:
        pids = ", ".join(str(process.pid) for process in self._processes())
        _log.info("workers: {pids}", pids=pids, **{UNLIMITED: True})
        most = min(process.limit for process in self._processes())
        report.log_limits(self.settings.share(0), most, f", for each of {len(self._workers)} workers")
        super()._tell_ready()

    def _cover(self) -> None:
        """Let serving workers serve the sockets of the others, to which the kernel still gives connections."""
        serving = [worker for worker in self._workers if worker.is_serving]
        orphaned = [index for index, worker in enumerate(self._workers) if not worker.is_serving]
        for place, worker in enumerate(serving):
            worker.cover(orphaned[place :: len(serving)])

    def reloaded_late(self, faults: Sequence[str]) -> None:
        """Report the faults of a worker that was still starting at the time of the reload."""
        if faults:
            self._report_reload(faults)

    def keep(self, counts: AllValues, name: str) -> None:
        """Keep what a process had counted that has ended; `name` is for the log."""
        self.totals.keep(counts, name)

    def one_has_ended(self) -> None:
        """End the drain if no process is left."""
        if self._all_ended is not None and not any(worker.process for worker in self._workers):
            ended, self._all_ended = self._all_ended, None
            assert self._kill_call is not None
            if self._kill_call.active():
                self._kill_call.cancel()
            ended.callback(None)
