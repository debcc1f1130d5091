"""`--workers`: the parent, who listens, and has worker processes serve.

It makes every listening socket and never accepts from one: of a TCP endpoint one for each worker (SO_REUSEPORT),
between which the kernel divides the connections evenly, by a hash of the addresses; sockets of other kinds, and those
from systemd, all workers share. It keeps them open, and passes all of them to each worker, so that a dead worker's
socket can be served by another.

It starts the workers, and another for each that ends or no longer answers; passes on what it is told by signals; and
answers on the admin site for all together. What a dead worker had counted is kept: a sum that fell would look like a
restart to Prometheus.

Knows processes, sockets, and what there is to ask a worker. Must never know a connection or a message.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.reactors import getReactorTypes
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from echod.core.log import KIND, UNLIMITED, stderr_line
from echod.core.quantities import format_duration
from echod.net.tls import endpoint as tls_endpoint
from echod.run import report, signals
from echod.run.listening import listen_on, prepare_socket
from echod.run.process import fail_at_exit, refuse_to_start, set_descriptor_limit
from echod.run.service import EchoService
from echod.run.workers import link
from echod.run.workers.link import Link
from echod.run.workers.worker import NAMESPACE, VARIABLE, Role
from echod.upstream import endpoints
from echod.web.metrics.collect import add_up_all
from echod.web.metrics.declarations import CERTIFICATES, METRICS, WORKERS
from echod.web.metrics.values import AllValues, unpack
from echod.websocket.factory import State

PULSE = 1.0
"""Seconds between two questions to each worker: whether it lives, and what it has counted."""

PATIENCE = 2.0
"""Seconds that the admin site waits for a worker's answer; then it tells what is known of it. Prometheus waits for 10
s."""

_GAUGES = frozenset(metric.name for metric in METRICS if metric.kind == "gauge")
"""What is no more when its process is no more."""

_log = Logger(namespace="echod.workers")

_worker_log = Logger(namespace=NAMESPACE)


class _Nobody(Factory):
    """The factory of the parent's listening sockets: the parent accepts nothing, the workers do."""

    noisy = False


class Process(ProcessProtocol):
    """One process of a worker."""

    transport: Any

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.pid = 0
        self.link = Link(worker.hear, lambda *_: None)
        self.is_serving = False
        self.is_leaving = False
        """Whether it accepts no more."""
        self.covers: list[int] = []
        """The workers whose sockets it serves beside its own, by their index."""
        self.has_to_reload = False
        """Whether files may be others than when it read them as it started."""
        self.since = 0.0
        """When it began to serve, or before that, when it was started."""
        self.silences = 0
        """Pulses without an answer."""
        self.has_pulse = True
        """Whether the last pulse was answered."""
        self.is_killed = False
        self.refusal = ""
        """Why it can't start, in its own words."""
        self.limit = 0
        """Connections that it may have."""
        self.open = 0
        self.counts: AllValues = {}
        """What it had counted when it was last heard of."""

    def connectionMade(self) -> None:
        """Begin to listen to it."""
        self.pid = self.transport.pid  # which Twisted forgets at the end
        transport: Any = self
        self.link.makeConnection(transport)

    def write(self, octets: bytes) -> None:
        """Write what the link has to say: its transport is the pipe."""
        self.transport.writeToChild(link.FROM_PARENT, octets)

    def loseConnection(self) -> None:
        """End what says too much for a message."""
        self.kill()

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: ARG002  # there is one to read
        """Take octets from the pipe."""
        self.link.dataReceived(data)

    def childConnectionLost(self, childFD: int) -> None:  # noqa: ARG002  # without one the other is of no use
        """Say no more to it: of a process that dies Twisted drops the pipes before it knows of its end."""
        self.link.connectionLost()

    def kill(self) -> None:
        """End it without asking."""
        self.is_killed = True
        self._signal("KILL")

    def stop(self) -> None:
        """Have it drain. One that still loads would hear that over the link only once it has loaded: SIGTERM ends
        it."""
        if self.is_serving:
            self.link.tell("drain")
        else:
            self._signal("TERM")

    def _signal(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def processEnded(self, reason: Failure) -> None:
        """Take note of its end: all that it said has been read."""
        self.link.connectionLost(reason)
        self._worker.ended(self, reason)


class Worker:
    """The place of a worker: a share of the sockets, and the process that serves them, one after the other."""

    def __init__(self, index: int, supervisor: Supervisor) -> None:
        self._index = index
        self._supervisor = supervisor
        self._settings = supervisor.settings
        self._clock = supervisor.clock
        self._delay = self._settings.restart_delay
        self._restart: IDelayedCall | None = None
        self.process: Process | None = None

    def start(self) -> None:
        """Start a process."""
        self._restart = None
        process = self.process = Process(self)
        process.since = self._clock.seconds()
        try:
            self._supervisor.spawn(self._index, process)
        except OSError as error:  # no memory for one more, or no Python there any longer
            process.refusal = error.strerror or str(error)
            self.ended(process, Failure(error))

    @property
    def is_serving(self) -> bool:
        """Tell whether connections are taken."""
        return self.process is not None and self.process.is_serving and not self.process.is_leaving

    def hear(self, kind: str, value: Any) -> None:
        """Take note of what the process says by itself."""
        process = self.process
        assert process is not None
        match kind:
            case "serving":
                process.is_serving, process.limit, process.since, process.silences = (
                    True,
                    value,
                    self._clock.seconds(),
                    0,
                )
                if process.has_to_reload:
                    self.reload().addCallback(self._supervisor.tell_late_reload)
                self._supervisor.tell_ready()
                self._supervisor.cover()
            case "leaving":
                process.is_leaving = True
                self._supervisor.cover()
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
        # Counted, and not by the clock: that goes on while this process stands still.
        process.silences += 1
        patience = self._settings.worker_timeout if process.is_serving else self._settings.worker_start_timeout
        if process.silences * PULSE > patience and not process.is_killed:
            seconds = format_duration(patience)
            _log.error("worker {pid} has not answered for {seconds}, it is killed", pid=process.pid, seconds=seconds)
            process.kill()

    @staticmethod
    def _has_pulse(process: Process, answer: Any) -> None:
        process.has_pulse, process.silences = True, 0
        process.open, process.counts = answer[0], unpack(answer[1])

    def ended(self, process: Process, reason: Failure) -> None:
        """Take note of the process's end, and start another unless all end."""
        self.process = None
        self._supervisor.cover()
        name = f"worker {process.pid}" if process.pid else "a worker"
        self._supervisor.keep(process.counts, name)
        how = f"can't start: {process.refusal}" if process.refusal else describe_end(reason)
        if not self._supervisor.running:
            _log.info("{name} {how}", name=name, how=how, **{UNLIMITED: True})
            self._supervisor.one_has_ended()
            return
        if not (process.is_serving or self._supervisor.is_ready):
            self._supervisor.fail(f"{name} {how}")
            return
        if process.is_serving and self._clock.seconds() - process.since >= self._settings.restart_reset:
            self._delay = self._settings.restart_delay
        delay, self._delay = self._delay, min(2 * self._delay, self._settings.max_restart_delay)
        next_ = format_duration(delay)
        _log.error("{name} {how}; the next starts in {next_}", name=name, how=how, next_=next_, **{UNLIMITED: True})
        self._restart = self._clock.callLater(delay, self.start)

    def stop(self) -> None:
        """Have the process drain, and start no other."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self.process is not None:
            self.process.stop()

    def cover(self, indices: list[int]) -> None:
        """Tell the process whose sockets to serve beside its own, if that has changed; there must be a process."""
        assert self.process is not None
        if self.process.covers != indices:
            self.process.covers = indices
            self.process.link.tell("cover", indices)

    def kill(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()

    def ask(self, kind: str, value: Any = None) -> Deferred[Any]:
        """Ask the process, if there is one that serves; fires with None when there is no answer in time."""
        process = self.process
        if process is None or not process.is_serving:
            return succeed(None)
        return process.link.ask(kind, value).addTimeout(PATIENCE, self._clock).addErrback(lambda _: None)

    def reload(self) -> Deferred[list[str]]:
        """Have the process read the certificates again; fires with what can't be used.

        A process that still starts may have read the old ones: it reads them again as soon as it serves. If there is
        no process, or if it ends before it answers, the next process reads the new ones anyway.
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
        """Return the numbers of the process; its counts alone, when it doesn't answer."""
        process = self.process
        if process is None:
            return succeed({})
        return self.ask("values").addCallback(lambda packed: self._values(process, packed))

    @staticmethod
    def _values(process: Process, packed: Any) -> AllValues:
        if packed is None:
            # By now more may be known of it than when it was asked.
            return process.counts
        values = unpack(packed)
        # What is told from here was told: it is kept as well if the process dies before its next pulse.
        process.counts = {name: of_metric for name, of_metric in values.items() if name not in _GAUGES}
        return values


class Supervisor(EchoService):
    """Has `settings.workers` processes serve the endpoints."""

    def __init__(self, *arguments: Any, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        """`command` is the command line of a worker, `environment` its environment; the rest is as with
        `EchoService`."""
        super().__init__(*arguments, **options)
        self.settings = self._settings
        self.clock = self._reactor
        self._command = command
        self._environment = environment
        self._folder = os.getcwd()  # before twistd goes to its --rundir
        self._workers = [Worker(index, self) for index in range(self.settings.workers)]
        self._sockets: list[list[socket.socket]] = []
        """Of each endpoint, one for each worker; the same one for all, where they share it."""
        self._kept: AllValues = {}
        self.is_ready = False
        """Whether all workers have served, if not all at present."""
        self._has_failed = False
        self._all_ended: Deferred[None] | None = None
        self._kill_call: IDelayedCall | None = None
        self._pulse = LoopingCall(self._for_each, Worker.pulse)
        self._pulse.clock = self._reactor

    # What the workers do.

    def spawn(self, index: int, process: Process) -> None:
        """Start a process for the worker."""
        passed: dict[int, int | str] = {link.TO_PARENT: "r", link.FROM_PARENT: "w"}

        def pass_on(found: socket.socket) -> int:
            descriptor = link.FIRST_SOCKET + len(passed) - 2
            passed[descriptor] = found.fileno()
            return descriptor

        own = [of_endpoint[index] for of_endpoint in self._sockets]
        ports = tuple((text, pass_on(found)) for (text, _), found in zip(self._endpoints, own, strict=True))

        def pass_on_unless_shared(of_endpoint: list[socket.socket], other: int) -> int | None:
            return None if of_endpoint[other] is of_endpoint[index] else pass_on(of_endpoint[other])

        others = tuple(
            (other, tuple(pass_on_unless_shared(of_endpoint, other) for of_endpoint in self._sockets))
            for other in range(len(self._workers))
            if other != index
        )
        environment = {**self._environment, VARIABLE: Role(index, ports, others, self._folder).encode()}
        with open(os.devnull, "r+b", buffering=0) as null:
            # One that was closed at the start is something else's by now, such as the reactor's.
            standard = {
                number: number if stream else null.fileno()
                for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__))
            }
            childFDs = {0: null.fileno(), **standard, **passed}
            self._reactor.spawnProcess(process, self._command[0], self._command, environment, childFDs=childFDs)

    def cover(self) -> None:
        """Have other workers serve the sockets of those that accept nothing: the kernel still gives these their
        share."""
        serving = [worker for worker in self._workers if worker.is_serving]
        if self.running and self.is_ready:
            orphaned = [index for index, worker in enumerate(self._workers) if not worker.is_serving]
            for place, worker in enumerate(serving):
                worker.cover(orphaned[place :: len(serving)])

    def keep(self, counts: AllValues, name: str) -> None:
        """Keep what a process had counted that is no more; `name` is for the log."""
        try:
            self._kept = add_up_all([self._kept, counts])
        except (
            Exception
        ):  # one started after an upgrade may count otherwise; it is to be replaced, or its end noted, all the same
            _log.failure("what {name} had counted is lost", name=name)

    def one_has_ended(self) -> None:
        """See whether that was the last."""
        if self._all_ended is not None and not any(worker.process for worker in self._workers):
            ended, self._all_ended = self._all_ended, None
            assert self._kill_call is not None
            if self._kill_call.active():
                self._kill_call.cancel()
            ended.callback(None)

    def _for_each(self, act: Callable[[Worker], object]) -> None:
        for worker in self._workers:
            act(worker)

    def _processes(self) -> Iterable[Process]:
        return (worker.process for worker in self._workers if worker.process is not None)

    # The life of the service.

    def _listen(self) -> None:
        self._has_listened = True
        set_descriptor_limit(self._reactor)  # each worker takes two pipes, and a socket of each endpoint
        for text, endpoint in self._endpoints:
            port = listen_on(text, endpoint, _Nobody())
            self._ports.append(port)
            self._sockets.append(self._divide(text, port))
        if self._admin_endpoints:
            self._listen_for_admin(self)
        self._report_addresses()

    def _divide(self, text: str, port: IListeningPort) -> list[socket.socket]:
        try:
            first = endpoints.hold(port)
        except ValueError as error:
            refuse_to_start(f"{text} {error}")
        prepare_socket(port, self.settings.backlog)
        if not is_own_tcp(text, first):
            return [first] * self.settings.workers
        return [first, *(make_sibling(first, self.settings.backlog) for _ in self._workers[1:])]

    def _begin(self) -> None:
        if self.running:
            self._for_each(Worker.start)
            self._pulse.start(PULSE, now=False)

    def _tell_ready(self) -> None:
        # That is said when all serve.
        pass

    def tell_ready(self) -> None:
        """Say that the daemon serves, when the last of the workers does for the first time."""
        if self.running and not self.is_ready and all(worker.is_serving for worker in self._workers):
            self.is_ready = True
            _log.info(
                "workers: {pids}",
                pids=", ".join(str(process.pid) for process in self._processes()),
                **{UNLIMITED: True},
            )
            most = min(process.limit for process in self._processes())
            report.log_limits(self.settings.share(0), most, f", for each of {len(self._workers)} workers")
            super()._tell_ready()

    def fail(self, reason: str) -> None:
        """End, as one process would that can't start, with one line and exit status 1.

        A worker that can't start later, when others serve, is tried again and again.
        """
        if not self._has_failed:
            self._has_failed = True
            _log.error("{reason}", reason=reason)
            stderr_line(f"echod: {reason}")
            fail_at_exit()
            self.stop_process()

    def _describe_status(self) -> str:
        found = [process for process in self._processes() if process.is_serving]
        connections = sum(process.open for process in found)
        if not self.running:
            return f"draining, connections left: {connections}"
        most = sum(process.limit for process in found)
        return f"connections: {connections} of at most {most}, workers: {len(found)} of {len(self._workers)}"

    def _drain(self) -> Deferred[Any]:
        self._for_each(Worker.stop)
        for found in {found for of_endpoint in self._sockets for found in of_endpoint[1:]}:
            found.close()
        self._all_ended = Deferred()
        ended = self._all_ended
        most = self.settings.drain_timeout + self.settings.worker_stop_margin
        self._kill_call = self._reactor.callLater(most, self._for_each, Worker.kill)
        self.one_has_ended()
        return ended

    def _stopped(self, result: object) -> object:
        if self._pulse.running:
            self._pulse.stop()
        return super()._stopped(result)

    def _abort(self) -> None:
        for process in self._processes():
            process.link.tell("abort")

    def reload(self) -> Deferred[Any]:
        """Have the certificates read again, by each worker and for the admin site; fires when all that serve have done
        it."""
        asked = gatherResults([succeed(self._read_certificates()), *(worker.reload() for worker in self._workers)])
        return asked.addCallback(lambda found: self._report_reload([fault for faults in found for fault in faults]))

    def tell_late_reload(self, faults: Sequence[str]) -> None:
        """Take note of the faults that a worker found after the reload, as it was still starting then."""
        if faults:
            self._report_reload(faults)

    # What the admin site asks.

    @property
    def state(self) -> State:
        """What the daemon is about: it serves when every worker does, for each has connections waiting."""
        if not self.running:
            return State.DRAINING
        return State.SERVING if all(worker.is_serving for worker in self._workers) else State.STARTING

    def processes(self) -> dict[str, int]:
        """Return the process ids of those workers that have a process, by their numbers, counted from 0."""
        return {
            str(index): worker.process.pid for index, worker in enumerate(self._workers) if worker.process is not None
        }

    def values(self) -> Deferred[AllValues]:
        """Return the numbers of all workers, those that have ended included."""
        # What was kept when the others were asked: who ends from now on is among those.
        # Every metric is there, if without a number.
        kept: AllValues = {metric.name: {} for metric in METRICS} | self._kept
        # The admin site's own certificates are here.
        kept[CERTIFICATES] = {**tls_endpoint.ends(self._admin_endpoints)}
        # A worker doesn't know of the others.
        wanted: AllValues = {WORKERS: {(): self.settings.workers}}
        asked = gatherResults([worker.values() for worker in self._workers])
        return asked.addCallback(lambda found: add_up_all([*found, kept]) | wanted)

    def connections(self, start: int, size: int) -> Deferred[tuple[int, list[dict[str, Any]]]]:
        """Return how many there are and a part of them: worker by worker, of each those first that were accepted
        first."""

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
        """Return the connections that were accepted last."""

        def choose(found: list[list[dict[str, Any]] | None]) -> list[dict[str, Any]]:
            return sorted((told for part in found for told in part or ()), key=lambda told: float(told["age"]))[:count]

        return gatherResults([worker.ask("newest", count) for worker in self._workers]).addCallback(choose)


def is_own_tcp(text: str, found: socket.socket) -> bool:
    """Tell whether a socket is one for TCP that this process made."""
    return "systemd:" not in text and found.family in (socket.AF_INET, socket.AF_INET6)


def make_sibling(first: socket.socket, backlog: int) -> socket.socket:
    """Return another socket that listens where `first` does.

    Nobody else can: only once it was bound alone, so that a port in use is an error as ever, `first` is made to share.
    """
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sibling = socket.socket(first.family, socket.SOCK_STREAM)
    for level, option in ((socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_REUSEPORT)):
        sibling.setsockopt(level, option, 1)
    if first.family == socket.AF_INET6:
        sibling.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        )
    sibling.bind(first.getsockname())
    sibling.listen(backlog)
    return sibling


def describe_end(reason: Failure) -> str:
    """Return how a process ended."""
    error = reason.value
    if not isinstance(error, ProcessTerminated):
        return "ended"
    if error.signal is not None:
        return f"was killed by {signals.describe(error.signal)}"
    return f"ended with exit status {error.exitCode}"


def write_log(pid: int, told: Mapping[str, Any]) -> None:
    """Write an event of a worker's to the log, under its own namespace and kind."""
    logger = Logger(namespace=told["namespace"], source=_worker_log.source)
    # Text and pid are values: a brace in what a client sent is no format.
    more = {KIND: told["kind"], UNLIMITED: told["unlimited"]}
    logger.emit(LogLevel.levelWithName(told["level"]), "worker {pid}: {text}", pid=pid, text=told["text"], **more)


def make_command(reactor: Any, arguments: Sequence[str]) -> list[str]:
    """Return the command line of a worker, for a reactor of the same kind; `arguments` are echod's own."""
    kinds: Any = getReactorTypes()
    name = next((kind.shortName for kind in kinds if kind.moduleName == type(reactor).__module__), "default")
    # -P: twist, and not a file of that name in the current directory; what the parent can import is in the environment.
    return [sys.executable, "-P", "-m", "twisted", f"--reactor={name}", "echod", *arguments]


def make_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker, which finds every module where the parent does."""
    return {**environment, "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)}
