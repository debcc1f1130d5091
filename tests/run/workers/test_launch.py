"""The start of a worker: its command line, its environment and its standard streams."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from echod.run.workers.launch import make_command, make_environment, twist
from tests.run.test_service import REAL
from tests.run.workers.played import Started


def test_the_command_of_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = type(REAL).__module__.removeprefix("twisted.internet.").removesuffix("reactor")
    assert twist(REAL) == ["twisted", f"--reactor={name}", "echod"]
    assert twist(object()) == ["twisted", "--reactor=default", "echod"]
    assert make_command(["echod", "serve"], ["--port", "tcp:0"]) == [
        *(sys.executable, "-P", "-m"),
        *("echod", "serve", "--port", "tcp:0"),
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", "/usr/lib/python3"])
    assert make_environment({"HOME": "/"}) == {"HOME": "/", "PYTHONPATH": f"{tmp_path}:/usr/lib/python3"}


def test_closed_standard_streams_become_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_open in (True, False):
        monkeypatch.setattr("sys.__stdout__", sys.stdout if is_open else None)
        started = Started()
        for process in started.processes:
            assert process.is_null[0]
            assert process.is_null[1] is not is_open
            assert process.passed[2] == 2
        started.stop()
