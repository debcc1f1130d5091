"""A worker as its parent sees it: over real pipes, on a socket that the test made."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Generator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from echod.lane.native import Native
from echod.run.workers.role import Role
from echod.run.workers.to_parent import ParentLog, make_log
from echod.run.workers.worker import Worker
from echod.settings import Settings
from echod.upstream import endpoints
from echod.web.metrics.values import unpack
from echod.websocket.factory import State
from tests.client import Client
from tests.frames import handshake
from tests.reactor import until
from tests.run.test_service import REAL
from tests.run.workers.pipes import Pipes


class Reactor:
    """The real reactor, except that `stop` only fires `stopped`."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def __getattr__(self, name: str) -> Any:
        return getattr(REAL, name)

    def stop(self) -> None:
        if not self.stopped.called:
            self.stopped.callback(None)


class Deaf(Reactor):
    """A reactor that never runs the call of a signal handler, so that no call is left for another test."""

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        """Drop the call."""


class Serving:
    """A worker that serves a socket, and may be told to serve others."""

    def __init__(self, *others: tuple[int, int | None], native: Native | None = None) -> None:
        role = Role(0, (("tcp:0", 0),), tuple((index, (descriptor,)) for index, descriptor in others))
        self.reactor = Reactor()
        self.log, observer = make_log()
        with socket.create_server(("127.0.0.1", 0)) as made:
            self.address = made.getsockname()
            adopted = [("tcp:0", endpoints.adopt(self.reactor, os.dup(made.fileno())))]
            settings = Settings(drain_timeout=5, workers=2)
            self.service = Worker(
                settings, adopted, self.reactor, observer, native, take_signals=False, log=self.log, role=role
            )
            self.service.startService()


def without_log(pipes: Pipes) -> Any:
    while True:
        message = pipes.read()
        if message[:2] != ["tell", "log"]:
            return message


@pytest_twisted.inlineCallbacks
def test_the_life_of_a_worker(pipes: Pipes, lines: list[str]) -> Generator[Any, Any, None]:
    serving = Serving()
    service = serving.service
    assert service.factory is not None
    assert (yield deferToThread(without_log, pipes)) == ["tell", "serving", service.factory.max_connections]
    assert service.factory.state is State.SERVING
    assert not any("listening" in line for line in lines), "the parent says it"
    client = yield deferToThread(Client, serving.address)
    yield deferToThread(client.echo, b"hello")

    def ask(kind: str, value: Any = None) -> Any:
        pipes.write(["ask", 1, kind, value])
        return without_log(pipes)[2]

    open_, counts = yield deferToThread(ask, "pulse")
    assert open_ == 1
    assert unpack(counts)["echod_messages_received_total"]["text", "autobahn"] == 1
    assert "echod_connections_open" not in counts
    assert unpack((yield deferToThread(ask, "values")))["echod_connections_open"] == {(): 1}
    assert (yield deferToThread(ask, "total")) == 1
    for kind, value in (("part", [0, 10]), ("newest", 5)):
        (told,) = yield deferToThread(ask, kind, value)
        assert (told["process"], told["path"]) == (os.getpid(), "/")
        assert told["number"] == f"{os.getpid()}-1"
    assert (yield deferToThread(ask, "part", [1, 10])) == []
    assert (yield deferToThread(ask, "traced", f"{os.getpid()}-1")) is None, "no connection is traced"
    assert (yield deferToThread(ask, "reload")) == []
    assert lines[-1] == "reloaded"
    pipes.write(["tell", "drain", None])
    yield serving.reactor.stopped
    stopped = service.stopService()
    yield deferToThread(client.frame)
    assert not stopped.called
    pipes.write(["tell", "abort", None])
    assert (yield deferToThread(without_log, pipes)) == ["tell", "leaving", None]
    kind, name, counts = yield deferToThread(without_log, pipes)
    assert (kind, name) == ("tell", "last")
    assert sum(unpack(counts)["echod_connections_total"].values()) == 1  # type: ignore[arg-type]
    yield stopped
    client.socket.close()


@pytest.mark.parametrize("has_lane", [False, True])
@pytest_twisted.inlineCallbacks
def test_a_worker_serves_the_sockets_of_others_on_order(
    has_lane: bool, pipes: Pipes, lines: list[str], request: pytest.FixtureRequest
) -> Generator[Any, Any, None]:
    native = request.getfixturevalue("native") if has_lane else None
    with socket.create_server(("127.0.0.1", 0)) as second, socket.create_server(("127.0.0.1", 0)) as third:
        closed = os.dup(third.fileno())
        serving = Serving((1, os.dup(second.fileno())), (2, closed), (3, None), native=native)
        yield deferToThread(without_log, pipes)
        waiting = socket.create_connection(second.getsockname(), 60)
        pipes.write(["tell", "cover", [1, 3]])  # the last shares its socket
        client = yield deferToThread(Client, second.getsockname())
        assert (yield deferToThread(client.echo, b"hello")) == b"hello"
        waiting.sendall(handshake())
        assert (yield deferToThread(waiting.recv, 4096)).startswith(b"HTTP/1.1 101 "), "it has waited for that"
        # The other worker is back: open connections stay, and new connections are not for this worker.
        pipes.write(["tell", "cover", []])
        yield until(lambda: not serving.service._covered)
        assert (yield deferToThread(client.echo, b"hello")) == b"hello"
        late = socket.create_connection(second.getsockname(), 60)
        accepted, _ = second.accept()
        for left in (late, accepted, waiting):
            left.close()
        # A socket that can't be served is one line of the log.
        os.close(closed)
        serving.service._others[2] = (closed,)
        pipes.write(["tell", "cover", [2]])
        yield until(lambda: "another worker's socket can't be served: Bad file descriptor" in lines)
        serving.service._others[2] = (os.dup(third.fileno()),)
    stopped = serving.service.stopService()
    yield deferToThread(client.frame)
    yield deferToThread(client.leave)
    yield stopped


@pytest_twisted.inlineCallbacks
def test_a_worker_ends_without_its_parent(pipes: Pipes) -> Generator[Any, Any, None]:
    serving = Serving()
    yield deferToThread(without_log, pipes)
    pipes.close()
    yield serving.reactor.stopped
    yield serving.service.stopService()


@pytest.mark.usefixtures("pipes")
def test_a_worker_that_never_ran_can_be_stopped() -> None:
    log = ParentLog()
    service = Worker(Settings(), [], REAL, None, None, take_signals=False, log=log, role=Role(0, ()))
    assert service.stopService().called


@pytest.mark.usefixtures("pipes")
def test_a_stuck_worker_without_a_parent_is_killed_after_the_drain_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Worker(Settings(drain_timeout=600), [], Deaf(), None, None, log=ParentLog(), role=Role(0, ()))
    service._on_signal(signal.SIGTERM, None)
    assert signal.alarm(0) == 0
    monkeypatch.setattr(os, "getppid", lambda: 1)
    service._on_signal(signal.SIGTERM, None)
    assert 600 <= signal.alarm(0) <= 602


@pytest.mark.usefixtures("pipes")
def test_a_worker_handles_sigterm_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    reactor = Reactor()
    service = Worker(Settings(), [], reactor, None, None, log=ParentLog(), role=Role(0, ()))
    try:
        service._handle_signals()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)] == 2 * [signal.SIG_IGN]
        monkeypatch.setattr(service, "running", True)
        service._obey(signal.SIGTERM)
        assert reactor.stopped.called
        # The service manager sends SIGTERM to all processes, and the parent passes its own on: no second one aborts.
        aborted: list[bool] = []
        monkeypatch.setattr(service, "running", False)
        monkeypatch.setattr(service, "_abort", lambda: aborted.append(True))
        service._obey(signal.SIGTERM)
        assert not aborted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
