"""Starting and ending a daemon process; none is ever left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from . import daemon
from .daemon import HOST, DaemonError, command_line, log_faults, running_daemon

LISTENER = """
import os, signal, socket, sys
from pathlib import Path
server = socket.create_server(("127.0.0.1", 0))
print("pid", os.getpid(), "switch", os.environ.get("AUTOBAHN_USE_NVX"), flush=True)
print(f"listening on ws://127.0.0.1:{server.getsockname()[1]}", flush=True)
"""


def twistd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """A program in twistd's place that behaves as `body` says: a real daemon can't be made to hang or to die."""
    script = tmp_path / "twistd"
    script.write_text(f"#!{sys.executable}\n{body}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


def run(tmp_path: Path, faults: list[str]) -> str:
    """Start the daemon, end it, and give what it logged."""

    async def start_and_end() -> None:
        async with running_daemon([], tmp_path, tmp_path / "daemon.log", faults) as port:
            with socket.create_connection((HOST, port)):
                pass

    asyncio.run(start_and_end())
    return (tmp_path / "daemon.log").read_text()


def assert_gone(log: str) -> None:
    pid = int(log.split()[1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_command_line_is_the_users() -> None:
    words = command_line([])
    assert Path(words[0]).name == "twistd"
    assert words[1:] == ["-n", "--pidfile=", "echod", "--port", "tcp:0:interface=127.0.0.1"]


def test_words_before_echod_are_twistds() -> None:
    words = command_line(["--reactor=asyncio", "echod", "--compression", "off"])
    assert words[3:] == ["--reactor=asyncio", "echod", "--port", "tcp:0:interface=127.0.0.1", "--compression", "off"]
    secure = command_line(["--compression", "off"], Path("here.pem"))[3:]
    assert secure == ["echod", "--port", "ssl:0:privateKey=here.pem:interface=127.0.0.1", "--compression", "off"]
    assert command_line(["--compression", "off"])[3:] == ["echod", "--port", "tcp:0:interface=127.0.0.1", "--compression", "off"]


def test_a_log_with_an_exception_is_a_fault() -> None:
    assert log_faults("listening\nSIGTERM, shutting down\n") == []
    assert log_faults("Unhandled Error\nTraceback (most recent call last):\nUnhandled Error\n") == [
        "the daemon's log has 'Traceback' 1 times",
        "the daemon's log has 'Unhandled Error' 2 times",
    ]


def test_a_daemon_in_good_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twistd(monkeypatch, tmp_path, LISTENER + "signal.pause()")
    monkeypatch.setenv("AUTOBAHN_USE_NVX", "0")
    faults: list[str] = []
    log = run(tmp_path, faults)
    assert faults == []
    assert "switch 0\n" in log
    assert_gone(log)


def test_a_daemon_that_ends_by_itself_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twistd(monkeypatch, tmp_path, LISTENER + "server.accept(); sys.exit(4)")
    faults: list[str] = []

    async def until_it_ends() -> None:
        async with running_daemon([], tmp_path, tmp_path / "daemon.log", faults) as port:
            _, writer = await asyncio.open_connection(HOST, port)
            async with asyncio.timeout(10):
                # Its exit is noticed by the event loop, which goes on meanwhile.
                while _alive(tmp_path / "daemon.log"):
                    await asyncio.sleep(daemon.POLL_SECONDS)
            writer.close()

    asyncio.run(until_it_ends())
    # Whether the event loop has heard of it by the time the daemon is to be ended is chance.
    assert len(faults) == 1
    assert "ended" in faults[0]
    assert "status 4" in faults[0]


def _alive(log: Path) -> bool:
    try:
        os.kill(int(log.read_text().split()[1]), 0)
    except ProcessLookupError:
        return False
    return True


def test_a_daemon_that_stays_is_a_fault_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twistd(
        monkeypatch, tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LISTENER + "while True: signal.pause()"
    )
    monkeypatch.setattr(daemon, "STOP_SECONDS", 0.2)
    faults: list[str] = []
    log = run(tmp_path, faults)
    assert faults == ["the daemon was still there 0.2 s after SIGTERM"]
    assert_gone(log)


def test_a_daemon_that_ends_badly_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twistd(monkeypatch, tmp_path, LISTENER + "signal.signal(signal.SIGTERM, lambda *_: sys.exit('Traceback'))\nsignal.pause()")
    faults: list[str] = []
    run(tmp_path, faults)
    assert faults == ["the daemon ended with status 1 after SIGTERM", "the daemon's log has 'Traceback' 1 times"]


def test_a_daemon_that_does_not_start_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twistd(monkeypatch, tmp_path, "raise SystemExit('no such option')")
    faults: list[str] = []
    with pytest.raises(DaemonError, match=r"(?s)status 1 before it listened.*no such option"):
        run(tmp_path, faults)
    assert faults == []


def test_a_daemon_that_never_listens_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twistd(monkeypatch, tmp_path, "import os, signal\nprint('pid', os.getpid(), flush=True)\nsignal.pause()")
    monkeypatch.setattr(daemon, "START_SECONDS", 1)
    with pytest.raises(DaemonError, match="did not listen within 1 s"):
        run(tmp_path, [])
    assert_gone((tmp_path / "daemon.log").read_text())


def test_a_missing_twistd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DaemonError, match="can't run twistd"):
        run(tmp_path, [])
