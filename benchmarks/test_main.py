"""The command works in a fresh checkout, where nothing is built and no folder exists yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__, build, results
from tests.tools import needed


def test_it_measures_where_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed("cc", "gcc")
    monkeypatch.setattr(build, "BUILD", tmp_path / "build" / "benchmarks")
    monkeypatch.setattr(
        "sys.argv", ["benchmarks", "--servers", "echod", "--columns", "small", "--rounds", "1", "--seconds", "1"]
    )
    __main__.main()
    (sample,) = results.load(build.BUILD / "results.json").samples
    assert sample.error == ""
    assert sample.rate > 0
    assert "| c64 d1, 16 B text |" in capsys.readouterr().out
