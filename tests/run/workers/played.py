"""A parent whose workers the test plays: their processes, and their ends of the links."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echod.run.workers import link
from echod.run.workers.link import Link
from echod.run.workers.role import take_role
from echod.run.workers.supervisor import Supervisor
from echod.settings import Settings
from echod.web.metrics.collect import read_counts
from echod.web.metrics.declarations import METRICS
from echod.web.metrics.values import AllValues, pack
from echod.websocket.factory import State
from tests.fakes import make_factory
from tests.run.test_service import REAL

PORT = "tcp:0:interface=127.0.0.1"

DEAF: dict[str, Callable[[Any], Any]] = {}
"""The answers of a worker that stands still."""


class Played:
    """A worker's process, and its end of the link."""

    def __init__(self, pid: int, protocol: Any, environment: dict[str, str], passed: dict[int, Any]) -> None:
        self.pid = pid
        self.protocol = protocol
        self.role = take_role(environment)
        self.passed = passed
        self.heard: list[str] = []
        self.covers: list[int] = []
        self.asked: list[str] = []
        self.answers = DEAF
        self.faults: list[str] = []
        self._unread = b""
        self.signals: list[str] = []
        self.has_ended = False
        self.is_null: list[bool] = []
        """Whether standard input and standard output are /dev/null."""
        self.link = Link(self._hear, self._answer)
        self.link.makeConnection(
            SimpleNamespace(write=lambda octets: self.protocol.childDataReceived(link.TO_PARENT, octets))
        )
        protocol.makeConnection(self)

    def _hear(self, kind: str, value: Any) -> None:
        if kind == "cover":
            self.covers = value
        else:
            self.heard.append(kind)

    def _answer(self, kind: str, value: Any) -> Any:
        self.asked.append(kind)
        return self.answers[kind](value)

    def writeToChild(self, descriptor: int, octets: bytes) -> None:
        assert descriptor == link.FROM_PARENT
        if self.answers is DEAF:
            self._unread += octets
        else:
            self.link.dataReceived(octets)

    def signalProcess(self, name: str) -> None:
        if self.has_ended:
            raise ProcessExitedAlready
        self.signals.append(name)

    def serve(self, limit: int = 10, open_: int = 0, **counted: int) -> None:
        factory = make_factory()
        factory.state = State.SERVING
        factory.counts.faults.update(counted)
        counts = pack(read_counts(factory))
        gauges: AllValues = {metric.name: metric.read(factory) for metric in METRICS if metric.kind == "gauge"}
        gauges["echod_connections_open"] = {(): open_}
        connections = [
            {"process": self.pid, "number": number, "age": 10 * self.pid - number} for number in range(open_)
        ]
        # What the parent asks on hearing this waits in the pipe until the answers are there.
        self.link.tell("serving", limit)
        self.answers = {
            "pulse": lambda _: [open_, counts],
            "values": lambda _: counts | pack(gauges),
            "total": lambda _: open_,
            "part": lambda value: connections[value[0] : value[0] + value[1]],
            "newest": lambda value: connections[::-1][:value],
            "traced": lambda value: {"process": self.pid, "number": value, "frames": []},
            "reload": lambda _: self.faults,
        }
        unread, self._unread = self._unread, b""
        self.link.dataReceived(unread)

    def end(self, reason: Exception | None = None) -> None:
        self.has_ended = True
        self.protocol.processEnded(Failure(reason or ProcessDone(0)))


class Reactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Played] = []
        self.waiting: list[Callable[[], object]] = []

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        self.waiting.append(call)

    def run(self) -> None:
        calls, self.waiting = self.waiting, []
        for call in calls:
            call()

    def spawnProcess(
        self, protocol: Any, executable: str, arguments: list[str], environment: Any, childFDs: Any
    ) -> None:
        assert arguments == [executable, "-m", "a worker"]
        assert environment["HOME"] == "/"
        process = Played(100 + len(self.processes), protocol, environment, childFDs)
        process.is_null = [os.fstat(childFDs[number]).st_rdev == os.stat(os.devnull).st_rdev for number in (0, 1)]
        self.processes.append(process)


def make(reactor: Reactor, *ports: str, **options: Any) -> Supervisor:
    settings = {"workers": 2, "drain_timeout": 5, "ports": ports, **options.pop("settings", {})}
    endpoints = [(port, serverFromString(REAL, port)) for port in ports]
    return Supervisor(
        *(Settings(**settings), endpoints, reactor, None, None),
        take_signals=False,
        command=["python", "-m", "a worker"],
        environment={"HOME": "/"},
        **options,
    )


class Started:
    """A parent with two workers, which do not serve yet."""

    def __init__(self, *ports: str, **options: Any) -> None:
        self.reactor = Reactor()
        self.service = make(self.reactor, *ports, **options)
        self.service.startService()
        self.reactor.run()

    @property
    def processes(self) -> list[Played]:
        return self.reactor.processes

    def end(self) -> Deferred[Any]:
        """End all processes; fires when the sockets are closed, which takes a turn of the real reactor."""
        stopped = self.service.stopService()
        for process in self.processes:
            if not process.has_ended:
                process.end()
        return stopped

    def stop(self) -> None:
        assert self.end().called
        assert not self.reactor.getDelayedCalls()


def result(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addCallback(found.append)
    (value,) = found
    return value


def state(started: Started) -> str:
    return started.service.totals.state.value
