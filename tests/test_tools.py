"""How a newcomer learns of missing tools: one line for all tests that were skipped for the same reason, with the way to
get the tool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import held_port
from tests.tools import needed

ROOT = Path(__file__).parents[1]


def test_a_reason_to_skip_is_told_once() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--quiet",
        "tests/lane/native/test_load.py",
        "tests/lane/native/test_unmask.py",
    ]
    environment = {**os.environ, "ECHOD_NATIVE": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    (told,) = re.findall(r"^SKIPPED.*", done.stdout, re.MULTILINE)
    (count,) = re.findall(r"([0-9]+) skipped", done.stdout)
    assert told.startswith(f"SKIPPED [{count}] tests: no express lane ")
    assert "apt-get install gcc python3-dev" in told


@pytest.mark.parametrize("require", ["", "all"])
def test_a_failing_npm_is_one_line_and_fails_only_if_nothing_may_be_missing(require: str, tmp_path: Path) -> None:
    needed("npm")
    (tmp_path / "tests/interop").mkdir(parents=True)
    for name in ("Makefile", "tests/interop/package.json", "tests/interop/package-lock.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    environment = {**os.environ, "ECHOD_TEST_REQUIRE": require, "npm_config_cache": str(tmp_path / "cache")}
    command = ["make", "--no-print-directory", "tests/interop/node_modules/.done"]
    with held_port() as port:
        environment["npm_config_registry"] = f"http://127.0.0.1:{port}/"
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert re.fullmatch(r"npm ci failed, so that there is no Node client to test with: .*ECONNREFUSED.*\n", done.stdout)
    assert (done.returncode == 0) == (require == "")
