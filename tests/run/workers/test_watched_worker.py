"""A watched worker: how its process is watched, reloaded and replaced."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.logger import globalLogPublisher

from echod.run.workers.watched_worker import PATIENCE
from tests.run.workers.played import DEAF, Started, state


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


def test_a_starting_worker_reloads_as_soon_as_it_serves(started: Started, lines: list[str]) -> None:
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
    # The next process reads the files when it starts, and a worker without a process has nobody to tell.
    second.end(ProcessTerminated(None, 9))
    started.service.reload()
    started.reactor.advance(0.1)
    started.processes[-1].serve()
    assert started.processes[-1].asked == []
    assert first.asked == ["reload", "reload"]


def test_a_dead_worker_is_replaced_after_a_growing_delay(started: Started, lines: list[str]) -> None:
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
    # In a drain no other process is started.
    started.stop()


def test_a_worker_that_the_kernel_does_not_start_is_tried_again(
    started: Started, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in started.processes:
        process.serve()

    def spawn(*_: Any) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(started.service, "launch", spawn)
        started.processes[0].end(ProcessTerminated(None, 9))
        started.reactor.advance(0.1)
        assert lines[-1] == "a worker can't start: Resource temporarily unavailable; the next starts in 200ms"
        assert started.service.totals.processes() == {"1": 101}
    started.reactor.advance(0.2)
    assert started.service.totals.processes() == {"0": 102, "1": 101}


def test_a_worker_that_a_real_time_signal_ends_is_replaced(started: Started, lines: list[str]) -> None:
    """Python has no names for the signals between SIGRTMIN and SIGRTMAX."""
    for process in started.processes:
        process.serve()
    started.processes[0].end(ProcessTerminated(None, 35))
    assert lines[-1] == "worker 100 was killed by signal 35; the next starts in 100ms"
    started.reactor.advance(0.1)
    assert started.service.totals.processes() == {"0": 102, "1": 101}


def test_a_worker_that_stands_still_is_killed_once(started: Started, lines: list[str]) -> None:
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
    assert lines.count("worker 100 has not answered for 10s; killing it") == 1
    # If this process itself stood still, however long, that is one pulse.
    second.answers = DEAF
    started.reactor.advance(1000)
    assert not second.signals
    first.end(ProcessTerminated(None, 9))
    first.protocol.kill()
    first.protocol.loseConnection()


def test_a_worker_that_never_serves_is_killed_later(started: Started) -> None:
    for _ in range(60):
        started.reactor.advance(1)
    assert not started.processes[0].signals
    started.reactor.advance(1)
    assert started.processes[0].signals == ["KILL"]


def test_the_parent_writes_the_workers_log(started: Started) -> None:
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        told = {"namespace": "echod.x", "level": "warn", "kind": "some {format}", "unlimited": True, "text": "{text}"}
        told["fields"] = {"connection": "100-1"}
        started.processes[0].link.tell("log", told)
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    (event,) = events
    assert event["log_format"].format(**event) == "worker 100: {text}"
    assert (event["log_namespace"], event["log_level"].name) == ("echod.x", "warn")
    assert (event["echod_kind"], event["echod_unlimited"]) == ("some {format}", True)
    assert event["echod_fields"] == {"connection": "100-1"}
