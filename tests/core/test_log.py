"""The log: each format can be read back, and no client can make the log grow or forge a line."""

from __future__ import annotations

import io
import json
import re

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure

from echod.core import log
from echod.core.log import LogFormat


def logger(log_format: LogFormat) -> tuple[Logger, io.StringIO, log.Limiter]:
    out = io.StringIO()
    observer = log.make_observer(out, log_format)
    return Logger(namespace="here", observer=observer), out, observer


def test_text() -> None:
    here, out, _ = logger(LogFormat.TEXT)
    here.info("one {x}", x=1)
    here.debug("never")
    here.info("two\nlines")
    here.info("")
    assert re.sub(r"^\S+", "TIME", out.getvalue(), flags=re.M).startswith("TIME [here] one 1\nTIME [here] two\n")
    assert out.getvalue().count("\n") == 3
    assert out.getvalue().splitlines()[2] == "\tlines", "a second line can't be taken for a record"


def test_json() -> None:
    here, out, _ = logger(LogFormat.JSON)
    here.warn("one\n{x}", x="é", **{log.FIELDS: {"connection": "7", "fin": True}})
    here.failure("broken", Failure(ValueError("why")))
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["time"][4] == "-"
    del first["time"]
    assert first == {"level": "warn", "namespace": "here", "message": "one\né", "connection": "7", "fin": True}
    assert second["level"] == "critical"
    assert "ValueError: why" in second["traceback"]


def test_journal() -> None:
    here, out, _ = logger(LogFormat.JOURNAL)
    for level in LogLevel.iterconstants():
        here.emit(level, "a\nb")
    here.info("")
    priorities = re.findall(r"^<(\d)>[ab]$", out.getvalue(), flags=re.M)
    assert priorities == ["6", "6", "4", "4", "3", "3", "2", "2"]


@pytest.mark.parametrize("log_format", LogFormat)
def test_lines_are_cut_but_tracebacks_are_not(log_format: LogFormat) -> None:
    here, out, _ = logger(log_format)
    here.info("{x}", x="é" * 10_000)
    assert log.TEXT_SIZE - 4 < len(out.getvalue().encode()) <= 512
    long_text = "y" * (log.LONG_TEXT_SIZE + 1)
    for emit in (
        lambda: here.error("{x}", x=long_text),
        lambda: here.info("{x}", x=long_text, **{log.UNLIMITED: True}),
    ):
        out.seek(0)
        out.truncate()
        emit()
        assert log.LONG_TEXT_SIZE - 4 < len(out.getvalue().encode()) <= log.LONG_TEXT_SIZE + 112


def test_each_kind_has_its_rate_and_what_is_left_out_is_counted() -> None:
    here, out, observer = logger(LogFormat.TEXT)
    clock = Clock()
    observer.start(clock)
    for number in range(1000):
        here.info("kind one {n}", n=number)
    here.info("kind two")
    assert out.getvalue().count("kind one") == log.EVENTS_PER_SECOND
    assert "kind two" in out.getvalue()
    clock.advance(1)
    left_out = 1000 - log.EVENTS_PER_SECOND
    assert f"{left_out} lines left out in the last second: {left_out} of here" in out.getvalue()
    here.info("kind one {n}", n=0)
    assert out.getvalue().count("kind one") == log.EVENTS_PER_SECOND + 1
    clock.advance(1)
    assert out.getvalue().count("left out") == 1
    assert not clock.getDelayedCalls()


def test_kinds_are_bounded_too() -> None:
    here, out, observer = logger(LogFormat.TEXT)
    observer.start(Clock())
    for number in range(log.KINDS + 100):
        here.info(f"kind {number}")
    assert out.getvalue().count("kind") == log.KINDS + log.EVENTS_PER_SECOND


def test_nothing_is_left_out_before_the_start_after_the_stop_or_when_asked_for() -> None:
    here, out, observer = logger(LogFormat.TEXT)
    clock = Clock()
    for _ in range(10):
        here.info("before")
    observer.start(clock)
    for _ in range(10):
        here.info("recv", **{log.UNLIMITED: True})
        here.info("other")
    observer.stop()
    assert not clock.getDelayedCalls()
    for _ in range(10):
        here.info("after")
    observer.stop()
    text = out.getvalue()
    assert [text.count(word) for word in ("before", "recv", "after", "other", "6 lines left out")] == [10, 10, 10, 4, 1]


def test_a_stream_without_utf8_loses_no_line() -> None:
    octets = io.BytesIO()
    out = io.TextIOWrapper(octets, encoding="ascii")
    Logger(observer=log.make_observer(out, LogFormat.TEXT)).info("café")
    assert rb"caf\xe9" in octets.getvalue()


def test_autobahn_may_log_errors_alone() -> None:
    events: list[str] = []
    log.AutobahnLog._log = Logger(namespace="autobahn", observer=lambda event: events.append(event["log_format"]))  # type: ignore[arg-type]
    autobahn = log.AutobahnLog()
    for name in ("trace", "debug", "info", "warn", "error", "critical", "failure"):
        getattr(autobahn, name)(name)
    assert events == ["error", "critical", "failure"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_json_in_any_locale(encoding: str) -> None:
    out = io.BytesIO()
    file = io.TextIOWrapper(out, encoding)
    Logger(namespace="here", observer=log.make_observer(file, LogFormat.JSON)).info("{text}", text="é ☕ 😀")
    assert json.loads(out.getvalue())["message"] == "é ☕ 😀"


def test_the_limiter_is_an_observer() -> None:
    assert ILogObserver.providedBy(log.make_observer(io.StringIO(), LogFormat.TEXT))


def test_stderr_is_the_real_one(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    log.stderr_line("one line")
    assert capfd.readouterr().err in ("one line\n", "")


def test_without_a_standard_error_the_line_is_not_on_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.__stderr__", None)
    log.stderr_line("one line")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("namespace", ["log_legacy", "twisted.internet.base", "twisted.scripts._twistd_unix.AppLogger"])
def test_what_twisted_says_about_itself_is_left_out_unless_it_is_wrong(namespace: str) -> None:
    _, out, observer = logger(LogFormat.JOURNAL)
    twisted = Logger(namespace=namespace, observer=observer)
    twisted.info("EchoFactory starting on 8080")
    assert out.getvalue() == ""
    twisted.warn("the pid file is stale")
    twisted.info("Unable to write to plugin cache {path}", path="dropin.cache")
    assert out.getvalue() == "<4>the pid file is stale\n<6>Unable to write to plugin cache dropin.cache\n"


def test_the_names_of_factories_are_left_out() -> None:
    here, out, _ = logger(LogFormat.JOURNAL)
    here.info("Starting factory {factory!r}", factory=here)
    here.info("Stopping factory {factory!r}", factory=here)
    assert out.getvalue() == ""
    here.info("Starting again")
    assert out.getvalue() == "<6>Starting again\n"
