"""Sections 1 to 10 of the Autobahn testsuite, complete, against a daemon of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.tools import give_up, needed

from .cases import SECTION_COUNTS
from .suite import ROOT, SuiteMissingError, find_suite

if TYPE_CHECKING:
    from pathlib import Path

SHORT = sum(count for section, count in SECTION_COUNTS.items() if section <= 10)
# The run takes about 20 s; the machine may be busy with other runs.
SECONDS = 1200


@pytest.fixture(scope="module", autouse=True)
def _suite() -> None:
    try:
        find_suite()
    except SuiteMissingError as missing:
        give_up(str(missing))


def conformance(report: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would type it."""
    command = [sys.executable, "-m", "tests.conformance", "--report", str(report), "--timeout", str(SECONDS), *words]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )


@pytest.mark.parametrize("nvx", ["1", "0"])
def test_sections_1_to_10(tmp_path: Path, nvx: str) -> None:
    """Test with Autobahn's native masking and UTF-8 validation, and without."""
    done = conformance(tmp_path, "--sections", "1-10", AUTOBAHN_USE_NVX=nvx)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"conformance: {SHORT} passed, 0 failed\n")
    assert f"AUTOBAHN_USE_NVX={nvx}" in done.stdout
    assert len(json.loads((tmp_path / "index.json").read_text())["echod"]) == SHORT
    linked = re.findall(r'href="([^"]+)"', (tmp_path / "index.html").read_text())
    assert len(linked) == SHORT
    assert all((tmp_path / page).is_file() for page in linked)


@pytest.mark.parametrize("tls", [[], ["--tls"]], ids=["plain", "tls"])
def test_behind_a_proxy(tmp_path: Path, tls: list[str]) -> None:
    """The suite speaks HTTP/1.1 to the proxy, and the proxy HTTP/2 to the daemon."""
    needed("haproxy")
    done = conformance(tmp_path, "--behind", "haproxy-http2", *tls, "--sections", "1.1.*", "--", "--log-frames")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("conformance: 8 passed, 0 failed\n")
    assert "HTTP/2" in (tmp_path / "unit-short" / "daemon.log").read_text()
    assert ("websocket~ " in (tmp_path / "unit-short" / "proxy.log").read_text()) == bool(tls)


@pytest.mark.parametrize("words", [["--", "--no-such-option"], ["--compression", "no-such-word"]])
def test_a_daemon_that_does_not_start_fails_the_run(tmp_path: Path, words: list[str]) -> None:
    done = conformance(tmp_path, "--sections", "1.1.*", *words)
    assert done.returncode == 1
    assert "the daemon ended by itself with 1" in done.stdout
    assert "case 1.1.1, 1.1.2, 1.1.3, 1.1.4, 1.1.5, 1.1.6, 1.1.7, 1.1.8: missing from the report\n" in done.stdout
    assert done.stdout.endswith("conformance: 0 passed, 9 failed\n")


@pytest.mark.parametrize(
    "words",
    [["--sections", "11"], ["--sections", "nonsense"], ["--jobs", "0"], ["--behind", "none"], ["--no-such-option"]],
)
def test_wrong_usage_is_status_2(tmp_path: Path, words: list[str]) -> None:
    done = conformance(tmp_path, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("require", "status", "word"), [("", 0, "skipped"), ("all", 1, "failed")])
def test_without_a_suite_one_line_says_how_to_get_it(tmp_path: Path, require: str, status: int, word: str) -> None:
    done = conformance(tmp_path, PATH=str(tmp_path), ECHOD_TEST_REQUIRE=require)
    assert done.returncode == status
    assert done.stderr.startswith(f"conformance: {word}: ")
    assert len(done.stderr.splitlines()) == 1
    assert (done.stdout, list(tmp_path.iterdir())) == ("", [])
