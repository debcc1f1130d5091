"""The help of the options: each option stands once, in a group, with its value and its default."""

from __future__ import annotations

import pytest

from echod.help import GROUPS, make_parser
from echod.options import Options
from echod.serve import ServeOptions


def test_each_option_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted({name.rstrip("=") for name in ServeOptions().longOpt})


def test_the_help_is_in_groups() -> None:
    docs = {"port": "ENDPOINT to listen on [tcp:8080]", "no-faults": "100% good [off]", "version": "Show the version."}
    parser, options = make_parser("echod serve", docs, ("no-faults", "version"), {"port": "p"})
    assert list(options) == list(docs)
    text = " ".join(parser.format_help().split())
    assert "-p" in text
    parts = (
        "where to listen: ",
        "--port ENDPOINT endpoint to listen on [tcp:8080] ",
        "who may connect, and what clients get: --no-faults 100% good [off] process: --version show the version An ",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_lines_fit_the_terminal_and_break_no_name(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = str(ServeOptions()).splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert not [line for line in lines if line.endswith("-")]
    assert lines[0] == "Usage: echod serve [options]"


def test_the_examples_are_those_of_the_program() -> None:
    assert "\n  echod serve --port tcp:0 --ready-file ready.json\n" in str(ServeOptions())
    assert "\n  twistd -n echod --port tcp:0 --ready-file ready.json\n" in Options().getUsage()


def test_the_help_needs_no_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONOPTIMIZE=2 removes them."""
    before = str(ServeOptions())
    for kind in (Options, ServeOptions):
        for name, method in vars(kind).items():
            if name.startswith("opt_"):
                monkeypatch.setattr(method, "__doc__", None)
    assert str(ServeOptions()) == before
