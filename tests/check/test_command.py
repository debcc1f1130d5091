"""The command line of a check, and its exit status. The command itself is in tests/test_checking.py."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from echod.check import command, probe
from echod.check.command import INTERRUPTED
from echod.check.output import as_json, as_text
from echod.check.report import CheckOutcome, Plan, Report
from echod.http.ws_url import parse
from tests.check.reports import URL, failed, ok
from tests.check.terminal import Terminal

# The command line.


def test_without_options_the_plan_has_its_defaults() -> None:
    assert command.parse([URL]) == (Plan(parse(URL)), False)


def test_every_option_is_in_the_plan() -> None:
    arguments = [
        *[
            "--count",
            "7",
            "--size",
            "1MiB",
            "--timeout",
            "500ms",
            "--subprotocol",
            "a",
            "--subprotocol",
            "b",
            "--compress",
            "--http2",
            "--insecure",
        ],
        *[
            "--header",
            "Authorization: Basic eDp5",
            "--header",
            "X-Empty:",
            "--header=X-Tab: \ta\tb ",
            "--json",
            "wss://a.example",
        ],
    ]
    plan = Plan(
        target=parse("wss://a.example"),
        count=7,
        size=2**20,
        timeout=0.5,
        is_insecure=True,
        subprotocols=("a", "b"),
        fields=(("Authorization", "Basic eDp5"), ("X-Empty", ""), ("X-Tab", "a\tb")),
        offers_compression=True,
        is_http2=True,
    )
    assert command.parse(arguments) == (plan, True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "the following arguments are required: URL"),
        ([URL, URL], "unrecognized arguments"),
        (["http://localhost"], "argument URL: 'http://localhost' is not a WebSocket URL"),
        (["ws://a:b@localhost"], "has user information in it"),
        ([URL, "--cou", "3"], "unrecognized arguments: --cou 3"),
        ([URL, "--count", "0"], "argument --count: '0' is not a whole number"),
        ([URL, "--count", "1000001"], "is more than 1000000"),
        ([URL, "--size", "0"], "argument --size: '0' is not a size"),
        ([URL, "--size", "257MiB"], "is more than 256MiB"),
        ([URL, "--timeout", "0"], "must be more than 0"),
        ([URL, "--timeout", "soon"], "is not a duration"),
        ([URL, "--subprotocol", "a b"], "is not the name of a subprotocol"),
        ([URL, "--header", "no colon"], "is not a header such as 'Name: value'"),
        ([URL, "--header", "a b: c"], "is not a header such as 'Name: value'"),
        ([URL, "--header", "A: b\r\nC: d"], "has a control character in it"),
        ([URL, "--header", "A: \x00"], "has a control character in it"),
        ([URL, "--header", "Sec-WebSocket-Key: AAAA"], "belongs to the opening handshake itself"),
        ([URL, "--header", "content-length: 3"], "belongs to the opening handshake itself"),
        (["\x1b[2J"], "has a space or a control character"),
    ],
)
def test_a_mistake_is_one_line_and_status_64(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.parse(arguments)
    assert end.value.code == os.EX_USAGE == 64
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("echod check: ")
    assert why in error
    assert error.count("\n") == 1
    assert error.removesuffix("\n").isprintable()


def test_help_has_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.parse(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for outcome in CheckOutcome:
        assert f"\n  {int(outcome)}   " in out
    assert "\n  64  " in out


# The whole command.


class FakeReactor:
    """Has a clock that can be replaced, and keeps what to call when it stops."""

    seconds = staticmethod(time.time)
    _pendingTimedCalls = _newTimedCalls = ()

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[..., object], *arguments: object) -> None:
        assert (phase, event) == ("before", "shutdown")
        self.stop = lambda: call(*arguments)


def run(
    monkeypatch: pytest.MonkeyPatch, report: Report, *arguments: str, is_stopped: bool = False
) -> tuple[int, str, str]:
    async def run_probe(reactor: FakeReactor, plan: Plan, tell: Callable[[str], None]) -> Report:
        assert plan == command.parse([URL, *arguments])[0]
        assert reactor.seconds is time.monotonic
        tell("TCP")
        if is_stopped:
            reactor.stop()
        return report

    def react(main: Callable[[object], Any]) -> NoReturn:
        with pytest.raises(StopIteration):
            main(FakeReactor()).send(None)
        raise SystemExit(0)

    monkeypatch.setattr(probe, "run", run_probe)
    out, error = io.StringIO(), Terminal()
    return command.main([URL, *arguments], out, error, react), out.getvalue(), error.getvalue()


@pytest.mark.parametrize("outcome", CheckOutcome)
def test_the_exit_status_is_the_outcome(outcome: CheckOutcome, monkeypatch: pytest.MonkeyPatch) -> None:
    report = failed() if outcome else ok()
    report.outcome = outcome
    assert run(monkeypatch, report) == (int(outcome), as_text(report), "\r\x1b[KTCP\r\x1b[K")
    assert run(monkeypatch, report, "--json") == (int(outcome), as_json(report), "\r\x1b[KTCP\r\x1b[K")


def test_an_interrupt_is_not_blamed_on_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, failed(), is_stopped=True) == (INTERRUPTED, "", "\r\x1b[KTCP\r\x1b[K")


@pytest.mark.parametrize(("code", "status"), [(0, INTERRUPTED), (1, os.EX_SOFTWARE)])
def test_a_reactor_that_stopped_early(code: int, status: int) -> None:
    def react(_: object) -> NoReturn:
        raise SystemExit(code)

    out = io.StringIO()
    assert command.main([URL], out, io.StringIO(), react) == status
    assert out.getvalue() == ""
