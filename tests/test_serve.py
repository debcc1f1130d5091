"""`echod serve` in this process: its reactor, its log, its start and its end."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import LogEvent, Logger, globalLogBeginner, globalLogPublisher

from echod import serve
from echod.options import makeService
from echod.run.process import refuse_to_start
from echod.run.workers.supervisor import Supervisor
from echod.serve import ServeOptions, main

REAL: Any = reactor


class Service:
    """Notes what is done with it. It can't start if there is a `fault`."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.done: list[str] = []

    def privilegedStartService(self) -> None:
        """Listen."""
        self.done.append("listen")
        if self.fault:
            refuse_to_start(self.fault)

    def startService(self) -> None:
        """Serve."""
        self.done.append("start")

    def stopService(self) -> None:
        """Drain."""
        self.done.append("stop")


@pytest.fixture
def observers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list to which the observers go that `main` begins to log to. The tests' own log stays as it is."""
    begun: list[Any] = []
    monkeypatch.setattr(globalLogBeginner, "beginLoggingTo", begun.extend)
    return begun


def run(service: Service, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run `main` with a service in place of the daemon, and a reactor that begins and ends at once."""

    def run_and_stop() -> None:
        service.done.append("run")
        for call in triggers:
            call()

    triggers: list[Any] = []
    loop = SimpleNamespace(addSystemEventTrigger=lambda *words: triggers.append(words[2]), run=run_and_stop)

    def make(options: Any) -> Service:
        options.reactor = loop
        return service

    monkeypatch.setattr(serve, "makeService", make)
    return main(["--port", "tcp:0"])


def test_it_serves_until_the_reactor_stops(
    observers: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service()
    assert run(service, monkeypatch) == 0
    assert service.done == ["listen", "start", "run", "stop"]
    (observer,) = observers
    Logger(namespace="here", observer=observer).info("hello")
    assert capsys.readouterr().out.endswith(" [here] hello\n")


def test_the_log_leaves_standard_output_to_the_ready_file(capsys: pytest.CaptureFixture[str]) -> None:
    options = ServeOptions({})
    options.parseOptions(["--port", "tcp:0", "--ready-file", "-"])
    Logger(namespace="here", observer=options.observer).info("hello")
    told = capsys.readouterr()
    assert (told.out, told.err.endswith(" [here] hello\n")) == ("", True)


@pytest.fixture
def signals() -> Iterator[dict[int, Any]]:
    """Return the handlers of the signals that the daemon handles, and set them again after the test."""
    before: dict[int, Any] = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("observers")
@pytest_twisted.ensureDeferred
async def test_signals_are_handled_before_the_first_line_of_the_log(
    signals: dict[int, Any], monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """A reader of that line may send SIGHUP at once. It is a reload, and does not end the process."""
    found: list[set[Any]] = []

    def look(_event: LogEvent) -> None:
        found.append({signal.getsignal(number) for number in signals})

    def serve_and_stop() -> None:
        globalLogPublisher.removeObserver(look)  # type: ignore[arg-type]
        ends.extend(call() for call in triggers)

    def make(options: Any) -> Any:
        options.reactor = loop
        made.append(makeService(options))
        return made[0]

    made: list[Any] = []
    ends: list[Any] = []
    triggers: list[Any] = []
    loop = SimpleNamespace(
        addSystemEventTrigger=lambda *words: triggers.append(words[2]),
        callLater=lambda *_, **__: SimpleNamespace(active=lambda: False),
        callWhenRunning=lambda _: None,
        run=serve_and_stop,
        seconds=REAL.seconds,
    )
    monkeypatch.setattr(serve, "makeService", make)
    monkeypatch.setenv("ECHOD_NATIVE", "0")  # the lane would need more of a reactor
    globalLogPublisher.addObserver(look)  # type: ignore[arg-type]
    assert main(["--port", "tcp:0:interface=127.0.0.1"]) == 0
    await ends[0]
    assert any("max-message-size" in line for line in lines)
    assert found
    assert all(handlers == {made[0]._on_signal} for handlers in found)


@pytest.mark.usefixtures("observers")
def test_a_start_that_fails_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", err)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    service = Service("can't listen on tcp:0: no")
    assert run(service, monkeypatch) == 1
    assert service.done == ["listen"]
    assert err.getvalue() == "echod: can't listen on tcp:0: no\n"


def refusal(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return the message about a wrong command line."""
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 1
    return err.getvalue()


def test_a_wrong_option_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, "--port", "tcp:no").startswith("echod: --port 'tcp:no' is not a server endpoint")


@pytest.mark.parametrize("words", [("--reactor", "poll"), ("-r", "poll")])
def test_the_reactor_is_installed_before_it_is_used(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    monkeypatch.setattr(serve, "installReactor", installed.append)
    ServeOptions({}).parseOptions([*words, "--port", "tcp:0"])
    assert installed == ["poll"]


def test_an_unknown_reactor_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal(monkeypatch, "--reactor", "fusion")
    assert told.startswith("echod: --reactor 'fusion' is none of asyncio, ")
    assert told.count("\n") == 1


def test_a_reactor_that_can_not_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has a reactor."""
    told = refusal(monkeypatch, "--reactor", "poll")
    assert told == "echod: --reactor 'poll' can't be used: reactor already installed\n"


def test_its_workers_are_the_same_command() -> None:
    options = ServeOptions({})
    options.parseOptions(["--workers", "2", "--port", "tcp:0"])
    service = makeService(options)
    assert isinstance(service, Supervisor)
    assert service._command[1:] == ["-P", "-m", "echod", "serve", "--workers", "2", "--port", "tcp:0"]
