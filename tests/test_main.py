"""The command `echod`, which is also `python -m echod`."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from echod import __version__, serve
from echod.__main__ import HELP, console, main
from echod.__main__ import run as run_process
from echod.check import command


def run(*arguments: str) -> tuple[int, str, str]:
    out, error = io.StringIO(), io.StringIO()
    return main(arguments, out, error), out.getvalue(), error.getvalue()


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_the_way_to_start_the_daemon(arguments: list[str]) -> None:
    assert run(*arguments) == (0, HELP, "")
    assert "echod serve --port tcp:8080" in HELP
    assert "echod check URL" in HELP


def test_version() -> None:
    assert run("--version") == (0, f"echod {__version__}\n", "")


def test_an_unknown_command_is_one_line() -> None:
    status, out, error = run("server\x1b\n", "x")
    assert (status, out) == (os.EX_USAGE, "")
    assert error == "echod: server\\x1b\\n is not a command; echod --help lists the commands\n"


def test_check_gets_the_arguments_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(arguments: Sequence[str], out: Any, _error: Any) -> int:
        out.write(repr(list(arguments)))
        return 3

    monkeypatch.setattr(command, "main", fake)
    assert run("check", "ws://a", "--json") == (3, "['ws://a', '--json']", "")


def test_completion_gets_the_arguments_after_it() -> None:
    status, out, error = run("completion", "bash")
    assert (status, error) == (0, "")
    assert "--ready-file" in out


def test_serve_gets_the_arguments_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def fake(arguments: Sequence[str]) -> int:
        assert gc.isenabled()
        found.append(arguments)
        return 3

    monkeypatch.setattr(serve, "main", fake)
    monkeypatch.setattr(sys, "argv", ["echod", "serve", "--port", "tcp:0"])
    assert console() == 3
    assert found == [["--port", "tcp:0"]]


# As a process.


@pytest.fixture(autouse=True)
def same_sigint() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("before", "after"), [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN)]
)
def test_ctrl_c_ends_the_process_without_a_traceback(before: Any, after: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(serve, "main", lambda _: 0)
    monkeypatch.setattr(sys, "argv", ["echod", "serve"])
    assert console() == 0
    assert signal.getsignal(signal.SIGINT) is after


def test_the_process_runs_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "argv", ["echod", "--version"])
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(gc, "disable", lambda: None)  # the tests' process goes on
    assert console() == 0
    out.seek(0)
    assert out.read() == f"echod {__version__}\n"


@pytest.mark.parametrize("arguments", ["--version", "--help", "check --help", "check http://wrong", "wrong"])
def test_help_and_mistakes_do_not_load_twisted(arguments: str) -> None:
    program = f"""
import sys
from echod.__main__ import run
run({arguments.split()}, sys.stdout, sys.stderr)
print(*(name for name in ("twisted", "autobahn", "OpenSSL") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_output_is_written_and_the_status_is_the_commands(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as out:
        assert run_process(["--version"], out, io.StringIO()) == 0
        assert (tmp_path / "out").read_text() == f"echod {__version__}\n"


def test_help_of_a_command_is_output_too() -> None:
    out = io.StringIO()
    assert run_process(["check", "--help"], out, io.StringIO()) == 0
    assert "exit status:" in out.getvalue()


def test_output_that_can_not_be_written_is_one_line() -> None:
    error = io.StringIO()
    with open("/dev/full", "w") as full:  # with a buffer, as in a process: only the flush fails
        assert run_process(["--version"], full, error) == os.EX_IOERR
    assert error.getvalue() == "echod: can't write to standard output: No space left on device\n"


def test_a_closed_output_is_one_line() -> None:
    error = io.StringIO()
    assert run_process([], None, error) == os.EX_IOERR
    assert error.getvalue() == "echod: can't write to standard output: Bad file descriptor\n"


def test_a_mistake_is_reported_without_standard_output() -> None:
    error = io.StringIO()
    assert run_process(["server"], None, error) == os.EX_USAGE
    assert error.getvalue().count("\n") == 1


def test_without_standard_error_the_status_is_left() -> None:
    assert run_process([], None, None) == os.EX_IOERR
    with open("/dev/full", "w", buffering=1) as full:
        assert run_process([], None, full) == os.EX_IOERR
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that closing `full` succeeds
