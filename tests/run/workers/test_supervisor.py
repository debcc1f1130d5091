"""The parent: when it is ready, when a start fails, which worker serves whose sockets, and its end."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import deferLater

from echod.net.tls.throwaway import Issued
from echod.run.process import MOST_DESCRIPTORS
from echod.run.ready import ReadyFile
from echod.run.systemd import Notifier
from tests.run.test_service import REAL
from tests.run.workers.played import PORT, Reactor, Started, make, state


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
        assert ", drain-timeout 5s, " in lines[-1]
        assert lines[-1].endswith(", for each of 2 workers")
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


def test_all_workers_have_the_same_throwaway_certificates() -> None:
    issued = Issued("the authority", {"throwaway:0": "key and certificate"})
    started = Started(issued=issued)
    for process in started.processes:
        assert process.role is not None
        assert process.role.issued == issued
    started.service.stopService()
    for process in started.processes:
        process.end()


@pytest_twisted.inlineCallbacks
def test_the_ready_file_is_written_when_all_serve(tmp_path: Path) -> Generator[Any, Any, None]:
    path = tmp_path / "ready.json"
    started = Started(PORT, ready_file=ReadyFile(str(path)))
    first, second = started.processes
    first.serve()
    assert not path.exists()
    second.serve()
    found = json.loads(path.read_text())
    address: Any = started.service._ports[0].getHost()
    assert (found["urls"], found["pid"]) == ([f"ws://127.0.0.1:{address.port}"], os.getpid())
    stopped = started.end()
    assert not path.exists()
    yield stopped


def test_a_drain_during_the_start_is_told_and_readiness_never(tmp_path: Path) -> None:
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


@pytest_twisted.inlineCallbacks
def test_other_workers_serve_the_sockets_of_one_that_accepts_nothing() -> Generator[Any, Any, None]:
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
    assert passed == [started.service._sockets.by_endpoint[0][index].fileno() for index in (0, 2, 3)]

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


@pytest.fixture
def failing(started: Started, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Record what the supervisor does about a start that fails."""
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


def test_a_worker_that_has_served_is_replaced_even_before_the_others_serve(
    started: Started, failing: SimpleNamespace
) -> None:
    first, _ = started.processes
    first.serve()
    first.end(ProcessTerminated(None, 9))
    started.reactor.advance(0.1)
    assert len(started.processes) == 3
    assert not failing.stops


def test_a_worker_that_does_not_end_is_killed_at_last(started: Started) -> None:
    quick, slow = started.processes
    quick.serve()
    slow.serve()
    stopped = started.service.stopService()
    quick.end()
    started.reactor.advance(7)
    assert (quick.signals, slow.signals) == ([], ["KILL"])
    slow.end()
    assert stopped.called


@pytest_twisted.inlineCallbacks
def test_the_drain_waits_for_the_workers_even_if_a_path_is_gone(
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
    # The process of the tests goes on, so close the port after all.
    (tmp_path / "socket").touch()
    yield listening.stopListening()


def test_the_limit_on_descriptors_is_raised_for_the_parent_as_well() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(500, hard - 1), hard))
        Started().stop()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, MOST_DESCRIPTORS), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_service_can_be_stopped_before_it_has_begun() -> None:
    reactor = Reactor()
    service = make(reactor)
    service.startService()
    assert service.stopService().called
    reactor.run()
    assert not reactor.processes
