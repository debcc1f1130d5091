"""Runs lines of the README and of docs/ unchanged.

Knows that the lines are for a shell, in a checkout where `make` has created .venv, with a daemon on port 8080. Must
never know what the lines print.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ADDRESS = "127.0.0.1:8080"


def prepare(folder: Path) -> None:
    """Make `.venv` in `folder` a link to the virtual environment of the tests, so that lines that name `.venv` can run
    in `folder`."""
    (folder / ".venv").symlink_to(sys.prefix)


def run_line(line: str, folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run a shell line in a prepared folder. Only the port is replaced, because 8080 may be in use."""
    assert line.count(ADDRESS) == 1
    # Run without an HTTP proxy, and not in the tests' own locale, which may differ from a terminal's.
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        ["sh", "-c", line.replace(ADDRESS, f"127.0.0.1:{port}")],
        cwd=folder,
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
