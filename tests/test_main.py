"""`python -m echod`: which command is which."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import pytest

from echod import __version__, check
from echod.__main__ import HELP, main


def run(*arguments: str) -> tuple[int, str, str]:
    out, error = io.StringIO(), io.StringIO()
    return main(arguments, out, error), out.getvalue(), error.getvalue()


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_the_way_to_start_the_daemon(arguments: list[str]) -> None:
    assert run(*arguments) == (0, HELP, "")
    assert "twistd -n echod --port tcp:8080" in HELP
    assert "python -m echod check URL" in HELP


def test_version() -> None:
    assert run("--version") == (0, f"echod {__version__}\n", "")


def test_an_unknown_command_is_one_line() -> None:
    status, out, error = run("serve\x1b\n", "x")
    assert (status, out) == (os.EX_USAGE, "")
    assert error == "echod: serve\\x1b\\n is no command; python -m echod shows what there is\n"


def test_check_gets_what_is_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(arguments: Sequence[str], out: Any, _error: Any) -> int:
        out.write(repr(list(arguments)))
        return 3

    monkeypatch.setattr(check, "main", fake)
    assert run("check", "ws://a", "--json") == (3, "['ws://a', '--json']", "")
