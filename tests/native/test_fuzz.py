"""The fuzz targets over their first inputs, under sanitizers: what a fuzzer builds on is right, and this takes no fuzzer."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.native.fuzz import run
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
