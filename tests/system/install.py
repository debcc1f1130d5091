"""echod installed in a system, by the lines of the README's section on deploying.

Knows how that section is written. Must never know better than it how to install.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import nspawn

ROOT = Path(__file__).parents[2]

BUILD_DEADLINE = 1200
"""Seconds for the wheels, with echod's compiled."""


def lines() -> list[str]:
    """Return the commands of the README's section."""
    _, _, rest = (ROOT / "README.md").read_text().partition("\n## Deploying\n")
    return re.findall(r"^    (.*)$", rest.partition("\n## ")[0], re.MULTILINE)


def install(root: Path, folder: Path) -> None:
    """Run the README's lines up to where systemd is told: the first one here, the others in the system at `root`."""
    version = nspawn.python_version(root)
    if version != sys.version_info[:2]:
        pytest.fail(f"the system has Python {version[0]}.{version[1]}, for which wheels can't be built with another: take that")
    build, *others, reload, _, _ = lines()
    assert reload.startswith("systemctl ")
    assert build.startswith("python3 -m pip wheel --wheel-dir wheels ")
    here = [sys.executable, *build.replace("--wheel-dir wheels", f"--wheel-dir {folder}/wheels").split()[1:]]
    done = subprocess.run(here, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    script = "\n".join(["set -e", "cd /mnt", *others])
    nspawn.run(root, script, {folder / "wheels": "/mnt/wheels", ROOT / "etc": "/mnt/etc"})
