"""A worker: the daemon once more, on listening sockets that its parent made, without signals, admin site or log of its
own.

It is the same command line in another process; the environment variable says which of the workers it is, and which
descriptors are its sockets. What it is told and asked comes over the `Link`; when that ends, the parent has gone, and
the worker ends in good order.

Knows its parent. Must never know the other workers.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.core.lag import LagMeter
from echod.core.log import UNLIMITED, Limiter
from echod.run import report, signals
from echod.run.listening import describe_failure
from echod.run.service import EchoService
from echod.run.workers import link
from echod.run.workers.link import Link
from echod.upstream import eager, endpoints
from echod.web import sources
from echod.web.metrics.collect import read_all, read_counts
from echod.web.metrics.values import pack
from echod.websocket.factory import EchoFactory

VARIABLE = "ECHOD_WORKER"
"""The environment variable that makes a process a worker; of no use to anybody but the parent."""

NAMESPACE = "echod.worker"
"""The namespace of a worker's own lines of the log."""

_log = Logger(namespace=NAMESPACE)


@dataclass(frozen=True, slots=True)
class Role:
    """Which worker a process is."""

    index: int
    """Counted from 0."""
    ports: tuple[tuple[str, int], ...]
    """The endpoint strings of the listening sockets, and their descriptors."""
    others: tuple[tuple[int, tuple[int | None, ...]], ...] = ()
    """The other workers by their index, with the descriptors of their sockets, one for each of `ports`; None where all
    share it."""
    folder: str = "."
    """The folder that the command line's relative paths start from; the parent may have left it (`--rundir`)."""

    def encode(self) -> str:
        """Return the variable's value."""
        return json.dumps([self.index, self.ports, self.others, self.folder])


def take_role(environment: MutableMapping[str, str]) -> Role | None:
    """Return which worker the environment says that this is, and take that out of it; None: it is none."""
    if (text := environment.pop(VARIABLE, None)) is None:
        return None
    index, ports, others, folder = json.loads(text)
    return Role(
        index,
        tuple((text, descriptor) for text, descriptor in ports),
        tuple((other, tuple(descriptors)) for other, descriptors in others),
        folder,
    )


def tell_refusal(reason: str) -> None:
    """Tell the parent why this worker can't start; the parent has a log for it, and this process perhaps no standard
    error."""
    _tell_and_wait("refused", reason)


def _tell_and_wait(kind: str, value: Any) -> None:
    """Tell the parent something before the reactor runs."""
    octets = link.encode(["tell", kind, value])
    while octets:
        octets = octets[os.write(link.TO_PARENT, octets) :]


@implementer(ILogObserver)
class ParentLog:
    """Gives the log's events to the parent, whose log they are written to."""

    tell: Callable[[str, Any], object] | None = None
    """The link's, as soon as there is one; until then the pipe is written to, and waited for."""

    is_full = False
    """Whether the parent is behind: what it has not read yet must not grow."""

    _left_out = 0

    def __call__(self, event: LogEvent) -> None:
        """Take an event."""
        if self.is_full:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        if left_out:
            log = Logger(namespace=NAMESPACE, observer=self)
            log.warn("{count} lines left out, which the log had no time for", count=left_out)
        told = {
            "namespace": event.get("log_namespace", "-"),
            "level": event.get("log_level", LogLevel.info).name,
            "kind": event.get("log_format"),
            "unlimited": bool(event.get(UNLIMITED)),
            # With the traceback.
            "text": eventAsText(event, includeTimestamp=False, includeSystem=False),
        }
        (self.tell or _tell_and_wait)("log", told)


class Parent(Link):
    """The way to the parent. Before the reactor runs, and the pipes are its transport, it writes to the pipe itself and
    waits."""

    transport: Any

    def __init__(
        self,
        hear: Callable[[str, Any], object],
        answer: Callable[[str, Any], Any],
        lose: Callable[[], object],
        log: ParentLog,
    ) -> None:
        super().__init__(hear, answer)
        self._log = log
        self._lose = lose
        self._lost: Deferred[None] = Deferred()

    def connect(self, reactor: Any) -> None:
        """Let the reactor read and write."""
        self._log.tell = self.tell
        connect: Any = StandardIO  # on Windows it takes no descriptors, and mypy looks there
        connect(self, link.FROM_PARENT, link.TO_PARENT, reactor)

    def connectionMade(self) -> None:
        """Have the transport say when the parent is behind."""
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """Leave out of the log what the parent wouldn't take in time."""
        self._log.is_full = True

    def resumeProducing(self) -> None:
        """Log again."""
        self._log.is_full = False

    def stopProducing(self) -> None:
        """Do nothing: the transport says that it is lost, too."""

    def leave(self) -> Deferred[None]:
        """Fire when all is written that was told."""
        if self.transport is None:
            self._lost.callback(None)
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        return self._lost

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End without the parent."""
        super().connectionLost(reason)
        self._lost.callback(None)
        self._lose()


class Worker(EchoService):
    """Serves what comes to the parent's sockets."""

    def __init__(self, *arguments: Any, log: ParentLog, role: Role, **options: Any) -> None:
        """`log` is what `observer` writes to, `role` which worker this is; the rest is as with `EchoService`."""
        super().__init__(*arguments, **options)
        self._parent = Parent(self._hear, self._answer, self.stop_process, log)
        self._parent_id = os.getppid()
        self._others = dict(role.others)
        self._covered: dict[int, list[IListeningPort]] = {}
        """The ports on other workers' sockets, by the index of the worker."""

    def startService(self) -> None:
        """Begin to serve, and say so."""
        self._reactor.callWhenRunning(self._join)
        super().startService()

    def _join(self) -> None:
        self._parent.connect(self._reactor)

    def _begin(self) -> None:
        super()._begin()
        assert self.factory is not None
        self._parent.tell("serving", self.factory.max_connections)

    def _report_start(self, factory: EchoFactory) -> None:
        # The parent tells the rest.
        report.log_lane(self._native, factory)
        self._lag = LagMeter(self._reactor, factory.counts.lags.observe)

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, and say so, close every connection with 1001, and fire when all have gone."""
        if self.factory is not None:
            self._parent.tell("leaving")
        self._cover(())
        # The kernel gives connections to a listening socket as long as any process has it open.
        for descriptor in self._descriptors_of_others():
            os.close(descriptor)
        self._others = {}
        return super().stopService()

    def _descriptors_of_others(self) -> list[int]:
        return [
            descriptor for descriptors in self._others.values() for descriptor in descriptors if descriptor is not None
        ]

    @property
    def _reserved(self) -> int:
        # Covering a socket takes a second descriptor for it.
        return super()._reserved + 2 * len(self._descriptors_of_others())

    def _cover(self, indices: Sequence[int]) -> None:
        """Serve the sockets of these workers beside our own, and no longer those of any other worker."""
        for index in self._covered.keys() - set(indices):
            for port in self._covered.pop(index):
                port.stopListening()
        for index in self._others.keys() & set(indices) - self._covered.keys():
            ports = self._covered[index] = []
            for own, descriptor in zip(self._ports, self._others[index], strict=True):
                if descriptor is not None:
                    self._serve_too(own, descriptor).addCallbacks(ports.append, _tell_failure)

    def _serve_too(self, own: Any, descriptor: int) -> Deferred[IListeningPort]:
        """Serve what comes to another worker's socket as what comes to the port `own`."""

        def listen() -> Deferred[IListeningPort]:
            return endpoints.adopt(self._reactor, os.dup(descriptor)).listen(own.factory)

        def make_eager(port: IListeningPort) -> IListeningPort:
            assert self.factory is not None
            eager.make_eager(port, self.factory)
            return port

        return maybeDeferred(listen).addCallback(make_eager)

    def _stopped(self, result: object) -> Any:
        # What was counted until now, and is by nobody later.
        if self.factory is not None:
            self._parent.tell("last", pack(read_counts(self.factory)))
        super()._stopped(result)
        return self._parent.leave().addCallback(lambda _: result)

    def _handle_signals(self) -> None:
        signals.handle_sigterm_alone(self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getppid() != self._parent_id:
            # The parent, which would kill this process if its loop were stuck, is gone.
            signals.kill_after(self._settings.drain_timeout + self._settings.worker_stop_margin)
        super()._on_signal(number, frame)

    def _obey(self, number: signal.Signals) -> None:
        if self.running:
            super()._obey(number)

    def _hear(self, kind: str, value: Any) -> None:
        match kind:
            case "drain":
                self.stop_process()
            case "abort":
                self._abort()
            case _:  # the other workers whose sockets are to be served
                self._cover(value)

    def _answer(self, kind: str, value: Any) -> Any:
        factory = self.factory
        assert factory is not None
        match kind:
            case "pulse":
                return [len(factory.live), pack(read_counts(factory))]
            case "values":
                return pack(read_all(factory))
            case "total":
                return len(factory.live)
            case "part":
                return self._signed(sources.part(factory, *value))
            case "newest":
                return self._signed(sources.newest(factory, value))
            case _:  # to reload
                faults = self._read_certificates()
                self._report_reload(faults)
                return faults

    @staticmethod
    def _signed(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"process": os.getpid(), **connection} for connection in told]


def _tell_failure(failure: Failure) -> None:
    _log.error("another worker's socket can't be served: {reason}", reason=describe_failure(failure.value))


def make_log() -> tuple[ParentLog, Limiter]:
    """Return the log that goes to the parent, and what limits it on the way: the parent limits all workers together
    once more."""
    log = ParentLog()
    return log, Limiter(log)
