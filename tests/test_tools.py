"""What is told of tests that are skipped: the reason, with how to get what is missing, in one line for all that have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_reason_to_skip_is_told_once() -> None:
    command = [sys.executable, "-m", "pytest", "--quiet", "tests/native/test_load.py", "tests/native/test_unmask.py"]
    environment = {**os.environ, "ECHOD_NATIVE": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    (told,) = re.findall(r"^SKIPPED.*", done.stdout, re.MULTILINE)
    (count,) = re.findall(r"([0-9]+) skipped", done.stdout)
    assert told.startswith(f"SKIPPED [{count}] tests: no express lane ")
    assert "apt-get install gcc python3-dev" in told
