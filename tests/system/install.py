"""Installs echod in a system, by the lines of docs/operating.md.

Knows the form of that section. Must never replace its knowledge of how to install.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.system import nspawn

ROOT = Path(__file__).parents[2]

NOT_OF_A_CHECKOUT = (".*", "build", "dist", "reports", "node_modules", "__pycache__", "*.so")
"""Patterns of files that are created in a checkout, and that its copy leaves out."""

BUILD_DEADLINE = 1200
"""Time limit in seconds for building the wheels, including echod's own."""


def lines() -> list[str]:
    """Return the commands of the section on installing."""
    _, _, rest = (ROOT / "docs" / "operating.md").read_text().partition("\n## Install\n")
    return re.findall(r"^    (.*)$", rest.partition("\n### ")[0], re.MULTILINE)


def install(root: Path, folder: Path) -> None:
    """Run these lines up to those about systemd. Two of them run here, in a copy of the checkout; the others run
    in the system at `root`.

    The `python3` here is the Python of this Debian, like that of the system, and no other one on the PATH.
    """
    make, build, *others, reload, _, _ = lines()
    assert (make[:8], build[:6], reload[:10]) == ("python3 ", ".venv/", "systemctl ")
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*NOT_OF_A_CHECKOUT))
    done = subprocess.run(
        ["sh", "-c", f"set -e\n{make}\n{build}"],
        cwd=checkout,
        env={**os.environ, "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=BUILD_DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    script = "\n".join(["set -e", "cd /mnt", *others])
    nspawn.run(root, script, {checkout / "wheels": "/mnt/wheels", checkout / "etc": "/mnt/etc"})
