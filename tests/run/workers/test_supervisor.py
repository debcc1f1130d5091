"""The parent with workers that the test plays: what it starts, asks, adds up, kills and passes on."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock, deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from echod.net.endpoints import parse_endpoint
from echod.run.process import MOST_DESCRIPTORS, CannotStartError
from echod.run.systemd import Notifier
from echod.run.workers import link
from echod.run.workers.link import Link
from echod.run.workers.supervisor import PATIENCE, Supervisor, is_own_tcp, make_command, make_environment, make_sibling
from echod.run.workers.worker import take_role
from echod.settings import Settings
from echod.web.admin import describe_settings
from echod.web.metrics.collect import add_up_all, read_counts
from echod.web.metrics.declarations import METRICS
from echod.web.metrics.values import AllValues, Observed, pack
from echod.web.overview import Overview
from echod.websocket.factory import State
from tests.fakes import make_factory
from tests.run.test_service import REAL
from tests.tls import Certificate

PORT = "tcp:0:interface=127.0.0.1"


DEAF: dict[str, Callable[[Any], Any]] = {}
"""The answers of one that stands still."""


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
        """Whether its standard input and output are nothing."""
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
        # What the parent asks when it hears that waits in the pipe.
        self.link.tell("serving", limit)
        self.answers = {
            "pulse": lambda _: [open_, counts],
            "values": lambda _: counts | pack(gauges),
            "total": lambda _: open_,
            "part": lambda value: connections[value[0] : value[0] + value[1]],
            "newest": lambda value: connections[::-1][:value],
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
    """A parent with its two workers, which don't serve yet."""

    def __init__(self, *ports: str, **options: Any) -> None:
        self.reactor = Reactor()
        self.service = make(self.reactor, *ports, **options)
        self.service.startService()
        self.reactor.run()

    @property
    def processes(self) -> list[Played]:
        return self.reactor.processes

    def end(self) -> Deferred[Any]:
        """End all, and fire when the sockets are closed, too, which takes the real reactor a turn."""
        stopped = self.service.stopService()
        for process in self.processes:
            if not process.has_ended:
                process.end()
        return stopped

    def stop(self) -> None:
        assert self.end().called
        assert not self.reactor.getDelayedCalls()


@pytest.fixture
def started() -> Iterator[Started]:
    started = Started()
    yield started
    if started.service.running:
        started.stop()


def state(started: Started) -> str:
    return started.service.state.value


def result(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addCallback(found.append)
    (value,) = found
    return value


def test_ready_when_all_serve(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        started = Started(notifier=Notifier(str(tmp_path / "notify")), settings={"max_connections": 5})
        first, second = started.processes
        first.serve(3, open_=2)
        assert state(started) == "starting"
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        second.serve(2)
        assert state(started) == "serving"
        assert manager.recv(4096).decode() == "READY=1\nSTATUS=connections: 0 of at most 5, workers: 2 of 2"
        assert "workers: 100, 101" in lines
        assert "max-connections 2," in lines[-1]
        assert lines[-1].endswith(", drain-timeout 5s, for each of 2 workers")
        started.reactor.advance(1)
        assert started.service._describe_status() == "connections: 2 of at most 5, workers: 2 of 2"
        second.serve(2)
        monkeypatch.setattr("echod.run.signals.has_lost_terminal", lambda: False)
        started.service._obey(signal.SIGHUP)
        assert "reload" in first.asked
        assert manager.recv(4096).startswith(b"RELOADING=1")
        assert manager.recv(4096).startswith(b"READY=1\n")
        assert lines[-1] == "reloaded"
        second.faults = ["a keeps its old certificates: why"]
        started.service._obey(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1")
        status = manager.recv(4096).decode().splitlines()[1]
        assert status.endswith("workers: 2 of 2; reload failed: a keeps its old certificates: why")
        assert lines[-1] == "reload failed: a keeps its old certificates: why"
        stopped = started.service.stopService()
        assert started.service._describe_status() == "draining, connections left: 2"
        assert state(started) == "draining"
        assert first.heard == second.heard == ["drain"]
        started.service._abort()
        assert first.heard == ["drain", "abort"]
        first.end()
        assert not stopped.called
        second.end()
        assert stopped.called
        assert not started.reactor.getDelayedCalls()


def test_a_signal_while_they_start_is_told_and_readiness_never(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        started = Started(notifier=Notifier(str(tmp_path / "notify")))
        first, second = started.processes
        first.serve()
        started.service.reload()
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        started.service.stopService()
        assert (first.heard, first.signals) == (["drain"], [])
        assert (second.heard, second.signals) == ([], ["TERM"])
        assert manager.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=")
        assert manager.recv(4096).startswith(b"STOPPING=1\n")
        second.serve()
        for process in (first, second):
            process.end()
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_a_reload_fails_when_a_worker_does_not_answer(started: Started, lines: list[str]) -> None:
    first, second = started.processes
    first.serve()
    second.serve()
    second.answers = DEAF
    reloaded = started.service.reload()
    assert not reloaded.called
    assert "reloaded" not in lines
    started.reactor.advance(PATIENCE)
    assert reloaded.called
    assert lines[-1] == "reload failed: worker 101 has not answered"


def test_a_reload_does_not_fail_by_a_worker_that_ends(started: Started, lines: list[str]) -> None:
    first, second = started.processes
    first.serve()
    second.serve()
    second.answers = DEAF
    reloaded = started.service.reload()
    second.end(ProcessTerminated(None, 9))
    assert reloaded.called
    assert "reloaded" in lines
    assert "has not answered" not in "".join(lines)


def test_one_that_starts_reloads_as_soon_as_it_serves(started: Started, lines: list[str]) -> None:
    first, second = started.processes
    first.serve()
    reloaded = started.service.reload()
    assert reloaded.called
    assert first.asked == ["reload"]
    assert lines[-1] == "reloaded"
    second.faults = ["a keeps its old certificates: why"]
    second.serve()
    assert second.asked == ["reload"]
    assert "reload failed: a keeps its old certificates: why" in lines
    # The next one reads the files when it starts, and whose process is gone has nobody to tell.
    second.end(ProcessTerminated(None, 9))
    started.service.reload()
    started.reactor.advance(0.1)
    started.processes[-1].serve()
    assert started.processes[-1].asked == []
    assert first.asked == ["reload", "reload"]


@pytest_twisted.inlineCallbacks
def test_the_sockets_of_one_that_takes_no_connections_are_served_by_others() -> Generator[Any, Any, None]:
    started = Started(PORT, settings={"workers": 4})
    first, second, third, fourth = started.processes
    first.serve()
    assert first.covers == [], "at the first start they are all about to serve"
    for process in (second, third, fourth):
        process.serve()
    assert second.role is not None
    others = dict(second.role.others)
    assert others.keys() == {0, 2, 3}
    passed = [second.passed[descriptor] for (descriptor,) in others.values() if descriptor is not None]
    assert passed == [started.service._sockets[0][index].fileno() for index in (0, 2, 3)]

    second.end(ProcessTerminated(None, 9))
    assert [first.covers, third.covers, fourth.covers] == [[1], [], []]
    first.link.tell("leaving")
    assert [third.covers, fourth.covers] == [[0], [1]]
    fourth.end(ProcessTerminated(None, 9))
    assert third.covers == [0, 1, 3]
    started.reactor.advance(0.1)
    next_second, next_fourth = started.processes[4:]
    assert third.covers == [0, 1, 3], "until they serve"
    next_second.serve()
    assert (third.covers, next_second.covers) == ([3], [0]) or (third.covers, next_second.covers) == ([0], [3])
    next_fourth.serve()
    third.end(ProcessTerminated(None, 9))
    assert [next_second.covers, next_fourth.covers] == [[0], [2]]
    yield started.end()


@pytest_twisted.inlineCallbacks
def test_what_all_share_needs_nobody_else(tmp_path: Path) -> Generator[Any, Any, None]:
    started = Started(f"unix:{tmp_path / 'socket'}", settings={"workers": 2})
    assert started.processes[0].role is not None
    assert started.processes[0].role.others == ((1, (None,)),)
    yield started.end()


def test_standard_streams_that_were_closed_are_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_open in (True, False):
        monkeypatch.setattr("sys.__stdout__", sys.stdout if is_open else None)
        started = Started()
        for process in started.processes:
            assert process.is_null[0]
            assert process.is_null[1] is not is_open
            assert process.passed[2] == 2
        started.stop()


def test_one_that_died_is_replaced_later_each_time(started: Started, lines: list[str]) -> None:
    for process in started.processes:
        process.serve()
    delays = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30)
    for delay in delays:
        process = started.processes[-1]
        process.end(ProcessTerminated(1))
        count = len(started.processes)
        started.reactor.advance(delay * 0.99)
        assert len(started.processes) == count
        started.reactor.advance(delay * 0.02)
        assert len(started.processes) == count + 1
        assert started.processes[-1].role == process.role
    assert "worker 101 ended with exit status 1; the next starts in 100ms" in lines
    started.processes[-1].link.tell("refused", "no certificate")
    started.processes[-1].end(ProcessTerminated(1))
    assert lines[-1] == f"worker {started.processes[-1].pid} can't start: no certificate; the next starts in 30s"
    assert state(started) == "starting"
    started.reactor.advance(30)
    last = started.processes[-1]
    last.serve()
    for _ in range(60):
        started.reactor.advance(1)
    last.end(ProcessTerminated(None, 9))
    assert lines[-1] == f"worker {last.pid} was killed by SIGKILL; the next starts in 100ms"
    assert "pulse" in last.asked
    # No other is started when all end.
    started.stop()


@pytest.fixture
def failing(started: Started, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is done about a start that fails."""
    done = SimpleNamespace(err=io.StringIO(), at_exit=[], stops=[])
    monkeypatch.setattr("sys.__stderr__", done.err)
    monkeypatch.setattr("atexit.register", done.at_exit.append)
    monkeypatch.setattr(started.service, "stop_process", lambda: done.stops.append("now"))
    return done


def test_a_first_start_that_fails_is_the_end(started: Started, failing: SimpleNamespace, lines: list[str]) -> None:
    first, second = started.processes
    first.serve()
    second.link.tell("refused", "no certificate")
    second.end(ProcessTerminated(1))
    assert lines[-1] == "worker 101 can't start: no certificate"
    assert failing.err.getvalue() == "echod: worker 101 can't start: no certificate\n"
    assert (len(failing.stops), len(failing.at_exit)) == (1, 1)
    started.reactor.advance(100)
    assert len(started.processes) == 2


def test_a_first_start_fails_once(started: Started, failing: SimpleNamespace) -> None:
    for process in started.processes:
        process.end(ProcessTerminated(None, 9))
    assert failing.err.getvalue() == "echod: worker 100 was killed by SIGKILL\n"
    assert (len(failing.stops), len(failing.at_exit)) == (1, 1)


def test_one_that_the_kernel_does_not_start_is_tried_again(
    started: Started, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in started.processes:
        process.serve()

    def spawn(*_: Any) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(started.service, "spawn", spawn)
        started.processes[0].end(ProcessTerminated(None, 9))
        started.reactor.advance(0.1)
        assert lines[-1] == "a worker can't start: Resource temporarily unavailable; the next starts in 200ms"
        assert started.service.processes() == {"1": 101}
    started.reactor.advance(0.2)
    assert started.service.processes() == {"0": 102, "1": 101}


def test_one_that_a_real_time_signal_ends_is_replaced(started: Started, lines: list[str]) -> None:
    """Of those between SIGRTMIN and SIGRTMAX Python knows no names."""
    for process in started.processes:
        process.serve()
    started.processes[0].end(ProcessTerminated(None, 35))
    assert lines[-1] == "worker 100 was killed by signal 35; the next starts in 100ms"
    started.reactor.advance(0.1)
    assert started.service.processes() == {"0": 102, "1": 101}


def test_one_that_has_served_is_replaced_also_before_the_others_serve(
    started: Started, failing: SimpleNamespace
) -> None:
    first, _ = started.processes
    first.serve()
    first.end(ProcessTerminated(None, 9))
    started.reactor.advance(0.1)
    assert len(started.processes) == 3
    assert not failing.stops


def test_one_that_stands_still_is_killed_once(started: Started, lines: list[str]) -> None:
    first, second = started.processes
    first.serve()
    second.serve()
    first.answers = DEAF
    for _ in range(10):
        started.reactor.advance(1)
    assert not first.signals
    for _ in range(5):
        started.reactor.advance(1)
    assert (first.signals, second.signals) == (["KILL"], [])
    assert lines.count("worker 100 has not answered for 10s, it is killed") == 1
    # However long this process stood still itself: that is one pulse.
    second.answers = DEAF
    started.reactor.advance(1000)
    assert not second.signals
    first.end(ProcessTerminated(None, 9))
    first.protocol.kill()
    first.protocol.loseConnection()


def test_to_one_that_has_closed_its_pipes_nothing_is_said(started: Started) -> None:
    process = started.processes[0]
    process.serve()
    process.protocol.childConnectionLost(link.FROM_PARENT)
    started.reactor.advance(1)
    started.service._abort()
    assert process.heard == process.asked == []
    for _ in range(10):
        started.reactor.advance(1)
    assert process.signals == ["KILL"]


def test_one_that_never_serves_is_killed_later(started: Started) -> None:
    for _ in range(60):
        started.reactor.advance(1)
    assert not started.processes[0].signals
    started.reactor.advance(1)
    assert started.processes[0].signals == ["KILL"]


def test_one_that_does_not_end_is_killed_at_last(started: Started) -> None:
    quick, slow = started.processes
    quick.serve()
    slow.serve()
    stopped = started.service.stopService()
    quick.end()
    started.reactor.advance(7)
    assert (quick.signals, slow.signals) == ([], ["KILL"])
    slow.end()
    assert stopped.called


def faults(values: AllValues) -> Any:
    return values["echod_faults_total"]


def test_numbers_are_added_up_and_outlive_who_counted(started: Started) -> None:
    first, second = started.processes
    first.serve(open_=1, delay=3)
    assert result(started.service.values())["echod_connections_open"] == {(): 1}
    second.serve(open_=2, delay=4, drop=1)
    values = result(started.service.values())
    assert values["echod_connections_open"] == {(): 3}
    assert (values["echod_workers_serving"], values["echod_workers_wanted"]) == ({(): 2}, {(): 2})
    assert started.service.processes() == {"0": 100, "1": 101}
    assert list(values["echod_build_info"].values()) == [1]
    assert faults(values) == {("delay",): 7, ("drop",): 1}
    started.reactor.advance(1)
    first.end(ProcessTerminated(None, 9))
    values = result(started.service.values())
    assert (values["echod_connections_open"], faults(values)) == ({(): 2}, {("delay",): 7, ("drop",): 1})
    assert (values["echod_workers_serving"], values["echod_workers_wanted"]) == ({(): 1}, {(): 2})
    assert started.service.processes() == {"1": 101}
    # One that doesn't answer is waited for, and then told of by what is known.
    second.answers = DEAF
    asked = started.service.values()
    started.reactor.advance(PATIENCE)
    values = result(asked)
    assert values["echod_connections_open"] == {}
    assert faults(values) == {("delay",): 7, ("drop",): 1}
    second.link.tell("last", pack({"echod_faults_total": {("delay",): 5}}))
    second.end()
    assert faults(result(started.service.values())) == {("delay",): 8}


def test_what_was_told_once_never_falls(started: Started) -> None:
    """However the news came: to Prometheus a sum that fell would be a restart."""
    first, second = started.processes
    first.serve(open_=1, delay=3)
    second.serve()
    assert faults(result(started.service.values())) == {("delay",): 3}
    # No pulse has come since.
    first.end(ProcessTerminated(None, 9))
    values = result(started.service.values())
    assert (values["echod_connections_open"], faults(values)) == ({(): 0}, {("delay",): 3})
    second.answers = DEAF
    asked = started.service.values()
    second.link.tell("last", pack({"echod_faults_total": {("delay",): 5}}))
    assert not asked.called
    started.reactor.advance(PATIENCE)
    assert faults(result(asked)) == {("delay",): 8}


def test_counts_that_do_not_fit_keep_no_worker_from_its_successor(started: Started, lines: list[str]) -> None:
    """As those of one that was started after an upgrade may."""
    first, second = started.processes
    first.serve()
    second.serve(delay=3)
    started.reactor.advance(1)
    second.end(ProcessTerminated(None, 9))
    first.link.tell("last", pack({"echod_connection_duration_seconds": {(): Observed({1.5: 1}, 1.0)}}))
    first.end(ProcessTerminated(None, 9))
    assert lines[-2:] == [
        "what worker 100 had counted is lost",
        "worker 100 was killed by SIGKILL; the next starts in 100ms",
    ]
    started.reactor.advance(0.1)
    assert started.service.processes() == {"0": 103, "1": 102}
    assert faults(result(started.service.values())) == {("delay",): 3}


def test_before_any_serves_there_are_pages(started: Started) -> None:
    page = result(Overview(started.service, started.reactor).render(None))
    assert b"starting" in page.body
    settings = json.loads(describe_settings(started.service, result(started.service.values())).body)
    assert (settings["workers"], settings["max-connections"], settings["max-message-size"]) == (2, 0, 2**24)


def test_connections_are_listed_worker_by_worker(started: Started) -> None:
    first, second = started.processes
    first.serve(open_=3)
    second.serve(open_=4)

    def listed(start: int, size: int) -> tuple[int, list[tuple[int, int]]]:
        total, told = result(started.service.connections(start, size))
        return total, [(connection["process"], connection["number"]) for connection in told]

    everything = [(100, 0), (100, 1), (100, 2), (101, 0), (101, 1), (101, 2), (101, 3)]
    for start in range(9):
        for size in range(1, 9):
            assert listed(start, size) == (7, everything[start : start + size])
    newest = result(started.service.newest(2))
    assert [(told["process"], told["number"]) for told in newest] == [(100, 2), (100, 1)]
    first.end()
    assert listed(0, 10) == (4, everything[3:])
    started.service.reload()


def test_the_log_is_the_parents(started: Started) -> None:
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        told = {"namespace": "echod.x", "level": "warn", "kind": "some {format}", "unlimited": True, "text": "{text}"}
        started.processes[0].link.tell("log", told)
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    (event,) = events
    assert event["log_format"].format(**event) == "worker 100: {text}"
    assert (event["log_namespace"], event["log_level"].name) == ("echod.x", "warn")
    assert (event["echod_kind"], event["echod_unlimited"]) == ("some {format}", True)


@pytest_twisted.inlineCallbacks
def test_a_socket_for_each_or_one_for_all(tmp_path: Path, lines: list[str]) -> Generator[Any, Any, None]:
    path = tmp_path / "socket"
    admin = [(PORT, serverFromString(REAL, PORT))]
    started = Started(PORT, "tcp:0:interface=\\:\\:1", f"unix:{path}", admin_endpoints=admin)
    assert sum("listening on" in line for line in lines) == 3
    first, second = started.processes
    assert first.role is not None
    assert second.role is not None
    assert (first.role.index, second.role.index) == (0, 1)
    assert [descriptor for _, descriptor in first.role.ports] == [5, 6, 7]
    for descriptor in (5, 6, 7):
        ours, theirs = (socket.socket(fileno=socket.dup(process.passed[descriptor])) for process in (first, second))
        with ours, theirs:
            assert ours.getsockname() == theirs.getsockname()
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert (first.passed[descriptor] == second.passed[descriptor]) is (descriptor == 7)
    stopped = started.service.stopService()
    for process in (first, second):
        process.end()
    for _ in range(100):
        # The admin site's last words have a time on the fake clock.
        started.reactor.advance(0)
    yield stopped
    assert not path.exists()


@pytest_twisted.inlineCallbacks
def test_its_end_waits_for_the_workers_also_when_a_path_is_gone(
    tmp_path: Path, lines: list[str]
) -> Generator[Any, Any, None]:
    port = f"unix:{tmp_path / 'socket'}"
    started = Started(port)
    (listening,) = started.service._ports
    (tmp_path / "socket").unlink()
    stopped = started.service.stopService()
    yield deferLater(REAL, 0, lambda: None)
    assert f"{port} could not be closed: No such file or directory" in lines
    assert not stopped.called
    for process in started.processes:
        process.end()
    assert stopped.called
    # In a process that goes on it is to be closed after all.
    (tmp_path / "socket").touch()
    yield listening.stopListening()


def test_the_certificates_of_the_admin_site_are_told_of_with_those_of_the_workers(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "a.pem")
    text = f"ssl:0:privateKey={certificate.path}"
    service = make(Reactor(), admin_endpoints=[(text, parse_endpoint(REAL, text))])
    ends = result(service.values())["echod_certificate_not_after_timestamp_seconds"]
    assert ends == {(text, "localhost"): certificate.certificate.not_valid_after_utc.timestamp()}


def test_the_limit_on_descriptors_is_raised_for_the_parent_as_well() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(500, hard - 1), hard))
        Started().stop()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, MOST_DESCRIPTORS), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_no_socket_can_not_be_shared() -> None:
    class Odd:
        def listen(self, _: Any) -> Deferred[Any]:
            return succeed(SimpleNamespace())

    service = make(Reactor())
    odd: Any = Odd()
    service._endpoints = [("odd:", odd)]
    with pytest.raises(CannotStartError, match=r"^odd: is not a socket that workers could share$"):
        service.privilegedStartService()


def test_before_it_has_begun_it_can_be_stopped() -> None:
    reactor = Reactor()
    service = make(reactor)
    service.startService()
    assert service.stopService().called
    reactor.run()
    assert not reactor.processes


def test_sockets_from_systemd_are_shared() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        assert is_own_tcp("tcp:0", tcp)
        assert not is_own_tcp("haproxy:systemd:domain=INET:index=0", tcp)
        assert not is_own_tcp("unix:/run/echod", unix)


def test_nobody_else_gets_between_siblings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, make_sibling(first, 10) as second, socket.socket() as other:
        assert second.getsockname() == first.getsockname()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(first.getsockname())


def test_siblings_of_a_socket_for_both_families_serve_both() -> None:
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as first,
        make_sibling(first, 10) as second,
    ):
        first.close()
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, second.getsockname()[1]), 5).close()


def test_the_command_of_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = type(REAL).__module__.removeprefix("twisted.internet.").removesuffix("reactor")
    assert make_command(REAL, ["--port", "tcp:0"])[1:] == [
        "-P",
        "-m",
        "twisted",
        f"--reactor={name}",
        "echod",
        "--port",
        "tcp:0",
    ]
    assert make_command(object(), [])[4] == "--reactor=default"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", "/usr/lib/python3"])
    assert make_environment({"HOME": "/"}) == {"HOME": "/", "PYTHONPATH": f"{tmp_path}:/usr/lib/python3"}


def test_nothing_adds_up_to_nothing() -> None:
    assert add_up_all([]) == add_up_all([{}, {}]) == {}
