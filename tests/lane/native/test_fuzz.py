"""The fuzz targets over their first inputs, under sanitizers: what a fuzzer builds on is right, and this takes no
fuzzer."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lane.native.fuzz import run
from tests.tools import needed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("native")

COMPILER = """#!/bin/sh
for word; do :; done
printf '#!/bin/sh\\necho "$0" "$@"\\n' >"$word"
chmod +x "$word"
"""
"""A compiler whose programs print their arguments."""


@pytest.mark.parametrize("target", run.TARGETS)
def test_seeds(target: str, tmp_path: Path) -> None:
    """Every kernel on buffers of just the input's size, with AddressSanitizer watching."""
    needed("cc", "gcc")
    files = run.write_seeds(target, tmp_path / "seeds")
    program = run.replayer(target, tmp_path)
    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{len(files)} inputs scalar")


def test_seeds_in_32_bits(tmp_path: Path) -> None:
    """Where a size has 32 bits, a frame that claims 4 GiB has the pump reckon with none that wrapped around."""
    compiler = needed("cc", "gcc")
    files = run.write_seeds("pump", tmp_path / "seeds")
    try:
        program = run.replayer("pump", tmp_path, compiler, *run.IN_32_BITS)
    except subprocess.CalledProcessError:
        pytest.skip("this compiler makes no programs of 32 bits: apt-get install gcc-multilib, on x86")
    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


def test_a_seed_and_a_number_of_runs_repeat_a_run(tmp_path: Path) -> None:
    """Without a seed each run draws another one, and says which."""
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)

    def limits(*words: str) -> list[list[str]]:
        command = [sys.executable, "-m", "tests.lane.native.fuzz.run", "--compiler", str(compiler)]
        command += ["--corpus", str(tmp_path), *words, "pump", "utf8"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        (seed,) = set(re.findall(r"--seed (\d+)$", done.stdout, re.MULTILINE))
        assert done.stdout.count(f"-seed={seed} ") == 2
        return [re.findall(r"-(?:seed|runs)=\d+", line) for line in done.stdout.splitlines() if "-max_len" in line]

    assert limits("--seed", "7", "--runs", "100000") == [["-seed=7", "-runs=4000"], ["-seed=7", "-runs=100000"]]
    (drawn, _), (others, _) = limits(), limits()
    assert len(drawn) == 1
    assert drawn != others
