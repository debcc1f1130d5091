"""The fuzz targets over their first inputs, under sanitizers: what a fuzzer builds on is right, and this takes no
fuzzer."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lane.native.fuzz import run
from tests.tools import needed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("native")


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
