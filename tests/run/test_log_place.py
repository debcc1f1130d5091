"""Where the log goes under twistd and under twist."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, jsonFileLogObserver, textFileLogObserver
from twisted.python.logfile import LogFile

from echod.core.log import LogFormat, make_observer
from echod.run import log_place

JOURNAL = LogFormat.JOURNAL


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGUSR1)
    opened: list[LogFile] = []
    make = LogFile.fromFullPath

    def remember(name: str) -> LogFile:
        opened.append(make(name))
        return opened[-1]

    monkeypatch.setattr(LogFile, "fromFullPath", remember)
    yield
    signal.signal(signal.SIGUSR1, before)
    for log_file in opened:
        log_file.close()


def say(observer: Any) -> None:
    Logger(namespace="here", observer=observer).info("hello")


def test_without_a_program_there_is_no_observer() -> None:
    assert log_place.take(None, JOURNAL, False) is None
    log_place.put(None, make_observer(io.StringIO(), JOURNAL))


def test_twist_writes_our_format_to_its_own_place() -> None:
    twist: dict[str, Any] = {"logFile": io.StringIO(), "fileLogObserverFactory": jsonFileLogObserver}
    observer = log_place.take(twist, JOURNAL, False, ["twist", "--log-file=-", "echod", "--log-format=journal"])
    assert twist["fileLogObserverFactory"]("whatever") is observer
    say(observer)
    assert twist["logFile"].getvalue() == "<6>hello\n"


def test_a_format_given_to_twist_is_kept() -> None:
    twist: dict[str, Any] = {"logFile": io.StringIO(), "fileLogObserverFactory": textFileLogObserver}
    arguments = ["twist", "--log-format=text", "echod"]
    say(log_place.take(twist, JOURNAL, False, arguments))
    assert twist["logFile"].getvalue().endswith("[here#info] hello\n")
    with pytest.raises(ValueError, match="combined with twist's own"):
        log_place.take(twist, JOURNAL, True, arguments)


@pytest.mark.parametrize(
    "options", [{"nodaemon": 1}, {"nodaemon": 1, "logfile": "-"}, {"debug": True, "logfile": None}]
)
def test_twistd_in_the_foreground(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    say(log_place.take(options, JOURNAL, True))
    assert out.getvalue() == "<6>hello\n"


def test_another_stream_takes_the_place_of_standard_output(tmp_path: Path) -> None:
    out = io.StringIO()
    say(log_place.take({"nodaemon": 1, "logfile": "-"}, JOURNAL, True, output=out))
    twist: dict[str, Any] = {"logFile": sys.stdout, "fileLogObserverFactory": textFileLogObserver}
    say(log_place.take(twist, JOURNAL, True, output=out))
    assert out.getvalue() == 2 * "<6>hello\n"
    twist["logFile"] = io.StringIO()
    say(log_place.take(twist, JOURNAL, True, output=out))
    say(log_place.take({"logfile": "log"}, JOURNAL, True, output=out))
    assert out.getvalue() == 2 * "<6>hello\n"
    assert (twist["logFile"].getvalue(), (tmp_path / "log").read_text()) == 2 * ("<6>hello\n",)


def test_only_twistd_without_its_option_runs_in_the_background() -> None:
    assert log_place.is_in_background({})
    for program in (None, {"nodaemon": 1}, {"debug": True}, {"logFile": sys.stdout}):
        assert not log_place.is_in_background(program)


@pytest.mark.parametrize(
    ("options", "name"), [({}, "twistd.log"), ({"logfile": "my.log"}, "my.log"), ({"nodaemon": 1, "logfile": "a"}, "a")]
)
def test_twistd_with_a_file(options: dict[str, Any], name: str, tmp_path: Path) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    observer = log_place.take(options, JOURNAL, True)
    say(observer)
    assert (tmp_path / name).read_text() == "<6>hello\n"
    signal.raise_signal(signal.SIGUSR1)
    say(observer)
    assert (tmp_path / f"{name}.1").read_text() == "<6>hello\n"
    assert (tmp_path / name).read_text() == "<6>hello\n"


def test_a_handler_of_the_signal_is_kept() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    log_place.take({}, JOURNAL, False)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("options", "why"), [({"logfile": "-"}, "a daemon can't"), ({"logfile": "no/such/folder/log"}, "can't write")]
)
def test_impossible_places_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        log_place.take(options, JOURNAL, False)


def test_twistds_own_ways_are_kept_and_limited() -> None:
    lines: list[Any] = []
    out = io.StringIO()
    for make in (lambda: lines.append, lambda: textFileLogObserver(out)):
        options: dict[str, Any] = {"logger": make}
        observer = log_place.take(options, LogFormat.TEXT, False)
        assert options["logger"]() is observer
        say(observer)
    assert lines[0]["format"]
    assert "hello" in out.getvalue()
    assert log_place.take({"syslog": True, "prefix": "echod"}, LogFormat.TEXT, False) is not None
    for chosen in ({"syslog": True}, {"logger": print}):
        with pytest.raises(ValueError, match="can't be combined with twistd"):
            log_place.take(chosen, JOURNAL, True)
