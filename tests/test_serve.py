"""`echod serve` in this process: its reactor, its log, its start and its end."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.logger import Logger, globalLogBeginner

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
