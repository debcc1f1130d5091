"""A worker: the daemon in a process of its own, on listening sockets that its parent made.

A worker is the same command line once more; an environment variable gives its role. It has no admin site and no log of
its own, and takes no signal but SIGTERM: its orders come over the link. When the link ends, the parent has gone, and
the worker drains.

Knows its parent. Must never know what the other workers do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from echod.core.lag import LagMeter
from echod.run import report, signals
from echod.run.listening import describe_failure
from echod.run.service import EchoService
from echod.run.workers.role import NAMESPACE, Role
from echod.run.workers.to_parent import LinkToParent, ParentLog
from echod.upstream import endpoints
from echod.web import sources
from echod.web.metrics.collect import read_all, read_counts
from echod.web.metrics.values import pack
from echod.websocket.factory import EchoFactory

_log = Logger(namespace=NAMESPACE)


class Worker(EchoService):
    """Serves the connections that come to the sockets of its parent."""

    def __init__(self, *arguments: Any, log: ParentLog, role: Role, **options: Any) -> None:
        """`log` is the log that `observer` writes to, and `role` is this worker's; the rest is as in `EchoService`."""
        super().__init__(*arguments, **options)
        self._parent = LinkToParent(self._hear, self._answer, self.stop_process, log)
        self._parent_id = os.getppid()
        self._others = dict(role.others)
        self._covered: dict[int, list[IListeningPort]] = {}
        """The ports on other workers' sockets, by the index of the other worker."""

    def startService(self) -> None:
        """Begin to serve, and tell the parent."""
        self._reactor.callWhenRunning(self._join)
        super().startService()

    def _join(self) -> None:
        self._parent.connect(self._reactor)

    def _begin(self) -> None:
        super()._begin()
        assert self.factory is not None
        self._parent.tell("serving", self.factory.max_connections)

    def _report_start(self, factory: EchoFactory) -> None:
        # The parent reports the rest.
        report.log_lane(self._native, factory)
        self._lag = LagMeter(self._reactor, factory.counts.lags.observe)

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, tell the parent, close every connection with 1001, and fire when all of them have ended."""
        if self.factory is not None:
            self._parent.tell("leaving")
        self._cover(())
        # As long as any process has a listening socket open, the kernel gives connections to it.
        for descriptor in self._descriptors_of_others():
            os.close(descriptor)
        self._others = {}
        return super().stopService()

    def _descriptors_of_others(self) -> list[int]:
        return [
            descriptor for descriptors in self._others.values() for descriptor in descriptors if descriptor is not None
        ]

    @property
    def _number_prefix(self) -> str:
        # The log and the list of connections name a worker by its process, too.
        return f"{os.getpid()}-"

    @property
    def _reserved(self) -> int:
        # To cover a socket takes a second descriptor for it.
        return super()._reserved + 2 * len(self._descriptors_of_others())

    def _cover(self, indices: Sequence[int]) -> None:
        """Serve the sockets of these workers in addition to our own, and stop serving those of any other worker."""
        for index in self._covered.keys() - set(indices):
            for port in self._covered.pop(index):
                self._close_door(port)
                port.stopListening()
        for index in self._others.keys() & set(indices) - self._covered.keys():
            ports = self._covered[index] = []
            for own, descriptor in zip(self._ports, self._others[index], strict=True):
                if descriptor is not None:
                    self._serve_too(own, descriptor).addCallbacks(ports.append, _tell_failure)

    def _serve_too(self, own: Any, descriptor: int) -> Deferred[IListeningPort]:
        """Serve another worker's socket as the port `own` is served."""

        def listen() -> Deferred[IListeningPort]:
            return endpoints.adopt(self._reactor, os.dup(descriptor)).listen(own.factory)

        def open_door(port: IListeningPort) -> IListeningPort:
            self._open_door(port)
            return port

        return maybeDeferred(listen).addCallback(open_door)

    def _stopped(self, result: object) -> Any:
        # The last counts: nothing is counted after this.
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
            case _:  # "cover": the workers whose sockets to serve
                self._cover(value)

    def _answer(self, kind: str, value: Any) -> Any:
        factory = self.factory
        assert factory is not None
        answer: Any
        match kind:
            case "pulse":
                answer = [factory.count, pack(read_counts(factory))]
            case "values":
                answer = pack(read_all(factory))
            case "total":
                answer = factory.count
            case "part":
                answer = self._signed(sources.part(factory, *value))
            case "newest":
                answer = self._signed(sources.newest(factory, value))
            case "traced":
                told = sources.traced(factory, value)
                answer = told and self._signed([told])[0]
            case _:  # "reload"
                answer = self._read_certificates()
                self._report_reload(answer)
        return answer

    @staticmethod
    def _signed(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"process": os.getpid(), **connection} for connection in told]


def _tell_failure(failure: Failure) -> None:
    _log.error("another worker's socket can't be served: {reason}", reason=describe_failure(failure.value))
