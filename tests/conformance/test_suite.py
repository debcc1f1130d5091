"""Finding the suite: a program on PATH does not always work."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from . import suite
from .suite import IMAGE, ContainedSuite, InstalledSuite, SuiteMissingError, find_python27, find_suite

if TYPE_CHECKING:
    from pathlib import Path

RUNS = "echo \"('CPython', True)\""


def program(path: Path, script: str) -> Path:
    """Write an executable that replaces the real program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the only one on PATH."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def pyenv(on_path: Path, *versions: str) -> None:
    """Write a pyenv that has these versions."""
    prefix = on_path.parent / "versions"
    program(
        on_path / "pyenv",
        f'case "$1" in versions) printf "%s\\n" {" ".join(versions)};; prefix) echo {prefix}/$2;; esac',
    )
    for version in versions:
        program(prefix / version / "bin" / "python2.7", RUNS)


def test_python27_on_path(on_path: Path) -> None:
    assert find_python27() is None
    python = program(on_path / "python2.7", RUNS)
    assert find_python27() == python


@pytest.mark.parametrize("script", ["exit 127", "echo \"('PyPy', True)\"", "echo \"('CPython', False)\""])
def test_a_python27_that_does_not_run_is_passed_over(on_path: Path, script: str) -> None:
    program(on_path / "python2.7", script)
    assert find_python27() is None


def test_pyenv_is_asked_when_its_shim_only_complains(on_path: Path) -> None:
    program(on_path / "python2.7", "exit 127")
    pyenv(on_path, "2.7.9", "3.12.1", "2.7.18", "pypy2.7-7.3.9")
    assert find_python27() == on_path.parent / "versions" / "2.7.18" / "bin" / "python2.7"


def test_one_line_names_both_ways_if_neither_works(on_path: Path) -> None:
    program(on_path / "docker", "exit 1")
    with pytest.raises(SuiteMissingError) as missing:
        find_suite()
    text = str(missing.value)
    assert "CPython 2.7" in text
    assert IMAGE in text
    assert "\n" not in text


def test_a_working_engine_replaces_python27(on_path: Path, tmp_path: Path) -> None:
    program(on_path / "docker", "exit 1")
    podman = program(
        on_path / "podman",
        f'case "$1 $2" in "version ") ;; "image inspect") exit 1;; "pull {IMAGE}") ;; *) exit 1;; esac',
    )
    found = find_suite()
    assert found == ContainedSuite(str(podman))
    call = found.invocation(tmp_path)
    assert call.command[:3] == (str(podman), "run", "--rm")
    assert f"--volume={tmp_path}:/report" in call.command
    assert call.command[call.command.index(IMAGE) + 1 :] == ("wstest", "-m", "fuzzingclient", "-s", "/report/spec.json")
    assert call.outdir == "/report"
    assert call.abort[:2] == (str(podman), "kill")
    assert f"--name={call.abort[2]}" in call.command


def test_a_failed_install_is_reported_with_its_log(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(on_path / "python2.7", RUNS)
    monkeypatch.setenv(suite.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "python3", "echo no venv here; exit 3")))
    with pytest.raises(SuiteMissingError, match="install"):
        find_suite()
    assert "no venv here" in (tmp_path / "home" / "install.log").read_text()
    assert not (tmp_path / "home" / "suite" / "ready").exists()


def test_the_install_happens_once_and_again_when_broken(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv(suite.HOME_VARIABLE, str(home))
    program(on_path / "python2.7", RUNS)
    # Acts as venv and as virtualenv: notes each call, and creates an interpreter in the folder that it is given.
    log = tmp_path / "calls"
    venv = program(
        tmp_path / "python3",
        f'/bin/echo "$@" >> {log}; for last; do :; done\n'
        'case "$*" in "-m venv"*|"-m virtualenv"*) /bin/mkdir -p "$last/bin" && /bin/cp "$0" "$last/bin/python";; esac',
    )
    monkeypatch.setattr(sys, "executable", str(venv))
    assert find_suite() == InstalledSuite(home / "suite" / "bin" / "python")
    first = log.read_text().splitlines()
    assert any(line.startswith("-m pip install --no-deps") for line in first)
    find_suite()
    assert log.read_text().splitlines()[len(first) :] == ["-c import autobahntestsuite"]
    program(home / "suite" / "bin" / "python", "exit 1")
    find_suite()
    assert len(log.read_text().splitlines()) > 2 * len(first) - 1


def test_wstest_is_not_led_into_the_packages_of_another_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    call = InstalledSuite(tmp_path / "bin" / "python").invocation(tmp_path)
    assert "PYTHONPATH" not in call.environment
    assert call.environment["LANG"] == os.environ["LANG"]
    assert call.environment["PYTHONUNBUFFERED"] == "1"
