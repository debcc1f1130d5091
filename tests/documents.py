"""Lines of the README and of docs/, run as they stand.

Knows that they are for a shell, in a checkout where `make` has made .venv, beside a daemon on port 8080. Must never
know what they print.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ADDRESS = "127.0.0.1:8080"


def prepare(folder: Path) -> None:
    """Have `.venv` in `folder` be the virtual environment that the tests run in, so that the lines that name it can be
    run there."""
    (folder / ".venv").symlink_to(sys.prefix)


def run_line(line: str, folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run a line for a shell in a folder that is prepared; only the port, which may be in use, is another."""
    assert line.count(ADDRESS) == 1
    # Without a proxy for HTTP, and not in the locale where the tests run, which need not be a terminal's.
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
